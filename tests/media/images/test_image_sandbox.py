"""An image worker as an attacker meets it who took it over.

Every attack runs twice, each time in a worker that the pool itself started and speaks with: in tier
`none`, where it must succeed (or it would prove nothing), and in every tier that this system has,
where it must fail.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from tests.media.attacked import Listener, tier, victim

from telecine.engine.images.grammar import parse_text
from telecine.engine.images.pool import ImageWorkers
from telecine.engine.images.transform import transform
from telecine.engine.images.values import ImageLimits, Wanted
from telecine.engine.images.wire import Request, Source
from telecine.engine.process import Sandbox
from telecine.engine.sandbox import CONFINES_FILES
from telecine.engine.tools import Tools

CANARY = "canary-8812"

# Runs what the request's only blob says, again and again, and answers with what it said.
TAKEN_OVER = """
import ctypes, os, signal, socket, sys, time
from telecine.engine.images.wire import Answer, Incoming, decode_request, encode_answer
libc = ctypes.CDLL(None, use_errno=True)
while True:
    incoming = Incoming(1 << 20)
    while not incoming.done:
        count = os.readv(3, [incoming.room()])
        if not count: sys.exit()
        incoming.took(count)
    said = []
    try:
        exec(bytes(decode_request(incoming.message())[1][0]))
    except BaseException as error:
        said.append(f"refused: {error!r}")
    for piece in encode_answer(Answer({"said": [str(each) for each in said]})):
        left = memoryview(piece)
        while left: left = left[os.write(4, left):]
"""


@dataclass
class World:
    """What there is to attack."""

    secret: Path
    folder: Path
    server: Listener
    victim: subprocess.Popen[bytes]
    said: list[str]

    def names(self) -> str:
        """The attack's first line."""
        return (
            f"secret, folder = {str(self.secret)!r}, {str(self.folder)!r}\n"
            f"port, victim, parent = {self.server.name[1]}, {self.victim.pid}, {os.getpid()}\n"
        )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    secret = tmp_path / "sources" / "holiday.jpg"
    secret.parent.mkdir()
    secret.write_text(CANARY)
    folder = tmp_path / "folder"
    folder.mkdir()
    server = Listener(socket.AF_INET, ("127.0.0.1", 0))
    with victim() as process:
        yield World(secret, folder, server, process, [])
    server.close()


@dataclass(frozen=True)
class Attack:
    name: str
    script: str
    succeeded: Callable[[World], bool]
    confines_files: bool = False  # stopped by the tiers that confine files only


def says(word: str) -> Callable[[World], bool]:
    return lambda world: any(word in each for each in world.said)


ATTACKS = (
    Attack(
        "read /etc/passwd",
        "said.append(open('/etc/passwd').read())",
        says("root:"),
        confines_files=True,
    ),
    Attack(
        "read the folder of the sources",
        "said += [open(os.path.dirname(secret) + '/' + name).read()\n"
        "         for name in os.listdir(os.path.dirname(secret))]",
        says(CANARY),
        confines_files=True,
    ),
    Attack(
        "read the parent's environment",
        "said.append(len(open(f'/proc/{parent}/environ').read()) and 'read')",
        says("read"),
        confines_files=True,
    ),
    Attack(
        "write a file",
        "open(folder + '/planted', 'w').write('x')",
        lambda w: (w.folder / "planted").exists(),
    ),
    Attack(
        "make a file without a name",
        "fd = os.open('/tmp', os.O_TMPFILE | os.O_WRONLY)\nsaid.append('opened')",
        says("opened"),
    ),
    # Not a byte can be written even outside (RLIMIT_FSIZE is 0), but bytes could be lost.
    Attack("empty a source", "open(secret, 'w')", lambda w: not w.secret.read_text()),
    Attack("delete a source", "os.unlink(secret)", lambda w: not w.secret.exists()),
    Attack(
        "connect to a port",
        "socket.create_connection(('127.0.0.1', port))",
        lambda w: w.server.visited.wait(0.5),
    ),
    Attack(
        "make a UNIX socket",
        "socket.socket(socket.AF_UNIX); said.append('made')",
        says("made"),
    ),
    Attack(
        "start a process",
        "if os.fork() == 0: os._exit(0)\nsaid.append('forked')",
        says("forked"),
    ),
    Attack(
        "become a shell",
        "if os.fork() == 0:\n"
        "    os.execv('/bin/sh', ['sh', '-c', 'true'])\n"
        "said.append(os.waitstatus_to_exitcode(os.wait()[1]) == 0 and 'ran')",
        says("ran"),
    ),
    Attack("signal its parent", "os.kill(parent, 0); said.append('sent')", says("sent")),
    Attack(
        "kill another process",
        "os.kill(victim, signal.SIGKILL); time.sleep(0.2)",
        lambda w: w.victim.poll() is not None,
    ),
    Attack(
        "trace another process",
        "said.append('traced' if libc.ptrace(16, victim, 0, 0) == 0 else 'no')",
        says("traced"),
    ),
    Attack(
        "outlive its parent",
        "said.append('will' if libc.prctl(1, 0, 0, 0, 0) == 0 else 'no')",
        says("will"),
    ),
    Attack(
        "reach into the parent by its descriptors",
        "for fd in range(5, 1024):\n"
        "    try: os.fstat(fd); said.append(f'has {fd}')\n"
        "    except OSError: pass\n",
        lambda w: False,  # also outside: descriptors are closed in every tier
    ),
)  # fmt: skip


def attack(act: Attack, world: World, sandbox: Sandbox) -> bool:
    tools = Tools(Path("/nonexistent"), "none", sandbox)
    argv = (sys.executable, "-I", "-c", TAKEN_OVER)
    with ImageWorkers(tools, count=1, limits=ImageLimits(), argv=argv) as workers:
        script = (world.names() + act.script).encode()
        request = Request("inspect", Source("png"), ImageLimits())
        world.said[:] = workers.ask(request, [script], wall_s=20).facts["said"]
    return act.succeeded(world)


@pytest.mark.parametrize("act", ATTACKS[:-1], ids=lambda act: act.name)
def test_an_attack_succeeds_outside(act: Attack, world: World) -> None:
    assert attack(act, world, tier("none")), world.said


@pytest.mark.parametrize("where", ["bwrap", "landlock", "seccomp"])
@pytest.mark.parametrize("act", ATTACKS[:-1], ids=lambda act: act.name)
def test_an_attack_from_inside_a_worker_fails(act: Attack, where: str, world: World) -> None:
    sandbox = tier(where)
    if act.confines_files and where not in CONFINES_FILES:
        pytest.skip("this tier does not confine reading, and says so")
    assert not attack(act, world, sandbox), world.said
    assert world.said == [] or "refused" in world.said[0] or world.said == ["no"]


@pytest.mark.parametrize("where", ["none", "bwrap", "landlock", "seccomp"])
def test_a_worker_has_two_pipes_and_standard_error(where: str, world: World) -> None:
    """No other descriptor: neither ours nor another worker's."""
    attack(ATTACKS[-1], world, tier(where))
    assert world.said == []


@pytest.mark.parametrize("where", ["bwrap", "landlock", "seccomp"])
def test_the_real_worker_works_in_every_tier(where: str, tmp_path: Path) -> None:
    source = tmp_path / "in.png"
    Image.new("RGB", (60, 40), "red").save(source)
    tools = Tools(Path("/nonexistent"), "none", tier(where))
    wanted = Wanted(parse_text("resize:w=30;watermark:text=Hi"), "webp")
    with ImageWorkers(tools, count=1, limits=ImageLimits()) as workers:
        made = transform(workers, source, wanted)
    assert (made.width, made.height) == (30, 20)


def test_what_one_picture_leaves_behind_ends_with_its_worker(world: World) -> None:
    """A worker that was taken over keeps what it saw until it is replaced: after so many pictures,
    and never longer."""
    tools = Tools(Path("/nonexistent"), "none", tier("seccomp"))
    argv = (sys.executable, "-I", "-c", TAKEN_OVER)
    with ImageWorkers(tools, count=1, limits=ImageLimits(), argv=argv, images_each=2) as workers:
        request = Request("inspect", Source("png"), ImageLimits())
        said = []
        for _ in range(4):
            script = b"libc.seen = getattr(libc, 'seen', 0) + 1 if 'seen' in vars(libc) else 1\n"
            script += b"said.append(libc.seen)"
            said += workers.ask(request, [script]).facts["said"]
            time.sleep(0.05)
    assert said == ["1", "2", "1", "2"]
