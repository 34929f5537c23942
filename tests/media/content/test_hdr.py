"""HDR that is kept: painted code values come out as they went in, ten bits deep, and every place
that a player looks into says which light is meant.

What is in the boxes is read here with nothing of Telecine's; what the pictures say of themselves is
what FFmpeg decodes.
"""

from __future__ import annotations

import re
import struct
import subprocess
from array import array
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.media.hlsdir import Output, read_output
from tests.media.running import telecine

SIZE = WIDTH, HEIGHT = 320, 180
SECONDS = 7  # more than a segment
# Ten-bit code values (Y, Cb, Cr) of four bars: black, mid grey, an orange, near the top.
BARS = ((64, 512, 512), (430, 512, 512), (560, 400, 640), (800, 512, 512))
TOLERANCE = 6  # of 876 steps: what lossy encoders leave of flat bars

MASTERING = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
# The same numbers as 14496-12, 12.1.6 lays them out, and MaxCLL with MaxFALL (12.1.7).
MDCV = struct.pack(">8H2I", 13250, 34500, 7500, 3000, 34000, 16000, 15635, 16450, 10_000_000, 50)
CLLI = struct.pack(">2H", 1000, 400)


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    transfer: str  # FFmpeg's word
    number: int  # ISO/IEC 23091-2
    video_range: str
    light: str  # x265's options


PQ = Kind("pq", "smpte2084", 16, "PQ", f":master-display={MASTERING}:max-cll=1000,400")
HLG = Kind("hlg", "arib-std-b67", 18, "HLG", "")


@dataclass(frozen=True, slots=True)
class Made:
    kind: Kind
    folder: Path
    output: Output


def painted() -> bytes:
    """A frame of yuv420p10le with the bars side by side."""
    planes = []
    for plane, (width, height) in enumerate(((WIDTH, HEIGHT), *[(WIDTH // 2, HEIGHT // 2)] * 2)):
        row = array("H", [BARS[4 * x // width][plane] for x in range(width)])
        planes.append(row.tobytes() * height)
    return b"".join(planes)


@pytest.fixture(scope="module", params=(PQ, HLG), ids=lambda kind: kind.name)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, ffmpeg: str
) -> Made:
    kind: Kind = request.param
    folder = tmp_path_factory.mktemp("hdr")
    source = folder / "source.mp4"
    argv = [ffmpeg, "-v", "error", "-f", "rawvideo", "-pix_fmt", "yuv420p10le"]
    argv += ["-video_size", f"{WIDTH}x{HEIGHT}", "-framerate", "24", "-i", "pipe:0"]
    said = f"color_primaries=bt2020:color_trc={kind.transfer}:colorspace=bt2020nc:range=tv"
    argv += ["-vf", f"setparams={said}", "-c:v", "libx265", "-preset", "ultrafast", "-crf", "4"]
    argv += ["-x265-params", f"log-level=error:keyint=48{kind.light}", "-tag:v", "hvc1"]
    frames = painted() * (24 * SECONDS)
    subprocess.run([*argv, str(source)], input=frames, check=True, timeout=60)
    out = folder / "out"
    run = telecine(
        *("transcode", source, "-o", out, "--output", "hls", "--rung", "180", "144"),
        *("--codec", "h264,av1,hevc", "--hdr", "keep"),
        timeout_s=120,
    )
    assert run.code == 0, run.out + run.err
    return Made(kind, out, read_output(out))


def attributes(made: Made) -> dict[str, str]:
    """Variant → its attributes, as written."""
    lines = (made.folder / "master.m3u8").read_text().splitlines()
    streams = [n for n, line in enumerate(lines) if line.startswith("#EXT-X-STREAM-INF")]
    return {lines[n + 1].split("/")[1]: lines[n] for n in streams}


def test_hdr_stands_beside_sdr_and_says_so(made: Made) -> None:
    ranges = {
        name: re.findall(r"VIDEO-RANGE=(\w+)", said)[0] for name, said in attributes(made).items()
    }
    kept = made.kind.video_range
    assert ranges == {
        **{"180p": "SDR", "144p": "SDR"},
        **{"av1-180p": kept, "av1-144p": kept, "hevc-180p": kept, "hevc-144p": kept},
    }


def test_codec_strings_say_ten_bits(made: Made) -> None:
    for name, said in attributes(made).items():
        codecs = re.findall(r'CODECS="([^"]+)"', said)[0]
        if name.startswith("av1-"):  # AV1 binding, 5: depth, 4:2:0, primaries, transfer, matrix
            transfer = made.kind.number
            assert re.fullmatch(
                rf"av01\.0\.\d\dM\.10\.0\.11[0-2]\.09\.{transfer}\.09\.0", codecs
            ), codecs
        elif name.startswith("hevc-"):  # profile 2 is Main 10
            assert codecs.startswith("hvc1.2."), codecs
        else:
            assert codecs.startswith("avc1.64"), codecs


def sample_entry_boxes(init: bytes) -> dict[str, bytes]:
    """The boxes inside the one visual sample entry, found by their names."""
    entry = next(init.index(kind) for kind in (b"avc1", b"av01", b"hvc1") if kind in init[60:])
    end = entry - 4 + int.from_bytes(init[entry - 4 : entry], "big")
    at = entry + 4 + 78
    found = {}
    while at < end:
        size = int.from_bytes(init[at : at + 4], "big")
        found[init[at + 4 : at + 8].decode()] = init[at + 8 : at + size]
        at += size
    return found


def test_init_segments_say_colours_and_light(made: Made) -> None:
    for rung in made.output.video:
        boxes = sample_entry_boxes(rung.init)
        if "-" not in rung.name:
            assert "mdcv" not in boxes
            assert "clli" not in boxes
            assert boxes["colr"][:10] == b"nclx" + struct.pack(">3H", 1, 1, 1)
            continue
        assert boxes["colr"] == b"nclx" + struct.pack(">3HB", 9, made.kind.number, 9, 0)
        assert boxes.get("mdcv") == (MDCV if made.kind is PQ else None)
        assert boxes.get("clli") == (CLLI if made.kind is PQ else None)


def test_pictures_say_colours_and_light_themselves(made: Made, ffmpeg: str) -> None:
    """Of the bitstream alone: the boxes are taken away before it is decoded."""
    for rung in made.output.video:
        bare = rung.joined
        for box in (b"colr", b"mdcv", b"clli"):
            bare = bare.replace(box, b"free")
        argv = [ffmpeg, "-hide_banner", "-v", "info", "-i", "pipe:0", "-vf", "showinfo=checksum=0"]
        argv += ["-f", "null", "-"]
        log = subprocess.run(argv, input=bare, capture_output=True, timeout=60).stderr.decode()
        if "-" not in rung.name:
            assert "color_trc:bt709" in log
            assert not re.search("luminance|MaxCLL", log), rung.name
            continue
        assert "fmt:yuv420p10le" in log
        said = f"color_space:bt2020nc color_primaries:bt2020 color_trc:{made.kind.transfer}"
        assert said in log, rung.name
        if made.kind is PQ:
            assert "r(0.6800,0.3200) g(0.2650,0.6900) b(0.1500 0.0600)" in log, rung.name
            assert "max_luminance=1000.000000" in log, rung.name
            assert "MaxCLL=1000, MaxFALL=400" in log, rung.name


def test_painted_values_stay(made: Made, ffmpeg: str) -> None:
    for rung in made.output.video:
        if "-" not in rung.name:
            continue
        argv = [ffmpeg, "-v", "error", "-i", "pipe:0", "-f", "rawvideo", "-pix_fmt", "yuv420p10le"]
        argv += ["-s", f"{WIDTH}x{HEIGHT}", "pipe:1"]
        raw = subprocess.run(argv, input=rung.joined, capture_output=True, timeout=60, check=True)
        values = array("H", raw.stdout)
        picture = WIDTH * HEIGHT * 3 // 2
        assert len(values) == picture * 24 * SECONDS
        for frame in (0, 24 * 6, 24 * SECONDS - 1):  # the second is another segment's first
            own = values[frame * picture :][:picture]
            for bar, wanted in enumerate(BARS):
                assert_near(own, bar, wanted, f"{rung.name} frame {frame}")


def assert_near(own: array[int], bar: int, wanted: tuple[int, int, int], what: str) -> None:
    start = 0
    for plane, width in enumerate((WIDTH, WIDTH // 2, WIDTH // 2)):
        height = HEIGHT * width // WIDTH
        found = own[start + height // 2 * width + (2 * bar + 1) * width // 8]
        assert abs(found - wanted[plane]) <= TOLERANCE, f"{what} bar {bar}: {found}, {wanted}"
        start += width * height


def test_dash_has_a_set_for_each_codec_and_says_what_hdr_needs(made: Made) -> None:
    space = "{urn:mpeg:dash:schema:mpd:2011}"
    root = ElementTree.parse(made.folder / "manifest.mpd").getroot()
    found = []
    for item in root.iter(f"{space}AdaptationSet"):
        needs = [
            (need.get("schemeIdUri"), need.get("value"))
            for need in item.findall(f"{space}EssentialProperty")
        ]
        codecs = {(r.get("codecs") or "")[:4] for r in item.findall(f"{space}Representation")}
        found.append((codecs, needs))
    transfer = ("urn:mpeg:mpegB:cicp:TransferCharacteristics", str(made.kind.number))
    assert found == [({"avc1"}, []), ({"av01"}, [transfer]), ({"hvc1"}, [transfer])]


def test_every_rule_holds_and_everything_decodes(made: Made) -> None:
    found = telecine("verify", made.folder, "--decode", timeout_s=120)
    assert found.code == 0, found.out


# What is damaged, and the rules that must see it; on the variants in AV1, which are HDR.
DAMAGES: dict[str, tuple[str, str, str, set[str]]] = {
    "the range is not said": (
        "master.m3u8", r"(av01[^\n]*),VIDEO-RANGE=\w+", r"\1", {"video-range"},
    ),
    "another range": ("master.m3u8", "VIDEO-RANGE=(PQ|HLG)", "VIDEO-RANGE=SDR", {"video-range"}),
    "eight bits": ("master.m3u8", r"(av01\.0\.\d\dM)\.10", r"\1.08", {"codecs"}),
    "another transfer": ("master.m3u8", r"(av01.*?09)\.\d\d\.09", r"\1.01.09", {"codecs"}),
    "Main instead of Main 10": ("master.m3u8", r"hvc1\.2", "hvc1.1", {"codecs"}),
    "nothing that DASH needs": (
        "manifest.mpd", r"\s*<EssentialProperty[^>]*/>", "", {"mpd-attributes"},
    ),
    "another codec in DASH": (
        "manifest.mpd", r"(av01\.0\.\d\dM)\.10", r"\1.08", {"mpd-attributes"},
    ),
}  # fmt: skip


def broken(folder: Path) -> set[str]:
    found = telecine("verify", folder, timeout_s=60)
    return set(re.findall(r"BROKEN +([\w-]+):", found.out))


@pytest.mark.parametrize("what", DAMAGES)
def test_what_is_said_wrongly_of_hdr_is_seen(what: str, made: Made) -> None:
    name, pattern, new, rules = DAMAGES[what]
    path = made.folder / name
    text = path.read_text()
    damaged = re.sub(pattern, new, text)
    assert damaged != text
    try:
        path.write_text(damaged)
        assert broken(made.folder) == rules
    finally:
        path.write_text(text)


@pytest.mark.parametrize(
    ("kind", "rules"), [("mdcv", {"hdr-light"}), ("clli", {"hdr-light"}), ("colr", {"video-range"})]
)
def test_what_an_init_segment_does_not_say_of_hdr_is_seen(
    kind: str, rules: set[str], made: Made
) -> None:
    path = made.folder / "video" / "hevc-180p" / "init.mp4"
    whole = path.read_bytes()
    if kind.encode() not in whole:
        assert made.kind is HLG  # which has no light to tell of
        return
    try:
        path.write_bytes(whole.replace(kind.encode(), b"free"))
        assert rules <= broken(made.folder)
    finally:
        path.write_bytes(whole)
