"""What every suite shares: absent programs, no network, where FFmpeg and the media corpus are."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import imageio_ffmpeg
import pytest
from hypothesis import settings

from telecine.engine.tools import Tools, find_tools

ROOT = Path(__file__).parents[1]
OFFLINE = (ROOT / "tests" / "unit", ROOT / "tests" / "programs")
CORPUS = Path(os.environ.get("TELECINE_MEDIA", ROOT.parent / "shared" / "media"))

# How long one example takes on a busy machine says nothing about the code. `make test-unit` tries
# few examples of each property, `make test-thorough` the whole number.
settings.register_profile("telecine", deadline=None)
settings.register_profile("quick", settings.get_profile("telecine"), max_examples=40)
settings.load_profile("telecine")

# Who starts the tests in the background may have these ignored, and children inherit that; the
# tests that interrupt the command need it to start as a user's shell starts it.
for _signal in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(_signal) is signal.SIG_IGN:
        handler = signal.default_int_handler if _signal == signal.SIGINT else signal.SIG_DFL
        signal.signal(_signal, handler)

_LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")
_reachable: tuple[str, ...] = _LOOPBACK


def _refuse_network(event: str, args: tuple[object, ...]) -> None:
    if event == "socket.connect":
        address = args[1]
        host = address[0] if isinstance(address, tuple) else None
    elif event == "socket.getaddrinfo":
        host = args[0]
    else:
        return
    if host is not None and not str(host).startswith(_reachable):
        raise PermissionError(f"a test asked for the network: {event} {host!r}")


# An audit hook also sees connections that C code and libraries make, and cannot be undone by one.
sys.addaudithook(_refuse_network)


def pytest_runtest_setup(item: pytest.Item) -> None:
    global _reachable
    _reachable = () if any(map(item.path.is_relative_to, OFFLINE)) else _LOOPBACK
    for mark in item.iter_markers("needs"):
        for program in mark.args:
            if shutil.which(program) is None:
                _not_run(f"needs {program}")


def _not_run(why: str) -> None:
    """A test that cannot run here: reported, and failed where everything must be installed."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"not run: {why}", pytrace=False)
    pytest.skip(f"not run: {why}")


@pytest.fixture(scope="session")
def ffmpeg() -> str:
    """The FFmpeg that Telecine ships with."""
    return str(imageio_ffmpeg.get_ffmpeg_exe())


@pytest.fixture(scope="session")
def tools() -> Tools:
    """FFmpeg and the sandbox's tier: they test themselves, so once is enough."""
    return find_tools()


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The media corpus: real files, kept outside the project."""
    if not (CORPUS / "manifest.tsv").is_file():
        # Absent in CI too: it is no program that could be installed there.
        pytest.skip("not run: needs the media corpus (TELECINE_MEDIA)")
    return CORPUS
