"""What is encrypted plays with its key, and not without: in real players, by Chromium's own
WebCrypto (AES-128) and Clear Key module (`cbcs`)."""

from __future__ import annotations

import base64
import json
import re
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route
from tests.e2e.browser import Player, PlayerName, Report, unstarved
from tests.e2e.command import Transcode
from tests.e2e.server import MediaServer
from tests.media import framecode

pytestmark = pytest.mark.needs("chromium")

RATE, SECONDS = Fraction(24), 7  # two segments
KEY = bytes(range(0x10, 0x20))
KEY_ID = "000102030405060708090a0b0c0d0e0f"

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "protected-playback.md"
SNIPPETS: dict[PlayerName, str] = dict(
    zip(
        ("shaka", "dashjs", "hlsjs"),
        re.findall("```js\n(.*?)```", PAGE.read_text(), re.DOTALL),
        strict=True,
    )
)

# scheme, player, manifest
Way = tuple[str, PlayerName, str]
WAYS: tuple[Way, ...] = (
    ("aes-128", "hlsjs", "master.m3u8"),
    ("aes-128", "shaka", "master.m3u8"),
    ("cbcs", "shaka", "master.m3u8"),
    ("cbcs", "shaka", "manifest.mpd"),
    ("cbcs", "dashjs", "manifest.mpd"),
    ("cbcs", "hlsjs", "master.m3u8"),
)


@pytest.fixture(scope="session")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "film.key"
    path.write_bytes(KEY)
    return path


def protected(transcode: Transcode, ffmpeg: str, scheme: str, key_file: Path) -> Path:
    def source(folder: Path) -> Path:
        path = folder / "source.mp4"
        framecode.make(path, ffmpeg=ffmpeg, rate=RATE, seconds=SECONDS, size=(320, 180))
        return path

    options = ("--top", "encode", "--output", "hls", "--protect", scheme, "--key-id", KEY_ID)
    key = ("--key-file", str(key_file), "--key-uri", "key.bin")
    return transcode(f"protected-{scheme}", source, (*options, *key))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _serve(player: Player, key: bytes | None) -> None:
    """The key where the playlists say it is, and licences as Clear Key has them (EME, 9.1)."""

    def give(route: Route) -> None:
        if key is None:
            route.fulfill(status=403)
        elif route.request.method == "GET":
            route.fulfill(status=200, body=key)
        else:
            kids = json.loads(route.request.post_data or "{}")["kids"]
            keys = [{"kty": "oct", "kid": kid, "k": _base64url(key)} for kid in kids]
            body = json.dumps({"keys": keys, "type": "temporary"})
            anyone = {"Access-Control-Allow-Origin": "*"}
            route.fulfill(status=200, content_type="application/json", headers=anyone, body=body)

    player.answer("**/key.bin", give)
    player.answer("https://keys.example.com/**", give)


def _snippet(name: PlayerName, key: bytes | None) -> dict[str, object]:
    """The how-to's own words for a player, with the key where they leave it to the reader."""
    given = {"keyIdHex": KEY_ID, "keyIdBase64url": _base64url(bytes.fromhex(KEY_ID))}
    if key is not None:
        given |= {"keyHex": key.hex(), "keyBase64url": _base64url(key)}
    return {"snippet": {"code": SNIPPETS[name], "given": given}}


def watch(browser: Browser, folder: Path, way: Way, key: bytes | None) -> tuple[Report, int | None]:
    """Watched until it ends, or an error, or it has stood still for long enough; the number of the
    picture that stands there then."""
    scheme, name, manifest = way
    config: dict[str, object] = {}
    with MediaServer(folder) as server, Player(browser, server) as player:
        _serve(player, key)
        if (scheme, name) == ("cbcs", "hlsjs") or (manifest == "manifest.mpd" and key is not None):
            config = _snippet(name, key)
        report = player.watch(name, manifest, config=config, timeout_s=30 if key == KEY else 8)
        return report, player.last_number()


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_it_plays_with_its_key(
    way: Way, browser: Browser, transcode: Transcode, ffmpeg: str, key_file: Path
) -> None:
    folder = protected(transcode, ffmpeg, way[0], key_file)
    report, last = unstarved(partial(watch, browser, folder, way, KEY), lambda seen: seen[0])
    assert report.errors == ()
    assert report.ended
    assert last == RATE * SECONDS - 1
    if way[0] == "aes-128":
        assert report.misplaced(RATE) == []
    else:
        # A key system shows its pictures to viewers, and to no script.
        times = [frame.time for frame in report.frames]
        assert times == sorted(times)
        assert times[-1] > SECONDS - 1


@pytest.mark.parametrize("key", [None, bytes(16)], ids=["none", "another"])
@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_it_does_not_play_without_its_key_or_with_another(
    way: Way,
    key: bytes | None,
    browser: Browser,
    transcode: Transcode,
    ffmpeg: str,
    key_file: Path,
) -> None:
    folder = protected(transcode, ffmpeg, way[0], key_file)
    report, last = watch(browser, folder, way, key)
    assert not report.ended
    assert report.time == 0
    assert last is None
    assert all(frame.number is None for frame in report.frames)
