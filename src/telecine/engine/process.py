"""The one door to child processes.

`run` starts a program through the sandbox launcher, reads its pipes, and returns when it has ended.
`start` gives a `Conversation` with a program that lives long and answers requests. Both block the
calling thread; several threads may have several children at once. Neither installs a signal
handler or holds global state.

The kernel kills the child when the *thread* that started it ends (PR_SET_PDEATHSIG), so also when
this process is killed with `kill -9`. That is why `run` never hands a child to another thread, and
why a conversation belongs to the thread that started it.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
import resource
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from telecine.engine import sandbox as launcher
from telecine.engine.errors import Interrupted, StepFailed, ToolMissing
from telecine.engine.sandbox import ANSWER_FD, REQUEST_FD, TIERS

if TYPE_CHECKING:
    from telecine.engine.sandbox import Tier

Limit = Literal["memory", "cpu", "wall", "stall", "file_size"]

_PIPE_BYTES = 1 << 20  # the most an ordinary user may ask for (fs.pipe-max-size)
_READ_BYTES = 1 << 18  # a buffer of a whole pipe takes twice the CPU: fresh pages for each read
_TAIL_LINES = 50
_LINE_CHARS = 500
_MFD_NOEXEC_SEAL = 8  # a system may demand it (vm.memfd_noexec)
_MIB, _GIB = 1 << 20, 1 << 30


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may use. Beyond it the child is killed and `Finished.limit` names the cause."""

    memory_bytes: int = 4 << 30  # address space (RLIMIT_AS), not resident memory
    cpu_s: int = 3600  # of all its threads together
    wall_s: float | None = None
    stall_s: float | None = 60  # without a byte on a sink and without a line that tells of progress
    file_bytes: int = 64 << 30  # of any one file it writes
    open_files: int = 256
    niceness: int = 0  # how far behind this process it stands in line for the CPU


@dataclass(frozen=True, slots=True)
class Access:
    """Files and folders a child may read, beside its own program and libraries, and the one folder
    (existing) where it may read and write. Links in these paths are followed, links found below
    them lead out of the sandbox and fail."""

    read: tuple[Path, ...] = ()
    write: Path | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """How a child ended. A non-zero `returncode` is for the caller to judge."""

    returncode: int  # 128 + signal where a signal ended it
    signal: int | None
    limit: Limit | None  # the limit that ended it, as far as it can be told
    log_tail: tuple[str, ...]  # the last lines of standard error, control characters replaced
    cpu_s: float
    wall_s: float
    peak_rss_bytes: int  # an upper bound: the kernel counts from the size of the starting process


class Cancel:
    """A switch that ends every child run with it, at once, from any thread or a signal handler.

    Setting it sets those that were made `within` it too, and never the other way round.
    """

    def __init__(self, within: Cancel | None = None) -> None:
        # An eventfd that is written once and never read: it wakes all pollers and stays readable,
        # and unlike a lock it may be used from a signal handler.
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._set = False
        self._inner: list[Cancel] = []
        if within is not None:
            within._inner.append(self)
            if within.is_set():  # after the append, so that none is missed
                self.set()

    def set(self) -> None:
        self._set = True
        os.eventfd_write(self._event, 1)
        for inner in self._inner:
            inner.set()

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until set, at most `timeout_s`; whether it is set."""
        poll = select.poll()
        poll.register(self._event, select.POLLIN)
        poll.poll(None if timeout_s is None else timeout_s * 1000)
        return self._set

    def fileno(self) -> int:
        return self._event

    def __del__(self) -> None:
        os.close(self._event)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The tier that children of this process run in. Make it once, with `detect`."""

    tier: Tier
    abi: int = 0  # of Landlock; 0 where it is not used
    passed: int = 0  # of the self-test's acts
    acts: int = 0
    bwrap: Path | None = None

    def __str__(self) -> str:
        net = "open" if self.tier == "none" else "seccomp"
        return (
            f"sandbox tier={self.tier} abi={self.abi} net={net} selftest={self.passed}/{self.acts}"
        )

    @classmethod
    def detect(
        cls,
        *,
        ffmpeg: Path | None = None,
        allow_none: bool = False,
        tiers: Sequence[Tier] = TIERS,
    ) -> Sandbox:
        """The strongest of `tiers` in which every forbidden act fails.

        With `ffmpeg` a tiny encode must also succeed inside (about 50 ms more). Raises StepFailed
        (`sandbox_unavailable`), with each tier's reason, when only `none` is left and `allow_none`
        is false.
        """
        reasons = []
        for tier in tiers:
            if tier == "none" and not allow_none:
                continue
            try:
                found = _self_test(tier)
                return found if ffmpeg is None else _with_encode(found, ffmpeg)
            except StepFailed as error:
                reasons.append(f"{tier}: {error.message}")
        raise StepFailed(
            "no sandbox works on this system: " + "; ".join(reasons), code="sandbox_unavailable"
        )


def _self_test(tier: Tier) -> Sandbox:
    bwrap = None
    if tier == "bwrap":
        places = ("/usr/bin/bwrap", "/usr/local/bin/bwrap", "/bin/bwrap")
        bwrap = next((Path(place) for place in places if os.access(place, os.X_OK)), None)
        if bwrap is None:
            raise StepFailed("bubblewrap is not installed", code="sandbox_failed")
    said: list[bytes] = []
    limits = Limits(wall_s=10, cpu_s=5)
    finished = _run([], Sandbox(tier, bwrap=bwrap), limits, Access(), {1: said.append})
    match = re.fullmatch(rb"abi=(\d+) refused=(\S*) allowed=(\S*)\n", b"".join(said))
    if finished.returncode != 0 or match is None:
        cause = finished.log_tail[-1] if finished.log_tail else f"exit {finished.returncode}"
        raise StepFailed(cause, code="sandbox_failed", log_tail=finished.log_tail)
    abi, refused, allowed = match.groups()
    if allowed:
        raise StepFailed(f"forbidden acts succeed: {allowed.decode()}", code="sandbox_failed")
    acts = len(refused.split(b",")) if refused else 0
    return Sandbox(tier, abi=int(abi), passed=acts, acts=acts, bwrap=bwrap)


def _with_encode(found: Sandbox, ffmpeg: Path) -> Sandbox:
    """`found` after one real encode inside it."""
    argv = [str(ffmpeg), "-nostdin", "-loglevel", "error", "-f", "lavfi"]
    argv += ["-i", "color=s=64x64:r=1:d=1", "-c:v", "libx264", "-f", "h264", "pipe:1"]
    said: list[bytes] = []
    limits = Limits(wall_s=20, cpu_s=20)
    finished = run(argv, sandbox=found, limits=limits, access=Access(), sinks={1: said.append})
    if finished.returncode != 0 or not b"".join(said).startswith(b"\x00\x00\x00\x01"):
        raise StepFailed(
            "FFmpeg cannot encode inside", code="sandbox_failed", log_tail=finished.log_tail
        )
    return Sandbox(found.tier, found.abi, found.passed + 1, found.acts + 1, found.bwrap)


def limits_for(pixels: int, rungs: int, duration_s: Fraction, *, threads: int = 4) -> Limits:
    """Limits for one FFmpeg process that decodes pictures of `pixels` for `duration_s` and encodes
    `rungs` of them, each with `threads` encoder threads.

    Address space = program, libraries and arenas; thread stacks (decoder, filters: some per CPU;
    encoders); pictures held by decoder, filters, look-ahead and encoder threads. Measured in GiB
    (FFmpeg 9.0.2, x264 veryfast, 2 CPUs): 1080p with five rungs 1.3, with five rungs of 32 threads
    4.5; 8K with four rungs 6.1. The sum is two to three times that, 1.4 times with many threads.
    CPU time is some fifty times what x264 takes: a bound on the hostile, not on the slow.
    """
    stacks = (rungs * threads + 4 * (os.cpu_count() or 1)) * 8 * _MIB
    pictures = pixels * (120 + 60 * rungs + 32 * threads)
    memory = 2 * _GIB + stacks + pictures
    picture_s = duration_s * max(Fraction(1), Fraction(pixels, 500_000))
    return Limits(memory_bytes=memory, cpu_s=60 + int(picture_s * (1 + rungs) * 4))


def run(
    argv: Sequence[str],
    *,
    sandbox: Sandbox,
    limits: Limits,
    access: Access,
    sinks: Mapping[int, Callable[[bytes], object]] | None = None,
    cancel: Cancel | None = None,
    on_line: Callable[[str], object] | None = None,
) -> Finished:
    """Run `argv` in the sandbox until it ends.

    `argv[0]` and all paths in `argv` are absolute; the child's working folder is `access.write`, or
    `/`. A Python child (`sys.executable`) may also read its own library and this package.

    `sinks`: the child's descriptor number (1, or 3 and up: FFmpeg's `pipe:10`) → what to call with
    each piece of bytes, in order, in this thread. The child blocks while a sink works. `on_line` is
    called with each line of standard error (lines end with \\n or \\r; cut at 500 characters); a
    line counts as progress for `limits.stall_s` unless `on_line` returns False.

    Raises Interrupted when `cancel` is set, ToolMissing when there is no such program, StepFailed
    (`sandbox_failed`) when the launcher cannot shut the child in, and whatever a sink or `on_line`
    raises; the child and its group are dead and reaped by then. What it wrote into its folder is
    left as it is.
    """
    _must_exist(argv)
    finished = _run(argv, sandbox, limits, access, sinks or {}, cancel, on_line)
    _must_have_run(finished, argv)
    return finished


def _must_exist(argv: Sequence[str]) -> None:
    if not argv or not os.access(argv[0], os.X_OK):
        raise ToolMissing(f"no such program: {' '.join(argv[:1])}", code="tool_missing", argv=argv)


def _must_have_run(finished: Finished, argv: Sequence[str]) -> None:
    refused = next(
        (line for line in finished.log_tail[:3] if line.startswith(launcher.REFUSED_MARK)), None
    )
    if finished.returncode == launcher.REFUSED_EXIT and refused is not None:
        raise StepFailed(refused, code="sandbox_failed", argv=argv, log_tail=finished.log_tail)


def _run(
    argv: Sequence[str],
    sandbox: Sandbox,
    limits: Limits,
    access: Access,
    sinks: Mapping[int, Callable[[bytes], object]],
    cancel: Cancel | None = None,
    on_line: Callable[[str], object] | None = None,
) -> Finished:
    if cancel is not None and cancel.is_set():
        raise Interrupted
    command = _command(argv, sandbox, limits, access, sinks)
    log = _Log(on_line)
    child, readers = _spawn(command, limits, tuple(sinks))
    try:
        child.watch()
        callbacks = {readers[number]: sink for number, sink in sinks.items()}
        _pump(child, callbacks, readers[2], log, cancel)
    finally:
        child.kill()
        for fd in readers.values():
            os.close(fd)
        status, usage = child.reap()
    return _finished(child, log, status, usage, sandbox)


def _finished(
    child: _Child, log: _Log, status: int, usage: resource.struct_rusage, sandbox: Sandbox
) -> Finished:
    log.end()
    code = os.waitstatus_to_exitcode(status)
    if sandbox.tier == "bwrap" and code - 128 in _FATAL_SIGNALS:
        code = 128 - code  # bubblewrap tells of its child's signal as a shell does
    killed_by = -code if code < 0 else None
    return Finished(
        returncode=code if code >= 0 else 128 - code,
        signal=killed_by,
        limit=child.limit or _limit_told(killed_by, code, log.tail),
        log_tail=tuple(log.tail),
        cpu_s=usage.ru_utime + usage.ru_stime,
        wall_s=time.monotonic() - child.started,
        peak_rss_bytes=usage.ru_maxrss * 1024,
    )


# ---- a child that lives long ---------------------------------------------------------------------


class Arriving(Protocol):
    """What an answer is read into: `room` for the next bytes (never empty until `done`), told of
    each piece by `took`, which may raise."""

    @property
    def done(self) -> bool: ...

    def room(self) -> memoryview: ...

    def took(self, count: int) -> None: ...


def start(argv: Sequence[str], *, sandbox: Sandbox, limits: Limits, access: Access) -> Conversation:
    """Start `argv` in the sandbox, as `run` does, to be asked again and again: it reads requests
    from descriptor REQUEST_FD and writes answers to ANSWER_FD. `limits.cpu_s` is for its whole
    life; time on the clock is given to each request.

    Raises ToolMissing when there is no such program. Whether the launcher could shut it in is told
    by `Conversation.close`.
    """
    _must_exist(argv)
    command = _command(argv, sandbox, limits, access, (REQUEST_FD, ANSWER_FD))
    child, ends = _spawn(command, limits, (ANSWER_FD,), (REQUEST_FD,))
    try:
        return Conversation(child, ends, argv, sandbox)
    except BaseException:  # no descriptor is left to watch it with
        child.kill()
        for fd in ends.values():
            os.close(fd)
        child.reap()
        raise


class Conversation:
    """A running child with its pipes, for the one thread that started it: when that thread ends,
    the kernel kills the child."""

    def __init__(
        self, child: _Child, ends: Mapping[int, int], argv: Sequence[str], sandbox: Sandbox
    ) -> None:
        self._child = child
        self._ends = ends
        self._argv = argv
        self._sandbox = sandbox
        self._log = _Log(None)
        child.watch()

    @property
    def pid(self) -> int:
        return self._child.pid

    def quiet(self) -> bool:
        """Whether it is alive and has said nothing that nobody asked for."""
        poll = select.poll()
        poll.register(self._ends[ANSWER_FD], select.POLLIN)
        poll.register(self._child.ended, select.POLLIN)
        return not poll.poll(0)

    def ask(
        self,
        request: Sequence[bytes | bytearray | memoryview],
        answer: Arriving,
        *,
        wall_s: float,
        cancel: Sequence[Cancel] = (),
    ) -> bool:
        """Send `request` and read `answer`, both at once: neither waits for the other's pipe.

        False when the child died, closed a pipe, answered before it had read its request, or took
        more than `wall_s`: it is then of no more use, and `close` says why. Raises Interrupted when
        one of `cancel` is set, and what `answer.took` raises; the child is then in the midst of an
        answer and fit only for `close`.
        """
        deadline = time.monotonic() + wall_s
        pieces = deque(memoryview(piece).cast("B") for piece in request if len(piece))
        to, fro, said = self._ends[REQUEST_FD], self._ends[ANSWER_FD], self._ends[2]
        poll = select.poll()
        for fd in (fro, said, self._child.ended):
            poll.register(fd, select.POLLIN)
        for each in cancel:
            poll.register(each, select.POLLIN)
        if pieces:
            poll.register(to, select.POLLOUT)
        while not answer.done:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                self._child.limit = "wall"
                return False
            ready = {fd for fd, _ in poll.poll(left_s * 1000)}
            if any(each.is_set() for each in cancel):
                raise Interrupted
            if said in ready and not self._listen():
                poll.unregister(said)
            if fro in ready:
                count = os.readv(fro, [answer.room()[:_READ_BYTES]])
                if count == 0:
                    return False
                answer.took(count)
            elif self._child.ended in ready:  # and its answers are read
                return False
            if to in ready and not answer.done:
                if not self._tell(to, pieces):
                    return False
                if not pieces:
                    poll.unregister(to)
        return not pieces

    def _tell(self, to: int, pieces: deque[memoryview]) -> bool:
        """Write of `pieces` what the pipe takes; whether anyone reads it."""
        try:
            written = os.write(to, pieces[0][:_PIPE_BYTES])
        except BlockingIOError:  # less room than the kernel writes at once
            return True
        except BrokenPipeError:
            return False
        pieces[0] = pieces[0][written:]
        if not pieces[0]:
            pieces.popleft()
        return True

    def _listen(self) -> bool:
        """Read standard error; whether there may be more."""
        data = os.read(self._ends[2], _READ_BYTES)
        self._log.feed(data)
        return bool(data)

    def close(self) -> Finished:
        """Kill the child if it still runs, reap it and say how it ended. Once, by its own thread.

        Raises StepFailed (`sandbox_failed`) when it never ran, since it could not be shut in."""
        self._child.kill()
        status, usage = self._child.reap()
        try:
            while self._listen():
                pass
        except BlockingIOError:  # a grandchild (possible in tier `none` alone) holds the pipe
            pass
        for fd in self._ends.values():
            os.close(fd)
        finished = _finished(self._child, self._log, status, usage, self._sandbox)
        _must_have_run(finished, self._argv)
        return finished


# ---- starting ------------------------------------------------------------------------------------


def _command(
    argv: Sequence[str],
    sandbox: Sandbox,
    limits: Limits,
    access: Access,
    numbers: Iterable[int],
) -> list[str]:
    program = os.path.realpath(argv[0]) if argv else ""
    runtime = launcher.runtime_paths(program) if argv else ()
    if argv and argv[0] == sys.executable:
        runtime += (os.path.realpath(sys.prefix), str(Path(__file__).resolve().parents[2]))
    return launcher.launcher_argv(
        sandbox.tier,
        program,
        argv,
        # The base interpreter: without a virtual environment there is less to look for at start.
        python=os.path.realpath(getattr(sys, "_base_executable", sys.executable)),
        read=[os.path.realpath(path) for path in access.read],
        runtime=runtime,
        write=None if access.write is None else os.path.realpath(access.write),
        limits={
            "RLIMIT_AS": limits.memory_bytes,
            "RLIMIT_CPU": limits.cpu_s,
            "RLIMIT_FSIZE": limits.file_bytes,
            "RLIMIT_NOFILE": limits.open_files,
            "RLIMIT_CORE": 0,
        },
        fds=[number for number in numbers if number > 2],
        bwrap=None if sandbox.bwrap is None else str(sandbox.bwrap),
    )


def _spawn(
    command: list[str], limits: Limits, out: Sequence[int], into: Sequence[int] = ()
) -> tuple[_Child, dict[int, int]]:
    """Start `command` as the leader of a new session with a pipe on each of `out` and on 2, which
    it writes, and on each of `into`, which it reads.

    Its standard input is the launcher's program. Returns it and our ends, which do not block, by
    the child's number. posix_spawn, because it neither copies this process nor runs Python between
    fork and exec (which may deadlock with threads).
    """
    lowest = max([2, *out, *into]) + 1  # our ends lie above all of the child's numbers
    program = _at_least(lowest, _in_memory(_launcher_program()))
    ours: dict[int, int] = {}
    theirs: dict[int, int] = {}
    started = time.monotonic()
    try:
        for number in {2, *out, *into}:
            pair = (theirs, ours) if number in into else (ours, theirs)
            for ends, fd in zip(pair, os.pipe2(os.O_CLOEXEC), strict=True):
                ends[number] = fd
            for ends in pair:  # each stands in one place, from which it is closed if the next fails
                ends[number] = _at_least(lowest, ends.pop(number))
            _enlarge(ours[number])
            os.set_blocking(ours[number], False)
        actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
            (os.POSIX_SPAWN_DUP2, program, 0)
        ]
        if 1 not in out:
            actions.append((os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0))
        actions += [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in theirs.items()]
        pid = os.posix_spawn(
            command[0],
            command,
            launcher.ENVIRONMENT,
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT),
        )
    except BaseException:
        for fd in ours.values():
            os.close(fd)
        raise
    finally:
        for fd in (program, *theirs.values()):
            os.close(fd)
    if limits.niceness:  # before it has threads: they take over what the first one has
        _stand_back(pid, min(os.getpriority(os.PRIO_PROCESS, 0) + limits.niceness, 19))
    return _Child(pid, limits, started), ours


def _stand_back(pid: int, niceness: int) -> None:
    """The child leads a session of its own. A kernel that shares the processors among sessions
    (sched(7), "The autogroup feature") weighs a process against others of its session alone, and
    each session by a niceness of its own."""
    os.setpriority(os.PRIO_PROCESS, pid, niceness)
    with contextlib.suppress(OSError):  # no such kernel, or an ordinary user's second in 0.1 s
        Path(f"/proc/{pid}/autogroup").write_text(str(niceness))


_launcher_program = functools.cache(launcher.launcher_program)


def _in_memory(data: bytes) -> int:
    """A file without a name, one for each child: no child can change what another one reads."""
    try:
        fd = os.memfd_create("launcher", os.MFD_CLOEXEC | _MFD_NOEXEC_SEAL)
    except OSError:  # a kernel before 6.3
        fd = os.memfd_create("launcher", os.MFD_CLOEXEC)
    os.write(fd, data)
    return fd


def _at_least(lowest: int, fd: int) -> int:
    """`fd` itself or its duplicate at a number that no child uses; close-on-exec either way.
    Raises OSError; `fd` is then closed."""
    if fd >= lowest:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)
    finally:
        os.close(fd)


def _enlarge(pipe: int) -> None:
    """A big pipe costs fewer wake-ups; past the user's quota of pipe pages it stays small."""
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except OSError:
        pass


# ---- while it runs -------------------------------------------------------------------------------


class _Child:
    def __init__(self, pid: int, limits: Limits, started: float) -> None:
        self.pid = pid
        self.limit: Limit | None = None
        self.started = started
        self._limits = limits
        self._progress = started
        self.ended = -1  # a pidfd: readable once the child has ended

    def watch(self) -> None:
        self.ended = os.pidfd_open(self.pid)

    def moved(self) -> None:
        self._progress = time.monotonic()

    def time_left_s(self) -> float | None:
        """Seconds until the first of the clocks runs out; None without clocks, and once killed."""
        if self.limit is not None:
            return None
        ends = []
        if self._limits.wall_s is not None:
            ends.append(self.started + self._limits.wall_s)
        if self._limits.stall_s is not None:
            ends.append(self._progress + self._limits.stall_s)
        return max(0.0, min(ends) - time.monotonic()) if ends else None

    def out_of_time(self) -> None:
        """Kill, with the cause. The end is then seen like any other."""
        wall_s = self._limits.wall_s
        over = wall_s is not None and time.monotonic() - self.started >= wall_s
        self.limit = "wall" if over else "stall"
        self.kill()

    def kill(self) -> None:
        """The whole group; safe as long as the leader is not reaped: its number stays taken."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def reap(self) -> tuple[int, resource.struct_rusage]:
        _, status, usage = os.wait4(self.pid, 0)
        if self.ended >= 0:
            os.close(self.ended)
        return status, usage


class _Log:
    """Standard error: the last lines, harmless to print, and each line to `on_line`."""

    def __init__(self, on_line: Callable[[str], object] | None) -> None:
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._on_line = on_line
        self._rest = b""
        self._cut = False  # inside a line whose first part was already told

    def feed(self, data: bytes) -> bool:
        """Whether a line told of progress."""
        *lines, self._rest = re.split(rb"[\r\n]", self._rest + data)
        moved = False
        for line in lines:
            moved |= self._tell(line)
            self._cut = False
        if len(self._rest) > 4 * _LINE_CHARS:
            moved |= self._tell(self._rest)
            self._rest, self._cut = b"", True
        return moved

    def end(self) -> None:
        if self._rest:
            self._tell(self._rest)
            self._rest = b""

    def _tell(self, raw: bytes) -> bool:
        if self._cut or not raw.strip():
            return False
        text = raw.decode(errors="replace")[:_LINE_CHARS]
        line = "".join(c if c.isprintable() else "\ufffd" for c in text.replace("\t", " ")).rstrip()
        self.tail.append(line)
        return self._on_line is None or self._on_line(line) is not False


def _pump(
    child: _Child,
    sinks: Mapping[int, Callable[[bytes], object]],
    stderr: int,
    log: _Log,
    cancel: Cancel | None,
) -> None:
    """Read every pipe until the child has ended and all of them are empty."""
    poll = select.poll()
    open_pipes = {stderr, *sinks}
    for fd in open_pipes:
        poll.register(fd, select.POLLIN)
    poll.register(child.ended, select.POLLIN)
    if cancel is not None:
        poll.register(cancel, select.POLLIN)
    ended = False
    while not ended or open_pipes:
        left_s = 0 if ended else child.time_left_s()
        ready = {fd for fd, _ in poll.poll(None if left_s is None else left_s * 1000)}
        if cancel is not None and cancel.is_set():
            raise Interrupted
        if ended and not ready:
            return
        if child.ended in ready:
            # A grandchild (possible in tier `none` alone) could hold the pipes open: end it too.
            poll.unregister(child.ended)
            ended = True
            child.kill()
        for fd in ready & open_pipes:
            data = os.read(fd, _READ_BYTES)
            if not data:
                poll.unregister(fd)
                open_pipes.discard(fd)
            elif fd == stderr:
                if log.feed(data):
                    child.moved()
            else:
                sinks[fd](data)
                child.moved()
        if not ended and child.time_left_s() == 0:
            child.out_of_time()


# FFmpeg's own exit codes lie above 128 too (183: invalid data), but not on these.
_FATAL_SIGNALS = tuple(
    getattr(signal, f"SIG{name}")
    for name in ("ILL", "ABRT", "BUS", "FPE", "KILL", "SEGV", "TERM", "XCPU", "XFSZ", "SYS")
)
_NO_MEMORY = re.compile(
    r"cannot allocate memory|out of memory|bad_alloc|MemoryError|malloc of size .* failed"
    r"|failed to allocate (?:memory|[0-9]+ bytes)|Error code: -12\b",
    re.IGNORECASE,
)


def _limit_told(killed_by: int | None, code: int, tail: Sequence[str]) -> Limit | None:
    """The limit that the child's end or last words tell of."""
    if killed_by == signal.SIGXCPU:
        return "cpu"
    if killed_by == signal.SIGXFSZ:
        return "file_size"
    if code != 0 and any("File too large" in line for line in tail):
        return "file_size"  # EFBIG, for those that ignore the signal (Python does)
    if code != 0 and any(_NO_MEMORY.search(line) for line in tail):
        return "memory"
    return None
