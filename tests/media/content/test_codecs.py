"""Ladders of several codecs: what is published when, that bytes do not depend on how they were
made, and that `verify` sees what is wrong with each. Joins stand in test_joins, HDR in test_hdr."""

from __future__ import annotations

import hashlib
import json
import re
from fractions import Fraction
from pathlib import Path

import pytest
from tests.media.framecode import make
from tests.media.running import telecine

from telecine.engine.events import Event
from telecine.engine.profile import Output, make_profile
from telecine.engine.tools import Tools
from telecine.engine.transcode import transcode

ALL = ("--codec", "h264,av1,hevc", "--top", "encode", "--output", "hls")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Path:
    path = tmp_path_factory.mktemp("codecs") / "source.mp4"
    return make(path, ffmpeg=ffmpeg, rate=Fraction(24), seconds=42, noise=12).path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Path:
    """Two segments of a film that is quick to encode."""
    folder = tmp_path_factory.mktemp("codecs")
    short = make(folder / "source.mp4", ffmpeg=ffmpeg, rate=Fraction(24), seconds=12).path
    run = telecine("transcode", short, "-o", folder / "out", *ALL, "--jobs", "2", timeout_s=240)
    assert run.code == 0, run.out + run.err
    return folder / "out"


def digests(folder: Path) -> dict[str, str]:
    files = [*folder.glob("video/*/*"), folder / "master.m3u8", folder / "manifest.mpd"]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


@pytest.mark.thorough
def test_two_runs_give_the_same_bytes(source: Path) -> None:
    """One with two chunks side by side, the other with one after another."""
    folders = {"2": source.parent / "out", "1": source.parent / "again"}
    for jobs, out in folders.items():
        run = telecine("transcode", source, "-o", out, *ALL, "--jobs", jobs, timeout_s=240)
        assert run.code == 0, run.out + run.err
        assert len(json.loads((out / ".telecine" / "plan.json").read_text())["chunks"]) == 2
    assert digests(folders["1"]) == digests(folders["2"])


def test_every_codec_has_the_same_segments_in_one_playlist_and_one_mpd(made: Path) -> None:
    text = (made / "master.m3u8").read_text()
    uris = re.findall(r"^(video/\S+)$", text, re.MULTILINE)
    assert uris == [
        f"video/{prefix}{side}p/index.m3u8"
        for prefix in ("", "av1-", "hevc-")
        for side in (360, 240)
    ]
    times = {uri: re.findall(r"#EXTINF:([\d.]+)", (made / uri).read_text()) for uri in uris}
    assert len({tuple(each) for each in times.values()}) == 1
    sets = re.findall(
        r'<AdaptationSet[^>]*contentType="video".*?</AdaptationSet>',
        (made / "manifest.mpd").read_text(),
        re.DOTALL,
    )
    assert [set(re.findall(r'codecs="(\w{4})', each)) for each in sets] == [
        {"avc1"},
        {"av01"},
        {"hvc1"},
    ]


def test_h264_plays_before_the_others_are_there(tmp_path: Path, tools: Tools, ffmpeg: str) -> None:
    source = tmp_path / "source.mp4"
    make(source, ffmpeg=ffmpeg, rate=Fraction(24), seconds=33, size=(320, 240))
    out = tmp_path / "growing"
    first: list[str] = []

    def hear(event: Event) -> None:
        if event.name == "playable":
            first.append((out / "master.m3u8").read_text())

    profile = make_profile((Output("hls"),), (240, 144), "encode", codecs=("h264", "av1"))
    transcode(source, out, profile, tools=tools, jobs=1, on_event=hear)
    assert re.findall(r"^video/(\S+)/growing.m3u8$", first[0], re.MULTILINE) == ["240p", "144p"]


def test_every_rule_holds_and_everything_decodes(made: Path) -> None:
    found = telecine("verify", made, "--decode", timeout_s=240)
    assert found.code == 0, found.out


# Where each codec's key picture says that it is one, and what says otherwise.
SPOILS = {
    # HEVC: the NAL unit header of IDR_W_RADL (19) or IDR_N_LP (20) made a CRA's (21).
    "hevc-240p": ((b"\x26\x01", b"\x28\x01"), b"\x2a\x01"),
    # AV1: OBU_SEQUENCE_HEADER (type 1, sized) made a padding unit (15).
    "av1-240p": ((b"\x0a",), b"\x7a"),
}


@pytest.mark.parametrize("name", SPOILS)
def test_a_segment_that_does_not_start_with_a_key_picture_is_seen(
    name: str, made: Path, tmp_path: Path
) -> None:
    segment = made / "video" / name / "00001.m4s"
    whole = segment.read_bytes()
    heads, other = SPOILS[name]
    payload = whole.index(b"mdat") + 4
    at = min(place for head in heads if (place := whole.find(head, payload, payload + 64)) > 0)
    try:
        segment.write_bytes(whole[:at] + other + whole[at + len(other) :])
        found = telecine("verify", made, timeout_s=60)
    finally:
        segment.write_bytes(whole)
    assert found.code == 1
    assert re.search(r"BROKEN +idr-at-segment-start: \S*00001.m4s does not start", found.out)


def test_a_rendition_of_another_codec_than_planned_is_seen(made: Path) -> None:
    init = made / "video" / "av1-240p" / "init.mp4"
    own, other = init.read_bytes(), (made / "video" / "hevc-240p" / "init.mp4").read_bytes()
    try:
        init.write_bytes(other)
        found = telecine("verify", made, timeout_s=60)
    finally:
        init.write_bytes(own)
    assert found.code == 1
    assert "video/av1-240p: coded as hvc1, planned av1" in found.out


@pytest.mark.parametrize("range_said", ["PQ", "HLG"])
def test_a_range_that_is_not_so_is_seen(range_said: str, made: Path) -> None:
    master = made / "master.m3u8"
    text = master.read_text()
    try:
        master.write_text(re.sub(r"(,RESOLUTION=\w+)", rf"\1,VIDEO-RANGE={range_said}", text))
        found = telecine("verify", made, timeout_s=60)
    finally:
        master.write_text(text)
    assert found.code == 1
    assert re.search(rf"BROKEN +video-range: .*VIDEO-RANGE {range_said}, coded SDR", found.out)


@pytest.mark.parametrize(("name", "entry"), [("av1-240p", b"av01"), ("hevc-240p", b"hvc1")])
def test_a_sample_entry_of_another_size_than_the_pictures_is_seen(
    name: str, entry: bytes, made: Path
) -> None:
    init = made / "video" / name / "init.mp4"
    own = init.read_bytes()
    at = own.index(entry, own.index(b"stsd")) + 4 + 24  # width (14496-12, 12.1.3)
    assert int.from_bytes(own[at : at + 2], "big") == 320
    try:
        init.write_bytes(own[:at] + (640).to_bytes(2, "big") + own[at + 2 :])
        found = telecine("verify", made, timeout_s=60)
    finally:
        init.write_bytes(own)
    assert found.code == 1
    assert "the pictures are coded 320×240, the sample entry says 640×240" in found.out
