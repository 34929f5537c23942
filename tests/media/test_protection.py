"""What streams, encrypted: other programs decrypt it with its key, to the bytes that the same run
makes in the clear, and `verify` tells what is wrong with it."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import pytest
from tests.media import damage
from tests.media.framecode import make

from telecine.engine.errors import UsageError
from telecine.engine.formats import cmaf
from telecine.engine.output import REPORT
from telecine.engine.profile import make_profile, parse_output
from telecine.engine.rules import Verification
from telecine.engine.tools import Tools
from telecine.engine.transcode import transcode
from telecine.engine.verify import verify
from telecine.engine.words.protection import Protection, make_protection, parse_key

SECRET = "101112131415161718191a1b1c1d1e1f"
KEY = parse_key(SECRET.encode())
OUTPUTS = ("hls", "storyboard", "preview", "poster")
SCHEMES = ("aes-128", "cbcs")
PICTURES, SOUND = "video/180p", "audio/aac"
IV = re.compile(r"IV=0x([0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class Made:
    """The same film in the clear and encrypted by each scheme."""

    source: Path
    folders: dict[str, Path] = field(default_factory=dict)


def profile_by(scheme: str | None) -> Protection | None:
    return None if scheme is None else make_protection(scheme, "key.bin", KEY)


def run(source: Path, folder: Path, scheme: str | None, tools: Tools) -> Path:
    wanted = tuple(map(parse_output, OUTPUTS))
    profile = make_profile(wanted, top="encode", protection=profile_by(scheme))
    key = None if scheme is None else KEY
    transcode(source, folder, profile, tools=tools, jobs=1, key=key)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str, tools: Tools) -> Made:
    """Eight seconds with B-pictures and sound, in two segments."""
    folder = tmp_path_factory.mktemp("protected")
    clip = make(folder / "s.mp4", ffmpeg=ffmpeg, rate=Fraction(24), seconds=8, size=(320, 180))
    folders = {
        scheme or "clear": run(clip.path, folder / (scheme or "clear"), scheme, tools)
        for scheme in (None, *SCHEMES)
    }
    return Made(clip.path, folders)


def segments(folder: Path, home: str) -> list[Path]:
    found = sorted((folder / home).glob("*.m4s"))
    assert len(found) == 2
    return found


# --- other programs -------------------------------------------------------------------------------


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("home", [PICTURES, SOUND])
def test_openssl_decrypts_whole_segments_to_the_clear_bytes(home: str, made: Made) -> None:
    folder = made.folders["aes-128"]
    ivs = IV.findall((folder / home / "index.m3u8").read_text())
    assert len(set(ivs)) == 2
    clear = segments(made.folders["clear"], home)
    for path, iv, wanted in zip(segments(folder, home), ivs, clear, strict=True):
        argv = ["openssl", "enc", "-d", "-aes-128-cbc", "-K", SECRET, "-iv", iv, "-in", str(path)]
        found = subprocess.run(argv, capture_output=True, check=True).stdout
        assert found == wanted.read_bytes()
    # What tells a player whether it can play at all is no secret.
    init = (folder / home / "init.mp4").read_bytes()
    assert init == (made.folders["clear"] / home / "init.mp4").read_bytes()


def decoded(ffmpeg: str, folder: Path, home: str, tmp_path: Path, *key: str) -> tuple[str, str]:
    """MD5 of all frames as FFmpeg's demuxer decrypts and its decoders show them; its complaints."""
    whole = tmp_path / f"{folder.name}.mp4"
    parts = [folder / home / "init.mp4", *segments(folder, home)]
    whole.write_bytes(b"".join(part.read_bytes() for part in parts))
    argv = [ffmpeg, "-v", "error", *key, "-i", str(whole), "-f", "md5", "-"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout, done.stderr


@pytest.mark.parametrize("home", [PICTURES, SOUND])
def test_ffmpeg_decrypts_samples_to_the_clear_frames(
    home: str, made: Made, ffmpeg: str, tmp_path: Path
) -> None:
    clear, _ = decoded(ffmpeg, made.folders["clear"], home, tmp_path)
    sealed = made.folders["cbcs"]
    assert clear.startswith("MD5=")
    assert decoded(ffmpeg, sealed, home, tmp_path, "-decryption_key", SECRET) == (clear, "")
    for key in ((), ("-decryption_key", SECRET[::-1])):
        found, complaints = decoded(ffmpeg, sealed, home, tmp_path, *key)
        assert found != clear
        assert complaints


def test_samples_decrypt_to_the_clear_files(made: Made) -> None:
    for home in (PICTURES, SOUND):
        clear, sealed = made.folders["clear"] / home, made.folders["cbcs"] / home
        init = (sealed / "init.mp4").read_bytes()
        assert cmaf.clear_init(init) == (clear / "init.mp4").read_bytes()
        track = cmaf.read_init(init)
        for path in segments(made.folders["cbcs"], home):
            data = path.read_bytes()
            assert data != (clear / path.name).read_bytes()
            assert cmaf.clear_segment(data, track, KEY.data) == (clear / path.name).read_bytes()


# --- what is made ---------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_key_is_nowhere_and_nothing_is_left_in_the_clear(scheme: str, made: Made) -> None:
    homes = (PICTURES, SOUND)
    clear = [path.read_bytes() for h in homes for path in segments(made.folders["clear"], h)]
    for path in made.folders[scheme].rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert KEY.data not in data
            assert SECRET.encode() not in data.lower()
            assert data not in clear
    assert not (made.folders["aes-128"] / "manifest.mpd").exists()
    assert (made.folders["cbcs"] / "manifest.mpd").exists()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_pictures_beside_the_film_are_those_of_the_clear_one(scheme: str, made: Made) -> None:
    for name in ("storyboard/00000.jpg", "preview.webp", "poster.jpg"):
        files = [made.folders[which] / name for which in ("clear", scheme)]
        assert files[0].read_bytes() == files[1].read_bytes(), name


@pytest.mark.parametrize("scheme", SCHEMES)
def test_report_and_loudness_are_those_of_the_clear_one(scheme: str, made: Made) -> None:
    report = json.loads((made.folders[scheme] / REPORT).read_text())
    plain = json.loads((made.folders["clear"] / REPORT).read_text())
    planned = profile_by(scheme)
    assert planned is not None
    assert report["protection"]["scheme"] == scheme
    assert report["protection"]["key_id"] == planned.key_id
    assert plain["protection"] is None
    assert report["sounds"] == plain["sounds"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_made_again_the_bytes_are_the_same(
    scheme: str, made: Made, tools: Tools, tmp_path: Path
) -> None:
    """Half of it is there already, half of it is made anew: vectors are not drawn by lot."""
    folder = Path(shutil.copytree(made.folders[scheme], tmp_path / "again"))
    before = {path.name: path.read_bytes() for path in segments(folder, PICTURES)}
    (folder / PICTURES / "00001.m4s").unlink()
    (folder / REPORT).unlink()
    run(made.source, folder, scheme, tools)
    assert {path.name: path.read_bytes() for path in segments(folder, PICTURES)} == before


# --- verify ---------------------------------------------------------------------------------------


def broken(found: Verification) -> set[str]:
    return {rule.name for rule in found.rules if not rule.passed}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_verify_takes_the_key_and_decodes(scheme: str, made: Made, tools: Tools) -> None:
    found = verify(made.folders[scheme], decode=True, tools=tools, key=KEY)
    assert broken(found) == set()
    names = {rule.name for rule in found.rules}
    assert {name for name in names if name.startswith("protection-")} == {
        *("protection-keys", "protection-samples", "protection-nothing-clear", "protection-mpd")
    }
    # Of the clear one nothing is asked about protection.
    clear = verify(made.folders["clear"])
    assert not any(rule.name.startswith("protection-") for rule in clear.rules)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_verify_needs_the_right_key(scheme: str, made: Made, tools: Tools) -> None:
    folder = made.folders[scheme]
    with pytest.raises(UsageError) as caught:
        verify(folder, key=parse_key(bytes(16)))
    assert caught.value.code == "key_mismatch"
    with pytest.raises(UsageError) as caught:
        verify(folder, decode=True, tools=tools)
    assert caught.value.code == "key_missing"


def test_samples_are_judged_without_the_key(made: Made) -> None:
    """All that stays readable is: boxes, headers of slices, playlists."""
    assert broken(verify(made.folders["cbcs"])) == set()


def test_without_a_plan_the_playlists_tell_of_it(made: Made, tmp_path: Path) -> None:
    for scheme in SCHEMES:
        folder = Path(shutil.copytree(made.folders[scheme], tmp_path / scheme))
        shutil.rmtree(folder / ".telecine")
        found = verify(folder, key=KEY)
        assert broken(found) == set()
        assert any(rule.name == "protection-keys" for rule in found.rules)


Do = Callable[[Path], object]


def _in(home: str, name: str, old: str, new: str) -> Callable[[Path], None]:
    return lambda folder: damage.edit(folder / home / name, old, new)


def _other_iv(folder: Path) -> None:
    """Of the second segment the first one's, in each playlist that names it; it does not decrypt
    to whole fragments then."""
    for name in ("index.m3u8", "growing.m3u8", "iframes.m3u8"):
        path = folder / PICTURES / name
        first, second = dict.fromkeys(IV.findall(path.read_text()))
        path.write_text(path.read_text().replace(second, first))


def _put_clear(made: Made) -> Do:
    clear = made.folders["clear"]
    return lambda folder: shutil.copy(clear / SOUND / "00000.m4s", folder / SOUND / "00000.m4s")


def _beside(made: Made) -> Do:
    """A plan would have refused it: one who judges by the folder alone finds it."""

    def do(folder: Path) -> None:
        shutil.rmtree(folder / ".telecine")
        shutil.copy(made.source, folder / "source.mp4")

    return do


def _less(folder: Path) -> None:
    """A picture's fragment says that 16 bytes less of it are encrypted."""
    path = folder / PICTURES / "00000.m4s"
    data = bytearray(path.read_bytes())
    at = damage.boxes(bytes(data), b"senc")[0] + 16
    clear, protected = (int.from_bytes(data[at + a : at + b]) for a, b in ((2, 4), (4, 8)))
    data[at + 2 : at + 8] = (clear + 16).to_bytes(2) + (protected - 16).to_bytes(4)
    path.write_bytes(data)


def _more(folder: Path) -> None:
    """A picture's fragment says that it goes on behind its end."""
    path = folder / PICTURES / "00000.m4s"
    at = damage.boxes(path.read_bytes(), b"senc")[0] + 12
    (protected,) = struct.unpack_from(">I", path.read_bytes(), at)
    damage.put(path, at, "I", protected + 16)


def _put_mpd(made: Made) -> Do:
    clear = made.folders["clear"]
    return lambda folder: shutil.copy(clear / "manifest.mpd", folder)


def _another_key_id(folder: Path) -> None:
    init = folder / PICTURES / "init.mp4"
    (at,) = damage.boxes(init.read_bytes(), b"tenc")
    damage.put(init, at + 8, "I", 0)


GROWING = "growing-playlists"  # names the same segments with the same keys

# What it is aimed at, the scheme, what it is, how it is done, and what else it breaks.
DAMAGES: tuple[tuple[str, str, str, Callable[[Made], Do], tuple[str, ...]], ...] = (
    (
        *("protection-keys", "cbcs", "another URI"),
        lambda _: _in(PICTURES, "iframes.m3u8", "key.bin", "other.bin"),
        (),
    ),
    (
        *("protection-keys", "cbcs", "no key while it grew"),
        lambda _: _in(SOUND, "growing.m3u8", "#EXT-X-KEY.*\n", ""),
        (GROWING,),
    ),
    (
        *("protection-keys", "cbcs", "an IV that is not the track's"),
        lambda _: _in(SOUND, "index.m3u8", "IV=0x[0-9a-f]{4}", "IV=0x0000"),
        (GROWING,),
    ),
    (
        *("protection-keys", "cbcs", "another format"),
        lambda _: _in(PICTURES, "iframes.m3u8", '"identity"', '"com.example"'),
        (),
    ),
    ("protection-keys", "aes-128", "an IV twice", lambda _: _other_iv, ("files-whole",)),
    ("protection-samples", "cbcs", "less is encrypted", lambda _: _less, ()),
    ("protection-samples", "cbcs", "another key", lambda _: _another_key_id, ()),
    (
        *("protection-nothing-clear", "cbcs", "a file beside it"),
        _beside,
        ("progressive-mp4",),
    ),
    ("protection-nothing-clear", "cbcs", "a clear segment", _put_clear, ("files-whole",)),
    ("protection-nothing-clear", "aes-128", "a clear segment", _put_clear, ("files-whole",)),
    ("files-whole", "cbcs", "more is encrypted than there is", lambda _: _more, ()),
    ("protection-mpd", "aes-128", "an MPD", _put_mpd, ("mpd-attributes",)),
    (
        *("protection-mpd", "cbcs", "another key"),
        lambda _: _in(".", "manifest.mpd", 'default_KID="....', 'default_KID="0000'),
        (),
    ),
    (
        *("protection-mpd", "cbcs", "another scheme"),
        lambda _: _in(".", "manifest.mpd", 'value="cbcs"', 'value="cenc"'),
        (),
    ),
)


@pytest.mark.parametrize("case", DAMAGES, ids=lambda case: f"{case[0]}-{case[2]}")
def test_damage_breaks_the_rules_that_it_breaks(
    case: tuple[str, str, str, Callable[[Made], Do], tuple[str, ...]],
    made: Made,
    tmp_path: Path,
) -> None:
    aim, scheme, _, do, also = case
    folder = Path(shutil.copytree(made.folders[scheme], tmp_path / "damaged"))
    do(made)(folder)
    found = verify(folder, key=KEY)
    figures = {rule.name: rule.figure for rule in found.rules if not rule.passed}
    assert set(figures) == {aim, *also}, figures


def test_what_cannot_be_decrypted_does_not_decode(made: Made, tools: Tools, tmp_path: Path) -> None:
    """Two pictures are shown at one time, which no fragment that is written here says."""
    folder = Path(shutil.copytree(made.folders["cbcs"], tmp_path / "damaged"))
    damage.reoffset(folder / PICTURES / "00000.m4s", 0, lambda offsets: [offsets[0]] * len(offsets))
    assert "decodes" in broken(verify(folder, decode=True, tools=tools, key=KEY))
