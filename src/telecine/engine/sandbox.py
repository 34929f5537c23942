"""The launcher: shuts a program into a tier of the sandbox, then becomes that program.

This file is two things. Run as a program (by `engine.process` only, with the command line of
`launcher_argv`) it limits itself and then `exec`s PROGRAM. Imported, it says which tiers there are,
how such a command line is built, and which input flags FFmpeg gets.

Every child pays for the program's start, so it imports next to nothing. An empty interpreter that
`exec`s costs 5.8 ms of CPU; `os` would add 0.8, `ctypes` 2.6 (its core `_ctypes` 0.6), `select` and
`resource` 0.3 each, compiling this file 4.5.

Tiers, strongest first (docs/explain/sandbox.md):

    bwrap      own mount, network and IPC namespaces by bubblewrap; then all of `landlock`
    landlock   Landlock: only the named files; then all of `seccomp`
    seccomp    no sockets, no processes, no signals to others, no foreign files changed; rlimits
    none       rlimits, PDEATHSIG, closed descriptors, no new privileges

Rules of the kernel: landlock(7), seccomp(2), capabilities(7), prctl(2).
"""

# pathlib would double the start-up time; `os` is imported by the functions that the parent calls.
# ruff: noqa: PTH110, PTH114, PTH115, PTH120

from __future__ import annotations

import _ctypes
import marshal
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Literal

    Tier = Literal["bwrap", "landlock", "seccomp", "none"]

TIERS: tuple[Tier, ...] = ("bwrap", "landlock", "seccomp", "none")
CONFINES_FILES: tuple[Tier, ...] = ("bwrap", "landlock")

# All that a program finds in its environment. Each malloc arena reserves 64 MiB of address space,
# which RLIMIT_AS counts, and there is one a thread: with 4, encoders are no slower.
ENVIRONMENT = {"LC_ALL": "C", "MALLOC_ARENA_MAX": "4"}

REFUSED_EXIT = 125  # the launcher could not apply the tier (or exec): the program never ran
REFUSED_MARK = "sandbox launcher: "

REQUEST_FD, ANSWER_FD = 3, 4  # where a child that lives long reads and writes: `process.start`

# ---- what FFmpeg may open ------------------------------------------------------------------------

# Demuxers that read one file and nothing else. Never here: those that follow names found in the
# file or take other things than a file for input (hls, dash, concat, imf, sdp, rtsp, rtp, sap,
# lavfi, image2 and its patterns, webm_dash_manifest, vobsub, dvdvideo, avisynth), nor raw formats
# that accept any bytes at all (rawvideo, data, pcm).
DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2",
    "matroska,webm",
    *("avi", "mpegts", "mpeg", "flv", "mxf", "gxf", "rm", "ivr", "asf", "asf_o", "ogg", "nut"),
    *("nuv", "wtv", "dv", "nsv", "yuv4mpegpipe", "ivf", "av1", "obu", "h264", "hevc", "vvc"),
    *("m4v", "mpegvideo", "h261", "h263", "mjpeg", "vc1", "dirac", "dnxhd", "cavsvideo"),
    *("gif", "apng", "webp_anim"),  # animations are video; still pictures are not for this engine
    *("mp3", "wav", "w64", "aiff", "au", "caf", "flac", "aac", "loas", "ac3", "ac4", "eac3", "dts"),
    *("dtshd", "truehd", "mlp", "tta", "tak", "ape", "wv", "mpc", "mpc8", "shn", "amr", "amrnb"),
    *("amrwb", "oma", "aa", "voc", "dsf", "iff", "xwma", "spdif", "iamf"),
)
MAX_PIXELS = 8192 * 8192  # of one picture; the largest real one of the media corpus is 7680×4320
MAX_STREAMS = 128
MAX_ALLOC_BYTES = 1 << 30  # one allocation: an 8K picture of 16-bit 4:4:4:4 is 265 MB


def global_flags() -> tuple[str, ...]:
    """FFmpeg's global flags that belong to every command which reads an untrusted file."""
    return (
        "-nostdin",  # standard input is /dev/null; never ask
        "-hide_banner",
        *("-max_alloc", str(MAX_ALLOC_BYTES)),  # a lying header cannot ask for the whole memory
    )


def input_flags(
    max_pixels: int = MAX_PIXELS, demuxers: Sequence[str] = DEMUXERS
) -> tuple[str, ...]:
    """FFmpeg's input flags, to be put before each untrusted `-i file:…`."""
    return (
        *("-protocol_whitelist", "file"),  # the source cannot make FFmpeg open a URL
        *("-format_whitelist", ",".join(demuxers)),  # nor a playlist that names other files
        *("-max_streams", str(MAX_STREAMS)),  # a table of a million streams is refused
        *("-max_pixels", str(max_pixels)),  # a 320-byte GIF cannot claim 16000²
    )


# ---- command lines -------------------------------------------------------------------------------

# What a dynamically linked program reads before `main`: libraries, the loader's cache, Debian's
# links to alternatives. System software, no one's data.
LIBRARIES = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")
# Counting CPUs and memory (libgomp, x265, SVT-AV1), random numbers, and nowhere.
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
MACHINE = ("/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu")
# The kernel maps the ELF interpreter with the right to execute.
LOADERS = (
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/ld-musl-aarch64.so.1",
)


# pread: the descriptor's position is no one's concern. `__name__` is "__main__" in there.
_BOOT = "import marshal, posix; exec(marshal.loads(posix.pread(0, 1 << 18, 0)))"


def launcher_argv(
    tier: Tier,
    program: str,
    argv: Sequence[str],
    *,
    python: str,
    read: Sequence[str],
    runtime: Sequence[str],
    write: str | None,
    limits: Mapping[str, int],
    fds: Iterable[int],
    bwrap: str | None,
) -> list[str]:
    """The command line that runs `argv` in `tier`. All paths absolute and free of symbolic links.

    `read` must exist; `runtime` (what the program itself needs) is granted where it exists. `fds`
    are the descriptors beside 0, 1 and 2 that stay open. With `argv` empty the launcher tests
    itself instead: see `self_test`. The program is read from standard input: `launcher_program`.
    """
    command = [python, "-I", "-S", "-c", _BOOT, tier]
    command += [f"--read={path}" for path in read]
    command += [f"--runtime={path}" for path in runtime]
    if write is not None:
        command.append(f"--write={write}")
    command += [f"--limit={name}={value}" for name, value in limits.items()]
    command += [f"--fd={fd}" for fd in fds]
    command += ["--", program, *argv] if argv else ["--self-test"]
    if tier != "bwrap":
        return command
    if bwrap is None:
        raise ValueError("the bwrap tier needs bubblewrap")
    own = (python, *_libraries_of(python))
    return [bwrap, *_bwrap_flags((*read, *runtime, program, *own), write), "--", *command]


def launcher_program() -> bytes:
    """This file, compiled: what the launcher's standard input, a regular file, has to hold.

    Handed over, because a program that is run by its name is compiled anew at each start, and there
    may be no writable place, or no wish (PYTHONDONTWRITEBYTECODE), for a compiled file.
    """
    assert __spec__ is not None
    return marshal.dumps(__spec__.loader.get_code(__spec__.name))  # type: ignore[union-attr]


def _bwrap_flags(read: Iterable[str], write: str | None) -> list[str]:
    """Namespaces and mounts.

    As root without a user namespace: in one, files of other users could not be read. Without a PID
    namespace: with one, bubblewrap does not wait for the program and its CPU time would be lost;
    there is no /proc to see others in, and seccomp and Landlock refuse signals to them.
    """
    import os

    flags = ["--die-with-parent", "--unshare-ipc", "--unshare-net"]
    flags += ["--unshare-uts", "--unshare-cgroup-try"]
    mounts = dict.fromkeys((*LIBRARIES, *MACHINE, *read), "--ro-bind")
    mounts |= dict.fromkeys(DEVICES, "--dev-bind")
    if write is not None and write not in read:
        mounts[write] = "--bind"
    for path in sorted(mounts):  # a folder comes before what lies in it
        if os.path.islink(path):
            flags += ["--symlink", os.readlink(path), path]
        elif os.path.exists(path):
            flags += [mounts[path], path, path]
    return flags


def _libraries_of(program: str) -> tuple[str, ...]:
    """`…/lib` beside `…/bin/program`: where programs outside /usr keep their own libraries."""
    import os

    home, folder = os.path.split(os.path.dirname(program))
    return (f"{home}/lib", f"{home}/lib64") if folder == "bin" else ()


def runtime_paths(program: str) -> tuple[str, ...]:
    """What `program` (absolute, links resolved) itself needs to read, beside the system's own."""
    return (program, *_libraries_of(program))


# ---- the kernel's side ---------------------------------------------------------------------------

_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 24, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2
_SIGKILL, _SIGPIPE, _SIGXFSZ = 9, 13, 25
_POLLERR = 8
_LIMITS = {"RLIMIT_CPU": 0, "RLIMIT_FSIZE": 1, "RLIMIT_CORE": 4, "RLIMIT_NOFILE": 7, "RLIMIT_AS": 9}
_EPERM, _ENOSYS = 1, 38
_CLONE_THREAD, _CLONE_NEWUSER = 0x10000, 0x10000000

# Landlock's file rights by ABI (linux/landlock.h); every right the kernel knows is withheld.
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << i for i in range(6))
_MAKE_DIR, _MAKE_REG, _REFER, _TRUNCATE, _IOCTL_DEV = 1 << 7, 1 << 8, 1 << 13, 1 << 14, 1 << 15
_FS_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_FS_RIGHTS_NOW = (1 << 16) - 1
_NET_RIGHTS = 3  # bind and connect TCP
_SCOPES = 3  # abstract UNIX sockets and signals
_READ = _READ_FILE | _READ_DIR
# In the one writable folder: files and folders, never devices, sockets, pipes or links. (As root
# without this, mknod gave the disk. A link left behind would be followed by whoever reads there.)
_WRITE = _READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER
_WRITE |= _TRUNCATE
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV

# System call numbers for each of _MACHINES; None where it has no such call.
_MACHINES = ("x86_64", "aarch64")
_CAPGET, _SECCOMP = (125, 90), (317, 277)
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CALLS: dict[str, tuple[int | None, int | None]] = {
    # network; descriptors of sockets cannot come from elsewhere, all others are closed
    "socket": (41, 198), "socketpair": (53, 199),
    # processes: threads only (see `seccomp_filter` for those that are refused by argument)
    "fork": (57, None), "vfork": (58, None), "clone": (56, 220), "clone3": (435, 435),
    "execveat": (322, 281), "setsid": (112, 157), "setpgid": (109, 154), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424), "kill": (62, 129),
    "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "prlimit64": (302, 261), "prctl": (157, 167),
    "setpriority": (141, 140), "sched_setscheduler": (144, 119), "sched_setparam": (142, 118),
    "sched_setattr": (314, 274), "ioprio_set": (251, 30), "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # other identities
    "setuid": (105, 146), "setgid": (106, 144), "setreuid": (113, 145), "setregid": (114, 143),
    "setresuid": (117, 147), "setresgid": (119, 149), "setfsuid": (122, 151),
    "setfsgid": (123, 152), "setgroups": (116, 159), "capset": (126, 91),
    # mounts and namespaces
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "unshare": (272, 97), "setns": (308, 268),
    # wide doors into the kernel
    "bpf": (321, 280), "userfaultfd": (323, 282), "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "quotactl": (179, 60),
    "quotactl_fd": (443, 443), "syslog": (103, 116), "iopl": (172, None), "ioperm": (173, None),
    "modify_ldt": (154, None), "personality": (135, 92), "vhangup": (153, 58),
    "fanotify_init": (300, 262), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "adjtimex": (159, 171), "clock_adjtime": (305, 266), "sethostname": (170, 161),
    "setdomainname": (171, 162),
    # the terminal: text typed into it for its user (see `seccomp_filter`)
    "ioctl": (16, 29),
    # memory and queues shared with other processes
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "msgget": (68, 186),
    "semget": (64, 190), "mq_open": (240, 180), "mq_unlink": (241, 181),
    # what Landlock does not govern: owners, modes, times; devices and links anywhere; handles
    "mknod": (133, None), "mknodat": (259, 33), "symlink": (88, None), "symlinkat": (266, 36),
    "link": (86, None), "linkat": (265, 37), "chmod": (90, None), "fchmod": (91, 52),
    "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None), "fchown": (93, 55),
    "lchown": (94, None), "fchownat": (260, 54), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15),
    "fremovexattr": (199, 16), "truncate": (76, 45), "utime": (132, None), "utimes": (235, None),
    "utimensat": (280, 88), "futimesat": (261, None), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "openat2": (437, 437),  # its flags lie in memory, where no filter can see them
}  # fmt: skip
# Refused where no folder is writable, whatever the tier: without Landlock nothing else keeps a
# program from its user's files, or from writing into /proc/<parent>/mem.
_WRITING_CALLS: dict[str, tuple[int | None, int | None]] = {
    "open": (2, None), "openat": (257, 56), "creat": (85, None), "rename": (82, None),
    "renameat": (264, 38), "renameat2": (316, 276), "unlink": (87, None), "unlinkat": (263, 35),
    "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None),
}  # fmt: skip
_NEWEST_CALL = 462  # mseal, Linux 6.10: what came later was not looked at and does not exist here

_O_WRITING = 0o1 | 0o2 | 0o100 | 0o1000  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC
_TTY_REQUESTS = (0x5412, 0x541C, 0x540E)  # TIOCSTI, TIOCLINUX, TIOCSCTTY

_LD_W_ABS, _JEQ_K, _JGT_K, _JSET_K, _RET_K = 0x20, 0x15, 0x25, 0x45, 0x06
_NR, _ARCH, _ARGUMENTS = 0, 4, 16  # struct seccomp_data; both architectures are little-endian
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
Instruction = tuple[int, int, int, int]  # struct sock_filter: code, jt, jf, k


def seccomp_filter(machine: str, pid: int, *, writes: bool) -> list[Instruction]:
    """The BPF program (pure): refuse what decoding and encoding never need.

    `pid` is the process's own: it may signal itself (`abort`) and no one else. Without `writes` no
    file is opened for writing. EPERM for what is refused, ENOSYS for clone3 (libc then takes clone,
    whose flags can be read) and for calls newer than this list; another architecture's calls (int
    0x80) kill.
    """
    deny: Instruction = (_RET_K, 0, 0, _ERRNO | _EPERM)
    absent: Instruction = (_RET_K, 0, 0, _ERRNO | _ENOSYS)
    allow: Instruction = (_RET_K, 0, 0, _ALLOW)

    def argument(position: int) -> Instruction:
        # The low half: the kernel takes flags, pids and requests as 32-bit numbers.
        return (_LD_W_ABS, 0, 0, _ARGUMENTS + 8 * position)

    def only(position: int, *values: int) -> list[Instruction]:
        tests = [(_JEQ_K, len(values) - i, 0, value) for i, value in enumerate(values)]
        return [argument(position), *tests, deny, allow]

    def all_but(position: int, *values: int) -> list[Instruction]:
        tests = [(_JEQ_K, len(values) - i, 0, value) for i, value in enumerate(values)]
        return [argument(position), *tests, allow, deny]

    def reading(position: int) -> list[Instruction]:
        return [argument(position), (_JSET_K, 1, 0, _O_WRITING), allow, deny]

    by_argument: dict[str, list[Instruction]] = {
        "clone": [argument(0), (_JSET_K, 1, 0, _CLONE_THREAD), deny, allow],
        "clone3": [absent],
        "openat2": [absent],
        "kill": only(0, pid),
        "tgkill": only(0, pid),
        # 0 is the caller; else the parent's limits could be lowered, which kills it
        "prlimit64": only(0, 0, pid),
        # the order to die with the parent cannot be taken back
        "prctl": all_but(0, _PR_SET_PDEATHSIG),
        "ioctl": all_but(1, *_TTY_REQUESTS),
        "open": reading(1),
        "openat": reading(2),
    }
    program: list[Instruction] = [
        (_LD_W_ABS, 0, 0, _ARCH),
        (_JEQ_K, 1, 0, _AUDIT_ARCH[machine]),
        (_RET_K, 0, 0, _KILL_PROCESS),
        (_LD_W_ABS, 0, 0, _NR),
        (_JGT_K, 0, 1, _NEWEST_CALL),  # x32's numbers too
        absent,
    ]
    for name, numbers in (_CALLS if writes else _CALLS | _WRITING_CALLS).items():
        number = numbers[_MACHINES.index(machine)]
        if number is not None:
            body = by_argument.get(name, [deny])
            program += [(_JEQ_K, 0, len(body), number), *body]
    return [*program, allow]


class _Int(_ctypes._SimpleCData):  # type: ignore[type-arg]  # not subscriptable when it runs
    _type_ = "i"


class _Word(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "L"


class _Byte(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "c"


class _Function(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = _Int


class _Kernel:
    """Calls that Python has no name for, or none that is quick to import. Errors are OSError.

    Arguments are numbers (of any width: both architectures pass them in registers), bytes to be
    read, arrays of `_Byte` to be written, None for NULL.
    """

    def __init__(self) -> None:
        self._libc = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]  # None: this program
        self._functions: dict[str, _Function] = {}
        self.machine = posix.uname().machine

    def number(self, numbers: tuple[int | None, int | None]) -> int:
        if self.machine not in _MACHINES:
            raise OSError(_ENOSYS, f"no system call numbers for {self.machine}")
        number = numbers[_MACHINES.index(self.machine)]
        if number is None:
            raise OSError(_ENOSYS, f"no such system call on {self.machine}")
        return number

    def libc(self, name: str, *arguments: int | bytes | _ctypes.Array[_Byte] | None) -> int:
        function = self._functions.get(name)
        if function is None:
            function = self._functions[name] = _Function(_ctypes.dlsym(self._libc, name))
        words = [_Word(value) if isinstance(value, int) else value for value in arguments]
        result: int = function(*words)
        if result == -1:
            errno = _ctypes.get_errno()
            raise OSError(errno, posix.strerror(errno))
        return result

    def call(self, number: int, *arguments: int | bytes | _ctypes.Array[_Byte] | None) -> int:
        return self.libc("syscall", number, *arguments)

    def named(self, name: str, *arguments: int) -> int:
        return self.call(self.number(_CALLS[name]), *arguments)

    def prctl(self, option: int, *arguments: int) -> int:
        return self.libc("prctl", option, *arguments, *[0] * (4 - len(arguments)))

    def default_signals(self) -> None:
        """Python ignores these two and exec would hand that on."""
        self.libc("signal", _SIGPIPE, None)
        self.libc("signal", _SIGXFSZ, None)

    def limit(self, resource: int, amount: int) -> None:
        """Lower a limit to `amount`, at most to what it is already."""
        pair = (_Byte * 16)()  # struct rlimit: soft and hard, 64 bits each
        self.libc("getrlimit", resource, pair)
        hard = int.from_bytes(bytes(pair)[8:], "little")  # RLIM_INFINITY is the largest number
        soft = min(amount, hard)
        # CPU: SIGXCPU says why, SIGKILL follows a second later for those who catch it
        above = soft + 1 if resource == _LIMITS["RLIMIT_CPU"] and soft != hard else soft
        self.libc("setrlimit", resource, soft.to_bytes(8, "little") + above.to_bytes(8, "little"))

    def landlock_abi(self) -> int:
        try:
            return self.call(444, None, 0, 1)
        except OSError:
            return 0


def _apply_landlock(kernel: _Kernel, abi: int, rights: Iterable[tuple[str, int, bool]]) -> None:
    """Withhold every right except `rights`: (path, access, must it exist)."""
    handled = _FS_RIGHTS.get(abi, _FS_RIGHTS_NOW)
    words = [handled]
    if abi >= 4:
        words.append(_NET_RIGHTS)
    if abi >= 6:
        words.append(_SCOPES)
    attribute = b"".join(word.to_bytes(8, "little") for word in words)
    ruleset = kernel.call(444, attribute, len(attribute), 0)
    for path, access, must_exist in rights:
        try:
            fd = posix.open(path, posix.O_PATH | posix.O_CLOEXEC)
        except FileNotFoundError:
            if must_exist:
                raise
            continue
        folder = posix.fstat(fd).st_mode & 0o170000 == 0o040000
        allowed = access & handled & (-1 if folder else _ON_FILES)
        rule = allowed.to_bytes(8, "little") + fd.to_bytes(4, "little")
        kernel.call(445, ruleset, 1, rule, 0)
        posix.close(fd)
    kernel.call(446, ruleset, 0)
    posix.close(ruleset)


def _permitted_capabilities(kernel: _Kernel) -> int:
    header = (0x20080522).to_bytes(4, "little") + bytes(4)
    buffer = (_Byte * 24)()  # low words of effective, permitted, inheritable; high
    kernel.call(kernel.number(_CAPGET), header, buffer)
    data = bytes(buffer)
    return int.from_bytes(data[4:8], "little") | int.from_bytes(data[16:20], "little") << 32


def _set_capabilities(kernel: _Kernel, effective: int, permitted: int) -> None:
    header = (0x20080522).to_bytes(4, "little") + bytes(4)
    low = [effective & 0xFFFFFFFF, permitted & 0xFFFFFFFF, 0]
    high = [effective >> 32, permitted >> 32, 0]
    data = b"".join(word.to_bytes(4, "little") for word in low + high)
    kernel.call(kernel.number(_CALLS["capset"]), header, data)


def _drop_capabilities(kernel: _Kernel, keep: int) -> None:
    """Give up every capability but `keep`, for good: also across exec as root."""
    for capability in range(64):
        if not keep >> capability & 1:
            try:
                kernel.prctl(_PR_CAPBSET_DROP, capability)
            except OSError:  # an ordinary user has none to drop; past the last one: EINVAL
                break
    try:
        kernel.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    except OSError:  # a kernel before 4.3 has no such set
        pass
    _set_capabilities(kernel, keep, keep)


def _root_needs(kernel: _Kernel, order: _Order) -> int:
    """The capabilities without which root cannot use the named files: none for its own, else those
    that pass over owners and modes. Only in tiers that bound them to the named paths."""
    permitted = _permitted_capabilities(kernel)
    if posix.geteuid() != 0 or not permitted:
        return 0
    _set_capabilities(kernel, 0, permitted)
    keep = 0
    if not all(posix.access(path, posix.R_OK, effective_ids=True) for path in order.needed()):
        keep |= 1 << _CAP_DAC_READ_SEARCH
    if order.write and not posix.access(order.write, posix.W_OK | posix.X_OK, effective_ids=True):
        keep |= 1 << _CAP_DAC_OVERRIDE | 1 << _CAP_DAC_READ_SEARCH
    _set_capabilities(kernel, permitted, permitted)
    return keep & permitted


def _apply_seccomp(kernel: _Kernel, writes: bool) -> None:
    filter_ = seccomp_filter(kernel.machine, posix.getpid(), writes=writes)
    code = b"".join(
        op.to_bytes(2, "little") + bytes((jt, jf)) + k.to_bytes(4, "little")
        for op, jt, jf, k in filter_
    )
    array = (_Byte * len(code)).from_buffer_copy(code)
    # struct sock_fprog: a 16-bit length and, where its own width allows, the address
    program = len(filter_).to_bytes(8, "little") + _ctypes.addressof(array).to_bytes(8, "little")
    # SECCOMP_SET_MODE_FILTER with FLAG_SPEC_ALLOW: before Linux 5.16 a filter turned on a
    # Spectre-v4 mitigation that slows encoders; there is no secret in this address space.
    kernel.call(kernel.number(_SECCOMP), 1, 4, program)


def _parent_is_gone(kernel: _Kernel) -> bool:
    """Our standard error is a pipe that only the parent reads: it broke if the parent died before
    PDEATHSIG was set. (getppid cannot tell inside a PID namespace.)"""
    pollfd = (_Byte * 8).from_buffer_copy((2).to_bytes(8, "little"))  # no events: errors are told
    kernel.libc("poll", pollfd, 1, 0)
    return bool(bytes(pollfd)[6] & _POLLERR)


class _Order:
    """The command line, read. See `launcher_argv`, which writes it."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.tier: Tier = arguments[0]  # type: ignore[assignment]  # checked where it is written
        self.read: list[str] = []
        self.runtime: list[str] = []
        self.write: str | None = None
        self.limits: dict[str, int] = {}
        self.fds = {0, 1, 2}
        self.self_test = False
        self.argv: list[str] = []
        for position, argument in enumerate(arguments[1:], start=2):
            name, _, value = argument.partition("=")
            if name == "--":
                self.argv = list(arguments[position:])
                break
            if name == "--read":
                self.read.append(value)
            elif name == "--runtime":
                self.runtime.append(value)
            elif name == "--write":
                self.write = value
            elif name == "--limit":
                limit, _, amount = value.partition("=")
                self.limits[limit] = int(amount)
            elif name == "--fd":
                self.fds.add(int(value))
            elif name == "--self-test":
                self.self_test = True
            else:
                raise ValueError(f"unknown argument {argument}")

    def needed(self) -> list[str]:
        """Paths without which the program cannot run."""
        return [*self.read, *self.argv[:1]]


def _confine(order: _Order, kernel: _Kernel) -> int:
    """Apply the tier to this very process. Returns Landlock's ABI, 0 where it is not used."""
    nowhere = posix.open("/dev/null", posix.O_RDONLY)
    posix.dup2(nowhere, 0)  # where the launcher itself came from
    posix.chdir(order.write or "/")
    kept = sorted(order.fds)
    for low, high in zip(kept, [*kept[1:], posix.sysconf("SC_OPEN_MAX")], strict=True):
        posix.closerange(low + 1, high)
    kernel.prctl(_PR_SET_NO_NEW_PRIVS, 1)
    abi = kernel.landlock_abi() if order.tier in CONFINES_FILES else 0
    if order.tier == "landlock" and abi == 0:
        raise OSError(_ENOSYS, "this kernel has no Landlock")
    if abi:
        rights = [(path, _READ, True) for path in order.read]
        rights += [(path, _READ, False) for path in (*order.runtime, *LIBRARIES, *MACHINE)]
        rights += [(path, _READ_FILE | _WRITE_FILE, False) for path in DEVICES]
        rights += [(path, _READ_FILE | _EXECUTE, False) for path in (*order.argv[:1], *LOADERS)]
        if order.write is not None:
            rights.append((order.write, _WRITE, True))
        _apply_landlock(kernel, abi, rights)
    if order.tier != "none":
        confined = order.tier in CONFINES_FILES
        _drop_capabilities(kernel, _root_needs(kernel, order) if confined else 0)
    kernel.prctl(_PR_SET_PDEATHSIG, _SIGKILL)  # after the capabilities: changing them clears it
    if _parent_is_gone(kernel):
        raise OSError(0, "the parent died")
    for name, amount in order.limits.items():
        kernel.limit(_LIMITS[name], amount)
    kernel.default_signals()
    if order.tier != "none":
        _apply_seccomp(kernel, writes=order.write is not None)
    return abi


# ---- the self-test -------------------------------------------------------------------------------


def _acts(kernel: _Kernel, tier: Tier) -> dict[str, Callable[[], object]]:
    """Forbidden acts: each raises OSError where it is refused, and does no harm where it is not."""

    def fork() -> None:
        child = posix.fork()
        if child == 0:
            posix._exit(0)
        posix.waitpid(child, 0)

    acts: dict[str, Callable[[], object]] = {
        "internet": lambda: kernel.named("socket", 2, 1, 0),
        "unix": lambda: kernel.named("socket", 1, 1, 0),
        "fork": fork,
        "signal": lambda: posix.kill(posix.getppid(), 0),
        "outlive": lambda: kernel.prctl(_PR_SET_PDEATHSIG, 0),
        "namespace": lambda: kernel.named("unshare", _CLONE_NEWUSER),
    }
    if tier in CONFINES_FILES:
        acts["read"] = lambda: posix.open("/etc/passwd", posix.O_RDONLY | posix.O_CLOEXEC)
        # without a name: nothing to clear away if it works
        flags = posix.O_TMPFILE | posix.O_WRONLY | posix.O_CLOEXEC
        acts["write"] = lambda: posix.open("/tmp", flags)  # noqa: S108
    return acts


def _self_test(kernel: _Kernel, tier: Tier, abi: int) -> str:
    """`abi=7 refused=read,fork,… allowed=`: one line for `engine.process`."""
    refused, allowed = [], []
    for name, act in _acts(kernel, tier).items() if tier != "none" else ():
        try:
            act()
        except OSError:
            refused.append(name)
        else:
            allowed.append(name)
    return f"abi={abi} refused={','.join(refused)} allowed={','.join(allowed)}\n"


def main(arguments: Sequence[str]) -> int:
    """Become the program, or say on standard error why not and return REFUSED_EXIT.

    Nothing runs half-shut: whatever part of the tier the kernel refuses, the program is not run.
    """
    try:
        order = _Order(arguments)
        kernel = _Kernel()
        if order.tier not in TIERS:
            raise ValueError(f"unknown tier {order.tier}")
        abi = _confine(order, kernel)
        if order.self_test:
            posix.write(1, _self_test(kernel, order.tier, abi).encode())
            return 0
        program, *argv = order.argv
        posix.execve(program, argv, ENVIRONMENT)
    except (OSError, ValueError) as error:
        posix.write(2, f"{REFUSED_MARK}{error}\n".encode(errors="surrogateescape"))
    return REFUSED_EXIT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
