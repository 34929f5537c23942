"""The sandbox as an attacker meets it.

Every attack is run twice: as it is, where it must succeed (or it would prove nothing), and through
the launcher, in every tier that this system has, where it must fail. The first table's attackers
are Python programs, so that FFmpeg's own caution plays no part; the second's are files for FFmpeg,
shown against the launcher alone, against the input flags alone, and against both.
"""

from __future__ import annotations

import os
import pickle
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pytest
from tests import pngs
from tests.media.attacked import Listener, tier, victim
from tests.processes import alive
from tests.thorough import thorough_but
from tests.waiting import until

from telecine.engine import sandbox as launcher
from telecine.engine.errors import StepFailed
from telecine.engine.process import Access, Finished, Limits, Sandbox, run
from telecine.engine.sandbox import CONFINES_FILES, DEMUXERS, global_flags, input_flags

FFMPEG = Path(imageio_ffmpeg.get_ffmpeg_exe())
SOURCES = Path(launcher.__file__).parents[2]
CANARY = "canary-5417"
ROOT = os.geteuid() == 0
STRANGER = 4711  # a user who is neither root nor us

only_root = pytest.mark.skipif(not ROOT, reason="only root has files that are not its own")


@pytest.fixture(params=thorough_but(["bwrap", "landlock", "seccomp"], "bwrap", "landlock"))
def shut(request: pytest.FixtureRequest) -> Sandbox:
    return tier(request.param)


@pytest.fixture(params=["bwrap", "landlock"])
def shut_files(request: pytest.FixtureRequest) -> Sandbox:
    """Tiers in which only the named files exist. `seccomp` promises no such thing."""
    return tier(request.param)


@dataclass
class World:
    """What there is to attack. Only `given` and `folder` are the attacker's to use."""

    given: Path
    folder: Path
    outside: Path
    secret: Path  # another user's file, where we are root
    inet: Listener
    unix: Listener
    abstract: Listener
    victim: subprocess.Popen[bytes]
    said: bytes = b""
    finished: Finished | None = None
    limits: Limits = field(default_factory=lambda: Limits(wall_s=20, cpu_s=10))

    def names(self) -> list[str]:
        """sys.argv[1:] of an attacker."""
        listeners = (str(self.inet.name[1]), self.unix.name, self.abstract.name[1:].decode())
        paths = (self.given, self.folder, self.outside, self.secret)
        return [*map(str, paths), *listeners, str(self.victim.pid)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    outside = tmp_path / "outside"
    folder = tmp_path / "folder"
    given = tmp_path / "given" / "input"
    for directory in (outside, folder, given.parent):
        directory.mkdir()
    given.write_text("input")
    secret = outside / "secret"
    secret.write_text(CANARY)
    secret.chmod(0o600)
    if ROOT:
        os.chown(secret, STRANGER, STRANGER)
    listeners = (
        Listener(socket.AF_INET, ("127.0.0.1", 0)),
        Listener(socket.AF_UNIX, str(outside / "socket")),
        Listener(socket.AF_UNIX, f"\0telecine-{os.getpid()}-{outside.parent.name}"),
    )
    with victim({"VICTIM": CANARY}) as process:
        yield World(given, folder, outside, secret, *listeners, process)
    for listener in listeners:
        listener.close()


@dataclass(frozen=True)
class Attack:
    name: str
    script: str
    succeeded: Callable[[World], bool]
    confines_files: bool = False  # stopped by the tiers that confine files only
    writes: bool = True  # with a writable folder; else without, as a step that writes to pipes
    limits: Limits = field(default_factory=lambda: Limits(wall_s=20, cpu_s=10))


def after(seconds: float, question: Callable[[], bool]) -> bool:
    time.sleep(seconds)
    return question()


PREAMBLE = """
import ctypes, os, resource, signal, socket, sys, time
given, folder, outside, secret, port, unix, abstract, victim = sys.argv[1:]
victim = int(victim)
libc = ctypes.CDLL(None, use_errno=True)
print("trying", flush=True)
"""

ATTACKS = (
    Attack(
        "read another user's file",
        "print(open(secret).read())",
        lambda w: CANARY.encode() in w.said,
        confines_files=not ROOT,  # an ordinary user's attacker can only reach for that user's own
    ),
    Attack(
        "read /etc/passwd",
        "print(open('/etc/passwd').read())",
        lambda w: b"root:" in w.said,
        confines_files=True,
    ),
    Attack(
        "list a folder",
        "print(os.listdir(outside))",
        lambda w: b"secret" in w.said,
        confines_files=True,
    ),
    Attack(
        "read a process's environment",
        "print(open(f'/proc/{victim}/environ').read())",
        lambda w: CANARY.encode() in w.said,
        confines_files=True,
    ),
    Attack(
        "write outside the folder",
        "open(outside + '/planted', 'w').write('x')",
        lambda w: (w.outside / "planted").exists(),
        confines_files=True,
    ),
    Attack(
        "write anywhere without a folder",
        "open(outside + '/planted', 'w').write('x')",
        lambda w: (w.outside / "planted").exists(),
        writes=False,
    ),
    Attack(
        "overwrite the input",
        "open(given, 'r+').write('x')",
        lambda w: w.given.read_text() != "input",
        confines_files=True,
    ),
    Attack(
        "move the input away",
        "os.rename(given, given + '2')",
        lambda w: not w.given.exists(),
        confines_files=True,
    ),
    Attack(
        "delete without a folder",
        "os.unlink(given)",
        lambda w: not w.given.exists(),
        writes=False,
    ),
    Attack("truncate the input", "os.truncate(given, 0)", lambda w: not w.given.read_text()),
    Attack("open up a file", "os.chmod(given, 0o777)", lambda w: w.given.stat().st_mode & 2 != 0),
    Attack("backdate a file", "os.utime(given, (1, 1))", lambda w: w.given.stat().st_mtime == 1),
    Attack(
        "leave a link for the parent to follow",
        "os.symlink(secret, folder + '/link')",
        lambda w: (w.folder / "link").is_symlink(),
    ),
    Attack(
        "take in a file by a hard link",
        "os.link(given, folder + '/link')",
        lambda w: (w.folder / "link").exists(),
    ),
    Attack(
        "connect to a port",
        "socket.create_connection(('127.0.0.1', int(port)))",
        lambda w: w.inet.visited.wait(0.5),
    ),
    Attack(
        "connect to a UNIX socket",
        "socket.socket(socket.AF_UNIX).connect(unix)",
        lambda w: w.unix.visited.wait(0.5),
    ),
    Attack(
        "connect to an abstract socket",
        "socket.socket(socket.AF_UNIX).connect(chr(0) + abstract)",
        lambda w: w.abstract.visited.wait(0.5),
    ),
    Attack(
        "leave a grandchild that outlives",
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    time.sleep(0.3)\n"
        "    open(folder + '/alive', 'w').close()\n",
        lambda w: after(0.7, lambda: (w.folder / "alive").exists()),
    ),
    Attack(
        "kill another process",
        "os.kill(victim, signal.SIGKILL)",
        lambda w: after(0.2, lambda: w.victim.poll() is not None),
    ),
    Attack(
        "kill another process by its limits",
        "resource.prlimit(victim, resource.RLIMIT_CPU, (1, 1))",
        lambda w: resource.prlimit(w.victim.pid, resource.RLIMIT_CPU)[0] == 1,
    ),
    Attack(
        "trace another process",
        "print('traced' if libc.ptrace(16, victim, 0, 0) == 0 else 'refused')",
        lambda w: b"traced" in w.said,
    ),
    Attack(
        "read another process's memory",
        "words = (ctypes.c_void_p * 2)(id(victim), 8), ctypes.create_string_buffer(8)\n"
        "mine = (ctypes.c_void_p * 2)(ctypes.addressof(words[1]), 8)\n"
        "maps = open(f'/proc/{victim}/maps').readline()\n"
        "theirs = (ctypes.c_void_p * 2)(int(maps.split('-')[0], 16), 8)\n"
        "print(libc.process_vm_readv(victim, mine, 1, theirs, 1, 0), words[1].raw)",
        lambda w: b"ELF" in w.said,
    ),
    Attack(
        "run a shell",
        "os.execv('/bin/sh', ['sh', '-c', 'echo shell'])",
        lambda w: b"shell" in w.said,
        confines_files=True,
    ),
    Attack(
        "take memory",
        "print(len(b'x' * (400 << 20)))",
        lambda w: str(400 << 20).encode() in w.said,
        limits=Limits(memory_bytes=300 << 20),
    ),
    Attack(
        "take the CPU",
        "signal.signal(signal.SIGXCPU, signal.SIG_IGN)\n"
        "while time.process_time() < 3: pass\n"
        "print('spun')",
        lambda w: b"spun" in w.said,
        limits=Limits(cpu_s=1),
    ),
    Attack(
        "fill the disk",
        "open(folder + '/big', 'wb').write(bytes(4 << 20))",
        lambda w: (w.folder / "big").stat().st_size > 1 << 20,
        limits=Limits(file_bytes=1 << 20),
    ),
    Attack(
        "open a thousand files",
        "print(len([open(given) for _ in range(1000)]), 'open')",
        lambda w: b"1000 open" in w.said,
        limits=Limits(open_files=100),
    ),
)
ROOT_ATTACKS = (
    Attack(
        "make a device of the disk",
        "os.mknod(folder + '/disk', 0o060600, os.makedev(8, 0))",
        lambda w: (w.folder / "disk").exists(),
    ),
    Attack(
        "become another user",
        "os.setuid(4711); print('became', os.getuid())",
        lambda w: b"became 4711" in w.said,
    ),
    Attack(
        "make a namespace",
        "print('made' if libc.unshare(0x40000000) == 0 else 'refused')",
        lambda w: b"made" in w.said,
    ),
    Attack(
        "open by handle, past all folders",
        "handle = ctypes.create_string_buffer(136); handle[0] = bytes([128])\n"
        "mount = ctypes.c_int()\n"
        "libc.name_to_handle_at(-100, secret.encode(), handle, ctypes.byref(mount), 0)\n"
        "fd = libc.open_by_handle_at(os.open('/', os.O_RDONLY), handle, 0)\n"
        "print(os.read(fd, 100))",
        lambda w: CANARY.encode() in w.said,
    ),
)


def named(attack: Attack) -> str:
    return attack.name.replace(" ", "_")


def attack_freely(attack: Attack, world: World) -> None:
    argv = [sys.executable, "-I", "-S", "-c", PREAMBLE + attack.script, *world.names()]
    world.said = subprocess.run(argv, stdout=subprocess.PIPE, timeout=30, check=False).stdout


def attack_shut_in(attack: Attack, world: World, sandbox: Sandbox) -> None:
    said: list[bytes] = []
    world.finished = run(
        [sys.executable, "-I", "-S", "-c", PREAMBLE + attack.script, *world.names()],
        sandbox=sandbox,
        limits=attack.limits,
        access=Access(read=(world.given,), write=world.folder if attack.writes else None),
        sinks={1: said.append},
    )
    world.said = b"".join(said)


@pytest.mark.parametrize("attack", ATTACKS, ids=named)
def test_attack_succeeds_without_the_launcher(attack: Attack, world: World) -> None:
    attack_freely(attack, world)
    assert attack.succeeded(world), world.said


@pytest.mark.parametrize("attack", ATTACKS, ids=named)
def test_attack_fails_in_the_sandbox(attack: Attack, world: World, shut: Sandbox) -> None:
    if attack.confines_files and shut.tier not in CONFINES_FILES:
        pytest.skip(f"tier {shut.tier} does not promise this")
    attack_shut_in(attack, world, shut)
    assert world.said.startswith(b"trying"), world.finished
    assert not attack.succeeded(world), world.said


@only_root
@pytest.mark.parametrize("attack", ROOT_ATTACKS, ids=named)
def test_root_attack_succeeds_without_the_launcher(attack: Attack, world: World) -> None:
    attack_freely(attack, world)
    assert attack.succeeded(world), world.said


@only_root
@pytest.mark.parametrize("attack", ROOT_ATTACKS, ids=named)
def test_root_attack_fails_in_the_sandbox(attack: Attack, world: World, shut: Sandbox) -> None:
    attack_shut_in(attack, world, shut)
    assert world.said.startswith(b"trying"), world.finished
    assert not attack.succeeded(world), world.said


# ---- nothing outlives its parent -----------------------------------------------------------------

UNDYING = (
    "import ctypes, os, signal, time\n"
    "ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print(os.getpid(), flush=True)\n"
    "time.sleep(120)\n"
)
PARENT_WITHOUT = (
    "import subprocess, sys\n"
    "subprocess.run([sys.executable, '-I', '-S', '-c', sys.argv[1]], start_new_session=True)\n"
)
PARENT_WITH = (
    "import os, pathlib, sys\n"
    "sys.path.insert(0, sys.argv[3])\n"
    "from telecine.engine.process import Access, Limits, Sandbox, run\n"
    "tier, bwrap = sys.argv[2].split(':')\n"
    "print('ready', flush=True)\n"
    "run([sys.executable, '-I', '-S', '-c', sys.argv[1]], limits=Limits(), access=Access(),\n"
    "    sandbox=Sandbox(tier, bwrap=pathlib.Path(bwrap) if bwrap else None),\n"
    "    sinks={1: lambda data: os.write(1, data)})\n"
)


def test_child_outlives_kill_9_of_its_parent_without_the_launcher() -> None:
    argv = [sys.executable, "-I", "-c", PARENT_WITHOUT, UNDYING]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    time.sleep(0.5)
    survived = alive(child)
    os.kill(child, signal.SIGKILL)
    assert survived


def parent_with(shut: Sandbox, script: str) -> list[str]:
    spec = f"{shut.tier}:{shut.bwrap or ''}"
    return [sys.executable, "-c", PARENT_WITH, script, spec, str(SOURCES)]


def test_kill_9_of_the_parent_ends_the_child(shut: Sandbox) -> None:
    with subprocess.Popen(parent_with(shut, UNDYING), stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.kill()
    until(lambda: not alive(child), 1)


def test_kill_9_of_the_parent_at_any_moment_of_the_start(shut: Sandbox) -> None:
    """The moments before PDEATHSIG is set count too."""
    mark = f"undying-{os.getpid()}-{shut.tier}"
    for delay_ms in (0, 2, 4, 6, 9, 12, 16, 25):
        argv = parent_with(shut, f"{UNDYING}# {mark}")
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as parent:
            assert parent.stdout is not None
            parent.stdout.readline()
            time.sleep(delay_ms / 1000)
            parent.kill()

    def left() -> list[str]:
        lines = {
            path.parent.name: read_or_nothing(path) for path in Path("/proc").glob("*/cmdline")
        }
        return [pid for pid, line in lines.items() if mark.encode() in line]

    # One that is just starting has to be given a processor before it can see that it is alone.
    until(lambda: left() == [], 10)


def read_or_nothing(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


# ---- files for FFmpeg ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Tried:
    output: bytes
    peak_rss_bytes: int
    limit: str | None = None


def decode(
    source: Path, flags: tuple[str, ...], ffmpeg: Path = FFMPEG, frames: int = 2
) -> list[str]:
    argv = [str(ffmpeg), "-nostdin", "-v", "error", *flags, "-i", f"file:{source}"]
    argv += ["-frames:v", str(frames), "-vf", "crop=16:16:0:0", "-pix_fmt", "rgb24"]
    return [*argv, "-f", "rawvideo", "pipe:1"]


def free(argv: list[str]) -> Tried:
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Tried(output, usage.ru_maxrss * 1024)


def shut_in(argv: list[str], source: Path, sandbox: Sandbox) -> Tried:
    said: list[bytes] = []
    finished = run(
        argv,
        sandbox=sandbox,
        limits=Limits(memory_bytes=SMALL, wall_s=30),
        access=Access(read=(source,)),
        sinks={1: said.append},
    )
    return Tried(b"".join(said), finished.peak_rss_bytes, finished.limit)


SMALL = 700 << 20  # address space: FFmpeg alone takes 400 MB of it
HUGE = 700 << 20  # resident


def light(tried: Tried) -> bool:
    """Beside what the kernel counts in from the process that started it, this one."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return tried.peak_rss_bytes < own + (100 << 20)


@pytest.fixture(scope="session")
def victim_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Someone else's upload: red."""
    path = tmp_path_factory.mktemp("elsewhere") / "victim.ts"
    argv = [str(FFMPEG), "-v", "error", "-f", "lavfi", "-i", "color=red:s=64x64:r=5:d=1"]
    subprocess.run([*argv, "-c:v", "libx264", "-f", "mpegts", str(path)], check=True)
    return path


def red(tried: Tried) -> bool:
    pixel = tried.output[:3]
    return len(pixel) == 3 and pixel[0] > 240 and pixel[1] < 16 and pixel[2] < 16


def playlist(reference: str) -> str:
    lines = ("#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:2", "#EXTINF:1.0,")
    return "\n".join((*lines, reference, "#EXT-X-ENDLIST", ""))


# FFmpeg 9 no longer takes such a text for HLS when its name ends in .mp4; bypasses of that were
# found before (CVE-2026-107697), and this is what one looks like.
BYPASS = ("-f", "hls", "-extension_picky", "0", "-allowed_extensions", "ALL")
FLAGS = (*global_flags()[1:], *input_flags())


@pytest.fixture
def hls_file(tmp_path: Path, victim_video: Path) -> Path:
    path = tmp_path / "hls.mp4"
    path.write_text(playlist(f"file://{victim_video}"))
    return path


def test_hls_named_mp4_gives_away_a_local_file_without(hls_file: Path) -> None:
    assert red(free(decode(hls_file, BYPASS)))


def test_hls_named_mp4_is_refused_by_the_flags(hls_file: Path) -> None:
    assert free(decode(hls_file, (*BYPASS, *FLAGS))).output == b""
    assert free(decode(hls_file, FLAGS)).output == b""


def test_hls_named_mp4_gets_nothing_from_the_launcher(hls_file: Path, shut_files: Sandbox) -> None:
    assert shut_in(decode(hls_file, BYPASS), hls_file, shut_files).output == b""


def test_hls_named_mp4_fails_with_both(hls_file: Path, shut: Sandbox) -> None:
    assert shut_in(decode(hls_file, (*BYPASS, *FLAGS)), hls_file, shut).output == b""


@pytest.mark.needs("ffmpeg")
def test_hls_named_mp4_needs_no_bypass_in_an_older_ffmpeg(hls_file: Path, shut: Sandbox) -> None:
    older = Path("/usr/bin/ffmpeg")
    assert red(free(decode(hls_file, (), older)))
    assert free(decode(hls_file, FLAGS, older)).output == b""
    assert shut_in(decode(hls_file, FLAGS, older), hls_file, shut).output == b""


@pytest.fixture
def server() -> Iterator[Listener]:
    listener = Listener(socket.AF_INET, ("127.0.0.1", 0))
    yield listener
    listener.close()


@pytest.fixture
def hls_url(tmp_path: Path, server: Listener) -> Path:
    path = tmp_path / "hls.mp4"
    path.write_text(playlist(f"http://127.0.0.1:{server.name[1]}/internal/secret.ts"))
    return path


OPEN_NETWORK = ("-protocol_whitelist", "file,http,tcp")


def test_hls_named_mp4_reaches_a_server_without(hls_url: Path, server: Listener) -> None:
    free(decode(hls_url, (*BYPASS, *OPEN_NETWORK)))
    assert server.visited.wait(1)


def test_hls_with_a_url_is_refused_by_the_flags(hls_url: Path, server: Listener) -> None:
    free(decode(hls_url, (*BYPASS, *OPEN_NETWORK, *FLAGS)))
    assert not server.visited.wait(0.2)


def test_hls_with_a_url_reaches_nothing_from_the_launcher(
    hls_url: Path, server: Listener, shut: Sandbox
) -> None:
    shut_in(decode(hls_url, (*BYPASS, *OPEN_NETWORK)), hls_url, shut)
    assert not server.visited.wait(0.2)


@pytest.fixture
def concat(victim_video: Path) -> Path:
    path = victim_video.with_name("concat.mp4")
    path.write_text(f"ffconcat version 1.0\nfile {victim_video.name}\n")
    return path


def test_ffconcat_gives_away_its_sibling_without(concat: Path) -> None:
    assert red(free(decode(concat, ())))


def test_ffconcat_is_refused_by_the_flags(concat: Path) -> None:
    assert free(decode(concat, FLAGS)).output == b""


def test_ffconcat_gets_nothing_from_the_launcher(concat: Path, shut_files: Sandbox) -> None:
    assert shut_in(decode(concat, ()), concat, shut_files).output == b""


def test_ffconcat_fails_with_both(concat: Path, shut: Sandbox) -> None:
    assert shut_in(decode(concat, FLAGS), concat, shut).output == b""


@pytest.fixture(scope="session")
def bomb_gif(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """320 bytes that claim twenty frames of 16000²."""
    data = b"GIF89a" + struct.pack("<HHBBB", 16000, 16000, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    path = tmp_path_factory.mktemp("gif") / "bomb.gif"
    path.write_bytes(data + 20 * frame + b";")
    assert path.stat().st_size == 320
    return path


def png(width: int, height: int, rows: int) -> bytes:
    """Black 8-bit RGB; a row deflated once and repeated (Z_FULL_FLUSH forgets what came before)."""
    row_bytes = 1 + 3 * width
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    row = deflate.compress(bytes(row_bytes)) + deflate.flush(zlib.Z_FULL_FLUSH)
    # Adler-32 of zeros: a stays 1, b counts them
    adler = struct.pack(">HH", row_bytes * rows % 65521, 1)
    data = b"\x78\xda" + row * rows + deflate.flush() + adler
    return pngs.png(width, height, pngs.chunk(b"IDAT", data))


@pytest.fixture(scope="session")
def bomb_png(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """65536 wide, and as high as FFmpeg takes at that width: 780 MB of black in 0.8 MB."""
    path = tmp_path_factory.mktemp("png") / "bomb.png"
    path.write_bytes(png(65536, 3900, 3900))
    return path


@pytest.fixture(params=thorough_but(["bomb_gif", "bomb_png"], "bomb_gif"))
def bomb(request: pytest.FixtureRequest) -> Path:
    path = request.getfixturevalue(request.param)
    assert isinstance(path, Path)
    return path


def test_picture_bomb_takes_memory_without(bomb: Path) -> None:
    assert free(decode(bomb, ())).peak_rss_bytes > HUGE


def test_picture_bomb_is_refused_by_the_flags(bomb: Path) -> None:
    tried = free(decode(bomb, FLAGS))
    assert tried.output == b""
    assert light(tried)


def test_picture_bomb_is_stopped_by_the_launcher(bomb: Path, shut: Sandbox) -> None:
    tried = shut_in(decode(bomb, ()), bomb, shut)
    assert (tried.output, tried.limit) == (b"", "memory")
    assert tried.peak_rss_bytes < HUGE


def test_a_png_of_65536_squared_is_refused_by_ffmpeg_itself(tmp_path: Path, shut: Sandbox) -> None:
    """The one attack of the list that fails anyway: more pixels than FFmpeg's integers take. So
    `bomb_png` is the largest that it does take."""
    path = tmp_path / "square.png"
    path.write_bytes(png(65536, 65536, 1))
    for tried in (free(decode(path, ())), shut_in(decode(path, FLAGS), path, shut)):
        assert tried.output == b""
        assert light(tried)


@pytest.fixture(scope="session")
def gap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two frames, the second 100,000 s after the first."""
    path = tmp_path_factory.mktemp("gap") / "gap.mkv"
    argv = [str(FFMPEG), "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=64x64:r=1:d=2"]
    argv += ["-c:v", "libx264", "-bf", "0", "-bsf:v", "setts=ts=N*100000/TB", str(path)]
    subprocess.run(argv, check=True)
    assert path.stat().st_size < 6000
    return path


def fill(gap: Path, flags: tuple[str, ...], output: Path) -> list[str]:
    argv = [str(FFMPEG), "-nostdin", "-v", "error", *flags, "-i", f"file:{gap}"]
    return [*argv, "-vf", "fps=30,scale=320:180", "-f", "rawvideo", str(output)]


def test_timestamp_gap_fills_the_disk_without(gap: Path, tmp_path: Path) -> None:
    output = tmp_path / "big"
    with subprocess.Popen(fill(gap, (), output)) as process:
        until = time.monotonic() + 20
        while time.monotonic() < until and process.poll() is None:
            if output.exists() and output.stat().st_size > 64 << 20:
                break
            time.sleep(0.02)
        process.kill()
    assert output.stat().st_size > 64 << 20


def test_timestamp_gap_is_stopped_by_the_launcher(gap: Path, tmp_path: Path, shut: Sandbox) -> None:
    output = tmp_path / "big"
    finished = run(
        fill(gap, FLAGS, output),
        sandbox=shut,
        limits=Limits(file_bytes=8 << 20, wall_s=30),
        access=Access(read=(gap,), write=tmp_path),
    )
    assert finished.limit == "file_size"
    assert output.stat().st_size <= 8 << 20


# ---- and honest work goes on ---------------------------------------------------------------------

WORK = {
    "x264": ("-c:v", "libx264", "-threads", "4", "-f", "mp4"),
    "x265": ("-c:v", "libx265", "-x265-params", "pools=2:log-level=error", "-f", "mp4"),
    "svtav1": ("-c:v", "libsvtav1", "-preset", "12", "-f", "mp4"),
    "vmaf": ("-lavfi", "split[a][b];[a][b]libvmaf=n_threads=2", "-f", "null"),
    "aac": ("-c:a", "aac", "-vn", "-f", "mp4"),
    "jpeg": ("-frames:v", "1", "-f", "image2"),
}


@pytest.mark.parametrize("kind", WORK)
def test_encoders_work_in_the_sandbox(kind: str, tmp_path: Path, shut: Sandbox) -> None:
    argv = [
        str(FFMPEG),
        "-nostdin",
        "-v",
        "warning",
        "-f",
        "lavfi",
        "-i",
        "testsrc2=s=320x180:d=0.4",
    ]
    argv += ["-f", "lavfi", "-i", "sine=d=0.4", *WORK[kind], str(tmp_path / "out.jpg")]
    finished = run(argv, sandbox=shut, limits=Limits(), access=Access(write=tmp_path))
    assert (finished.returncode, finished.limit) == (0, None), finished.log_tail
    assert kind == "vmaf" or (tmp_path / "out.jpg").stat().st_size > 1000


@pytest.mark.needs("ffmpeg")
def test_a_dynamically_linked_ffmpeg_works_in_the_sandbox(tmp_path: Path, shut: Sandbox) -> None:
    argv = ["/usr/bin/ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=d=0.4"]
    argv += ["-c:v", "libx264", str(tmp_path / "out.mp4")]
    finished = run(argv, sandbox=shut, limits=Limits(), access=Access(write=tmp_path))
    assert (finished.returncode, finished.log_tail) == (0, ())


def test_pyav_and_the_engine_can_be_imported_in_the_sandbox(shut: Sandbox) -> None:
    said: list[bytes] = []
    finished = run(
        [sys.executable, "-I", "-c", "import av, telecine.engine.media; print(av.__name__)"],
        sandbox=shut,
        limits=Limits(),
        access=Access(read=(SOURCES,)),
        sinks={1: said.append},
    )
    assert (finished.returncode, b"".join(said)) == (0, b"av\n"), finished.log_tail


@only_root
def test_root_may_use_files_of_others_that_are_named(tmp_path: Path, shut_files: Sandbox) -> None:
    """`sudo telecine transcode` in a home folder of mode 0700."""
    home = tmp_path / "home"
    folder = home / "out"
    folder.mkdir(parents=True)
    given = home / "given"
    given.write_text(CANARY)
    other = home / "other"
    other.write_text("other")
    for path in (given, other, folder, home):
        path.chmod(0o700)
        os.chown(path, STRANGER, STRANGER)
    script = "import sys; open('copy', 'w').write(open(sys.argv[1]).read()); open(sys.argv[2])"
    finished = run(
        [sys.executable, "-I", "-S", "-c", script, str(given), str(other)],
        sandbox=shut_files,
        limits=Limits(),
        access=Access(read=(given,), write=folder),
    )
    assert (folder / "copy").read_text() == CANARY
    assert re.search("PermissionError|FileNotFoundError", finished.log_tail[-1])


# Run by a small process of its own: Linux counts a child's memory from the size of its parent, and
# this one may hold the pictures of half a suite.
MEASURE = """
import pickle, sys
from telecine.engine.process import Access, Limits, run
argv, sandbox = pickle.load(sys.stdin.buffer)
finished = run(argv, sandbox=sandbox, limits=Limits(), access=Access())
sys.stdout.buffer.write(pickle.dumps((finished.cpu_s, finished.peak_rss_bytes, finished.signal)))
"""


def measured(argv: list[str], sandbox: Sandbox) -> Any:
    asked = pickle.dumps((argv, sandbox))
    said = subprocess.run(
        [sys.executable, "-c", MEASURE], input=asked, stdout=subprocess.PIPE, check=True
    )
    return pickle.loads(said.stdout)


def test_usage_is_the_programs_own(shut: Sandbox) -> None:
    python = [sys.executable, "-I", "-S", "-c"]
    script = "import time; x = b'x' * (200 << 20)\nwhile time.process_time() < 0.5: pass"
    cpu_s, peak_bytes, _ = measured([*python, script], shut)
    assert 0.5 <= cpu_s < 1
    assert 200 << 20 < peak_bytes < 400 << 20
    *_, ended_by = measured([*python, "import os; os.abort()"], shut)
    assert ended_by == signal.SIGABRT


# ---- the self-test -------------------------------------------------------------------------------


def test_every_act_of_the_self_test_succeeds_outside() -> None:
    """Else a tier would be trusted for refusing what the system refuses anyway."""
    script = "import sys; sys.path.insert(0, sys.argv[1])\n"
    script += "from telecine.engine import sandbox\n"
    script += "print(sandbox._self_test(sandbox._Kernel(), 'landlock', 0))"
    said = subprocess.run(
        [sys.executable, "-c", script, str(SOURCES)], stdout=subprocess.PIPE, check=True
    )
    assert re.match(rb"abi=0 refused=(namespace)? allowed=internet,unix,fork,", said.stdout)
    if ROOT:
        assert b"refused= " in said.stdout


def test_detect_takes_the_strongest_tier_and_is_quick() -> None:
    tier("seccomp")
    took = []
    for _ in range(5):
        started = time.monotonic()
        best = Sandbox.detect(ffmpeg=FFMPEG)
        took.append(time.monotonic() - started)
    works = [name for name in ("bwrap", "landlock", "seccomp") if works_here(name)]
    assert best.tier == works[0]
    assert best.passed == best.acts >= 7
    assert re.fullmatch(
        rf"sandbox tier={best.tier} abi=\d net=seccomp selftest=(7/7|9/9)", str(best)
    )
    assert min(took) < 0.3  # the others waited for a busy machine


def works_here(name: str) -> bool:
    try:
        tier(name)
    except BaseException as outcome:
        if type(outcome).__name__ in ("Skipped", "Failed"):
            return False
        raise
    return True


def test_without_a_tier_it_is_refused() -> None:
    with pytest.raises(StepFailed, match="no sandbox works") as caught:
        Sandbox.detect(tiers=("none",))
    assert caught.value.code == "sandbox_unavailable"
    assert Sandbox.detect(tiers=("none",), allow_none=True).tier == "none"


def test_what_cannot_be_shut_in_is_not_run(tmp_path: Path, shut_files: Sandbox) -> None:
    with pytest.raises(StepFailed) as caught:
        run(
            [sys.executable, "-c", f"open({str(tmp_path / 'ran')!r}, 'w')"],
            sandbox=shut_files,
            limits=Limits(),
            access=Access(read=(tmp_path / "missing",), write=tmp_path),
        )
    assert caught.value.code == "sandbox_failed"
    assert not (tmp_path / "ran").exists()


def test_the_demuxers_exist_and_follow_no_names() -> None:
    said = subprocess.run([FFMPEG, "-v", "quiet", "-demuxers"], stdout=subprocess.PIPE, check=True)
    known = set(re.findall(rb"^ D.. +(\S+)", said.stdout, re.M))
    assert {name.encode() for name in DEMUXERS} <= known
    never = "hls dash concat imf sdp rtsp rtp sap lavfi image2 image2pipe webm_dash_manifest vobsub"
    never += " dvdvideo avisynth rawvideo data tee concatf mpegtsraw ffmetadata"
    assert not set(never.split()) & set(DEMUXERS)
