"""Protection together with the other wishes: a copied top rung, clips, joined films, qualities that
are aimed at or measured, playlists that grow. What another program decrypts is the very film."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from tests.media.framecode import frames, make
from tests.media.test_protection import KEY, SCHEMES, SECRET, broken

from telecine.engine.events import Event
from telecine.engine.output import REPORT
from telecine.engine.profile import Profile, make_profile
from telecine.engine.tools import Tools
from telecine.engine.transcode import transcode
from telecine.engine.verify import verify
from telecine.engine.words.clip import parse_clip
from telecine.engine.words.protection import make_protection

RATE = Fraction(24)
ENTRY = re.compile(r'#EXT-X-KEY:METHOD=AES-128,URI="../../key.bin",IV=0x([0-9a-f]{32}),.*\n'
                   r"#EXTINF:.*\n(\d{5}\.m4s)\n")  # fmt: skip


def profile_by(scheme: str, **wishes: Any) -> Profile:
    return make_profile(protection=make_protection(scheme, "key.bin", KEY), **wishes)


def opened(ffmpeg: str, home: Path, playlist: str = "index.m3u8") -> bytes:
    """A rendition as one clear file: AES-128 by the vectors that a playlist tells, `cbcs` by
    FFmpeg's demuxer."""
    init, text = (home / "init.mp4").read_bytes(), (home / playlist).read_text()
    found = [(bytes.fromhex(iv), home / name) for iv, name in ENTRY.findall(text)]
    if found:
        return init + b"".join(_unlocked(iv, path.read_bytes()) for iv, path in found)
    names = re.findall(r"^\d{5}\.m4s$", text, re.MULTILINE)
    whole = init + b"".join((home / name).read_bytes() for name in names)
    argv = [ffmpeg, "-v", "error", "-decryption_key", SECRET, "-i", "pipe:0", "-c", "copy"]
    argv += ["-f", "matroska", "-"]
    return subprocess.run(argv, input=whole, capture_output=True, check=True).stdout


def _unlocked(iv: bytes, data: bytes) -> bytes:
    cipher = Cipher(algorithms.AES128(KEY.data), modes.CBC(iv)).decryptor()
    clear = cipher.update(data) + cipher.finalize()
    assert clear[4:8] == b"styp"
    return clear[: -clear[-1]]


def numbers(ffmpeg: str, home: Path, playlist: str = "index.m3u8") -> list[int | None]:
    return [shown.number for shown in frames(opened(ffmpeg, home, playlist), ffmpeg=ffmpeg)]


def judged(folder: Path, tools: Tools) -> None:
    """It verifies to the last picture, and no working file of it is left, which would be clear."""
    assert broken(verify(folder, decode=True, tools=tools, key=KEY)) == set()
    left = [path for path in (folder / ".telecine").rglob("*") if path.is_file()]
    assert {path.name for path in left if path.suffix != ".json"} <= {"lock"}


# --- a copied top rung, clipped, measured, watched while it grows ---------------------------------


@dataclass(slots=True)
class Growing:
    """What lay there when a film was first said to be playable: each rendition's numbers."""

    folder: Path
    ffmpeg: str
    seen: dict[str, list[int | None]] = field(default_factory=dict)
    texts: dict[Path, str] = field(default_factory=dict)

    def hear(self, event: Event) -> None:
        if event.name == "playable":
            for path in self.folder.glob("video/*/growing.m3u8"):
                self.texts[path] = path.read_text()
                self.seen[path.parent.name] = numbers(self.ffmpeg, path.parent, path.name)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Path:
    """IDR pictures every two seconds, so that the top rung of a clip may be a copy."""
    path = tmp_path_factory.mktemp("with") / "s.mp4"
    video = ("-c:v", "libx264", "-preset", "superfast", "-g", "48", "-sc_threshold", "0")
    make(path, ffmpeg=ffmpeg, rate=RATE, seconds=14, size=(640, 360), video=video)
    return path


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_clip_with_a_copied_rung_that_grows_and_is_measured(
    scheme: str, source: Path, ffmpeg: str, tools: Tools, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    growing = Growing(folder, ffmpeg)
    profile = profile_by(scheme, rungs=(360, 180), clip=parse_clip("2-12"), measure=True)
    transcode(source, folder, profile, tools=tools, jobs=1, on_event=growing.hear, key=KEY)
    judged(folder, tools)
    report = json.loads((folder / REPORT).read_text())
    rungs = {rung["name"]: rung for rung in report["rungs"]}
    assert rungs["360p"]["mode"] == "copy"
    assert rungs["180p"]["quality"]["measured_vmaf"] > 50
    clip = list(range(48, 288))
    for name in ("360p", "180p"):
        assert numbers(ffmpeg, folder / "video" / name) == clip
    # It could be played with the key from the first moment on, and by what was said then.
    assert growing.seen["360p"]
    for found in growing.seen.values():
        assert found == clip[: len(found)]
    for path, text in growing.texts.items():
        assert path.read_text().startswith(text.removesuffix("#EXT-X-ENDLIST\n"))


def test_a_rung_is_encoded_where_its_copy_cannot_be_encrypted(
    ffmpeg: str, tools: Tools, tmp_path: Path
) -> None:
    """44 slices a picture are more than a fragment can tell of: see `cenc.sample_boxes`."""
    source = tmp_path / "s.mp4"
    picture = ["-f", "lavfi", "-i", "color=c=teal:s=256x704:r=24:d=4", "-c:v", "libx264"]
    sliced = ["-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "48", "-x264-params"]
    argv = [ffmpeg, "-v", "error", *picture, *sliced, "slices=44:scenecut=0", str(source)]
    subprocess.run(argv, check=True)
    modes = {}
    for scheme in SCHEMES:
        folder = tmp_path / scheme
        profile = profile_by(scheme, rungs=(256,))
        transcode(source, folder, profile, tools=tools, jobs=1, key=KEY)
        judged(folder, tools)
        report = json.loads((folder / REPORT).read_text())
        modes[scheme] = [rung["mode"] for rung in report["rungs"]]
    assert modes == {"aes-128": ["copy"], "cbcs": ["encode"]}


# --- joined films ---------------------------------------------------------------------------------


def test_joined_films_are_one_encrypted_film(ffmpeg: str, tools: Tools, tmp_path: Path) -> None:
    """The second one is read from a working copy. Its segments have the whole's vectors."""
    small: dict[str, Any] = {"ffmpeg": ffmpeg, "rate": RATE, "size": (320, 180)}
    first = make(tmp_path / "a.mp4", seconds=3, **small).path
    second = make(tmp_path / "b.ts", seconds=4, **small).path
    wanted = [*range(72), *range(96)]
    for scheme in SCHEMES:
        folder = tmp_path / scheme
        profile = profile_by(scheme, concat=1)
        inputs = dict(zip(profile.inputs, [second], strict=True))
        transcode(first, folder, profile, tools=tools, jobs=1, inputs=inputs, key=KEY)
        judged(folder, tools)
        assert numbers(ffmpeg, folder / "video" / "180p") == wanted


# --- a quality that is aimed at -------------------------------------------------------------------


def test_a_quality_is_searched_for_and_then_encrypted(
    ffmpeg: str, tools: Tools, tmp_path: Path
) -> None:
    """Two plans, one after the other: what plays has the second one's vectors."""
    source = make(tmp_path / "s.mp4", ffmpeg=ffmpeg, rate=RATE, seconds=3, size=(320, 180)).path
    folder = tmp_path / "out"
    profile = profile_by("aes-128", rungs=(180,), top="encode", quality=80.0, measure=True)
    transcode(source, folder, profile, tools=tools, jobs=1, key=KEY)
    judged(folder, tools)
    report = json.loads((folder / REPORT).read_text())
    (found,) = (rung["quality"] for rung in report["rungs"] if rung["name"] == "180p")
    assert found["target_vmaf"] == 80
    assert found["measured_vmaf"] is not None
    assert numbers(ffmpeg, folder / "video" / "180p") == list(range(72))


# --- HEVC -----------------------------------------------------------------------------------------


def test_samples_of_hevc_are_encrypted_beside_those_of_h264(
    ffmpeg: str, tools: Tools, tmp_path: Path
) -> None:
    """FFmpeg decrypts them to the film, and without the key decodes nothing that can be read."""
    source = make(tmp_path / "s.mp4", ffmpeg=ffmpeg, rate=RATE, seconds=3, size=(320, 180)).path
    folder = tmp_path / "out"
    profile = profile_by("cbcs", rungs=(180,), top="encode", codecs=("h264", "hevc"))
    transcode(source, folder, profile, tools=tools, jobs=1, key=KEY)
    judged(folder, tools)
    home = folder / "video" / "hevc-180p"
    assert numbers(ffmpeg, home) == list(range(72))
    whole = b"".join(path.read_bytes() for path in (home / "init.mp4", *sorted(home.glob("*.m4s"))))
    argv = [ffmpeg, "-v", "error", "-i", "pipe:0", "-f", "null", "-"]
    locked = subprocess.run(argv, input=whole, capture_output=True, check=False)
    assert locked.stderr
