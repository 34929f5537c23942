"""The seccomp program, run by a small BPF machine: both architectures on any machine.

Call numbers stand here a second time, copied from the kernel's headers (asm/unistd_64.h for x86_64,
asm-generic/unistd.h for aarch64), not from the module.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from telecine.engine import sandbox
from telecine.engine.sandbox import Instruction, launcher_argv, seccomp_filter

X86, ARM = 0xC000003E, 0xC00000B7  # linux/audit.h: AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64
ALLOW, EPERM, ENOSYS, KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000  # linux/seccomp.h
PID = 4321


def judge(program: list[Instruction], arch: int, number: int, *arguments: int) -> int:
    """What the kernel would answer: classic BPF over struct seccomp_data."""
    words = {0: number, 4: arch}
    for position, argument in enumerate(arguments):
        words[16 + 8 * position] = argument & 0xFFFFFFFF
        words[20 + 8 * position] = argument >> 32
    accumulator = at = 0
    while True:
        code, jt, jf, k = program[at]
        at += 1
        if code == 0x20:  # BPF_LD | BPF_W | BPF_ABS
            accumulator = words.get(k, 0)
        elif code == 0x06:  # BPF_RET | BPF_K
            return k
        else:
            taken = {0x15: accumulator == k, 0x25: accumulator > k, 0x45: accumulator & k != 0}
            at += jt if taken[code] else jf


# name, x86_64, aarch64, arguments, answer
CASES: list[tuple[str, int | None, int | None, tuple[int, ...], int]] = [
    ("read", 0, 63, (), ALLOW),
    ("write", 1, 64, (), ALLOW),
    ("mmap", 9, 222, (), ALLOW),
    ("futex", 202, 98, (), ALLOW),
    ("execve", 59, 221, (), ALLOW),
    ("exit_group", 231, 94, (), ALLOW),
    ("sched_getaffinity", 204, 123, (), ALLOW),
    ("getrandom", 318, 278, (), ALLOW),
    ("rseq", 334, 293, (), ALLOW),
    ("close_range", 436, 436, (), ALLOW),
    ("socket", 41, 198, (2, 1, 0), EPERM),
    ("socketpair", 53, 199, (1, 1, 0), EPERM),
    ("fork", 57, None, (), EPERM),
    ("vfork", 58, None, (), EPERM),
    ("clone: fork", 56, 220, (17,), EPERM),
    ("clone: pthread_create", 56, 220, (0x3D0F00,), ALLOW),
    ("clone3", 435, 435, (), ENOSYS),
    ("execveat", 322, 281, (), EPERM),
    ("ptrace", 101, 117, (16, 1), EPERM),
    ("process_vm_readv", 310, 270, (), EPERM),
    ("process_vm_writev", 311, 271, (), EPERM),
    ("pidfd_getfd", 438, 438, (), EPERM),
    ("pidfd_send_signal", 424, 424, (), EPERM),
    ("kill: itself", 62, 129, (PID, 6), ALLOW),
    ("kill: another", 62, 129, (PID - 1, 9), EPERM),
    ("kill: all", 62, 129, (0xFFFFFFFFFFFFFFFF, 9), EPERM),
    ("tgkill: abort", 234, 131, (PID, PID, 6), ALLOW),
    ("tgkill: another", 234, 131, (1, 1, 9), EPERM),
    ("tkill", 200, 130, (PID, 9), EPERM),
    ("prlimit64: itself", 302, 261, (0, 7), ALLOW),
    ("prlimit64: by number", 302, 261, (PID, 7), ALLOW),
    ("prlimit64: another", 302, 261, (1, 7), EPERM),
    ("prctl: PR_SET_NAME", 157, 167, (15,), ALLOW),
    ("prctl: PR_SET_PDEATHSIG", 157, 167, (1, 0), EPERM),
    ("prctl: high half", 157, 167, (1 | 1 << 32, 0), EPERM),
    ("ioctl: FIONREAD", 16, 29, (0, 0x541B), ALLOW),
    ("ioctl: TIOCSTI", 16, 29, (0, 0x5412), EPERM),
    ("ioctl: TIOCSTI, high half", 16, 29, (0, 0x5412 | 1 << 32), EPERM),
    ("ioctl: TIOCLINUX", 16, 29, (0, 0x541C), EPERM),
    ("ioctl: TIOCSCTTY", 16, 29, (0, 0x540E), EPERM),
    ("mount", 165, 40, (), EPERM),
    ("move_mount", 429, 429, (), EPERM),
    ("unshare", 272, 97, (0x10000000,), EPERM),
    ("setns", 308, 268, (), EPERM),
    ("chroot", 161, 51, (), EPERM),
    ("pivot_root", 155, 41, (), EPERM),
    ("bpf", 321, 280, (), EPERM),
    ("userfaultfd", 323, 282, (), EPERM),
    ("perf_event_open", 298, 241, (), EPERM),
    ("io_uring_setup", 425, 425, (), EPERM),
    ("keyctl", 250, 219, (), EPERM),
    ("add_key", 248, 217, (), EPERM),
    ("kexec_load", 246, 104, (), EPERM),
    ("init_module", 175, 105, (), EPERM),
    ("finit_module", 313, 273, (), EPERM),
    ("mknod", 133, None, (), EPERM),
    ("mknodat", 259, 33, (), EPERM),
    ("symlinkat", 266, 36, (), EPERM),
    ("linkat", 265, 37, (), EPERM),
    ("fchmodat", 268, 53, (), EPERM),
    ("fchownat", 260, 54, (), EPERM),
    ("open_by_handle_at", 304, 265, (), EPERM),
    ("setuid", 105, 146, (), EPERM),
    ("capset", 126, 91, (), EPERM),
    ("setsid", 112, 157, (), EPERM),
    ("shmget", 29, 194, (), EPERM),
    ("mq_open", 240, 180, (), EPERM),
    ("openat2", 437, 437, (), ENOSYS),
    ("mseal", 462, 462, (), ALLOW),
    ("a call of tomorrow", 463, 463, (), ENOSYS),
    ("x32: read", 0x40000000, None, (), ENOSYS),
    ("no call", 0xFFFFFFFF, 0xFFFFFFFF, (), ENOSYS),
]
AT_FDCWD = 0xFFFFFF9C
O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_CLOEXEC = 1, 2, 0o100, 0o1000, 0o2000000
# name, x86_64, aarch64, arguments: refused without a writable folder, else allowed
WRITING: list[tuple[str, int | None, int, tuple[int, ...]]] = [
    ("openat: write", 257, 56, (AT_FDCWD, 0, O_WRONLY)),
    ("openat: read and write", 257, 56, (AT_FDCWD, 0, O_RDWR | O_CLOEXEC)),
    ("openat: truncate", 257, 56, (AT_FDCWD, 0, O_TRUNC)),
    ("openat: create", 257, 56, (AT_FDCWD, 0, O_CREAT)),
    ("renameat2", 316, 276, ()),
    ("unlinkat", 263, 35, ()),
    ("mkdirat", 258, 34, ()),
]


@pytest.mark.parametrize("writes", [True, False])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_answer(
    case: tuple[str, int | None, int | None, tuple[int, ...], int], writes: bool
) -> None:
    _, on_x86, on_arm, arguments, answer = case
    for machine, arch, number in (("x86_64", X86, on_x86), ("aarch64", ARM, on_arm)):
        if number is not None:
            program = seccomp_filter(machine, PID, writes=writes)
            assert judge(program, arch, number, *arguments) == answer


@pytest.mark.parametrize("case", WRITING, ids=lambda case: case[0])
def test_nothing_is_opened_for_writing_without_a_folder(
    case: tuple[str, int | None, int, tuple[int, ...]],
) -> None:
    _, on_x86, on_arm, arguments = case
    for machine, arch, number in (("x86_64", X86, on_x86), ("aarch64", ARM, on_arm)):
        assert number is not None
        for writes, answer in ((True, ALLOW), (False, EPERM)):
            program = seccomp_filter(machine, PID, writes=writes)
            assert judge(program, arch, number, *arguments) == answer
            # reading stays open: openat with O_CLOEXEC
            reading = judge(program, arch, 257 if arch == X86 else 56, AT_FDCWD, 0, O_CLOEXEC)
            assert reading == ALLOW


def test_x86_open_and_creat_write_nothing_without_a_folder() -> None:
    program = seccomp_filter("x86_64", PID, writes=False)
    assert judge(program, X86, 2, 0, O_WRONLY) == EPERM
    assert judge(program, X86, 2, 0, O_CLOEXEC) == ALLOW
    assert judge(program, X86, 85) == EPERM


def test_another_architecture_is_killed() -> None:
    i386 = 0x40000003
    for machine in ("x86_64", "aarch64"):
        program = seccomp_filter(machine, PID, writes=True)
        assert judge(program, i386, 102) == KILL  # socketcall
    assert judge(seccomp_filter("x86_64", PID, writes=True), ARM, 63) == KILL


def test_the_program_fits_the_kernel() -> None:
    for machine in ("x86_64", "aarch64"):
        program = seccomp_filter(machine, PID, writes=False)
        assert len(program) < 4096  # BPF_MAXINSNS
        assert all(max(jt, jf) < 256 for _, jt, jf, _ in program)


@pytest.mark.parametrize("abi", range(1, 8))
def test_older_landlock_confines_files_too(abi: int) -> None:
    """The rules for each ABI, on a kernel that may know a later one."""
    script = "import sys; sys.path.insert(0, sys.argv[1])\n"
    script += "from telecine.engine import sandbox as s\n"
    script += "real = s._Kernel().landlock_abi()\n"
    script += f"s._Kernel.landlock_abi = lambda self: min(real, {abi})\n"
    script += "sys.exit(s.main(['landlock', '--self-test']) if real else 0)"
    source = str(Path(sandbox.__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", script, source], capture_output=True, check=True)
    if done.stdout:
        assert b"read,write allowed=\n" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["attic"], "unknown tier attic"),
        (["none", "--wirte=/x", "--self-test"], "unknown argument --wirte=/x"),
        (["none", "--write=/nowhere", "--self-test"], "No such file"),
        (["none", "--limit=RLIMIT_AS=much", "--self-test"], "invalid literal"),
    ],
)
def test_a_wrong_order_is_not_carried_out(arguments: list[str], says: str) -> None:
    command = [sys.executable, "-I", "-S", sandbox.__file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith("sandbox launcher: ")
    assert says in done.stderr


def test_nothing_is_run_when_the_parent_has_died_meanwhile(tmp_path: Path) -> None:
    """Before PDEATHSIG was set: then only the pipe on standard error tells, its reader is gone."""
    python = os.path.realpath(sys.executable)
    program = [python, python, "-I", "-S", "-c", "open('ran', 'w')"]
    launch = [python, "-I", "-S", sandbox.__file__, "none", f"--write={tmp_path}", "--", *program]
    for parent_lives in (False, True):
        reader, writer = os.pipe()
        if not parent_lives:
            os.close(reader)
        code = subprocess.run(launch, stderr=writer, check=False).returncode
        os.close(writer)
        if parent_lives:
            os.close(reader)
        assert (tmp_path / "ran").exists() == parent_lives
        assert (code == 0) == parent_lives


def test_the_launcher_imports_nothing_that_is_slow() -> None:
    """What is loaded before the program is, each of them a part of a millisecond for every child;
    and its bytes fit into the one read that fetches them."""
    program = sandbox.launcher_program()
    assert len(program) < 1 << 18
    script = "import marshal, posix, sys; before = set(sys.modules)\n"
    script += "code = marshal.loads(posix.pread(0, 1 << 20, 0))\n"
    script += "exec(code, {'__name__': 'launcher'})\n"
    script += "print(*sorted(set(sys.modules) - before))"
    with tempfile.TemporaryFile() as file:
        file.write(program)
        file.flush()
        command = [sys.executable, "-I", "-S", "-c", script]
        said = subprocess.run(command, stdin=file, stdout=subprocess.PIPE, text=True, check=True)
    assert said.stdout.split() == ["__future__", "_ctypes"]


def test_bubblewrap_mounts_what_is_named_and_writes_where_it_may(tmp_path: Path) -> None:
    inside = tmp_path / "out" / "input"
    inside.parent.mkdir()
    inside.write_text("x")
    command = launcher_argv(
        "bwrap",
        "/usr/bin/true",
        ["true"],
        python="/usr/bin/python3",
        read=[str(inside)],
        runtime=["/nowhere"],
        write=str(inside.parent),
        limits={},
        fds=[],
        bwrap="/usr/bin/bwrap",
    )
    mounts = command[: command.index("--")]
    writable = mounts.index("--bind")
    assert mounts[writable : writable + 3] == ["--bind", str(inside.parent), str(inside.parent)]
    assert mounts.index(str(inside)) > writable  # read-only again, on top
    assert mounts[mounts.index(str(inside)) - 1] == "--ro-bind"
    assert "/nowhere" not in mounts
    assert "--unshare-net" in mounts
