"""What may be asked of a watermark, where it stands, and what it changes in a plan."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from tests.unit import sources

from telecine.cli import parse
from telecine.engine import filters
from telecine.engine.errors import UsageError
from telecine.engine.ladder import Size
from telecine.engine.media import Color, MediaInfo, PictureFile
from telecine.engine.plan import BurnedIn, Overlay, Plan, VideoRange
from telecine.engine.planning import make_plan
from telecine.engine.profile import make_profile
from telecine.engine.steps.watermarking import sniff
from telecine.engine.words.watermark import Watermark, make_watermark, parse_watermark


def plan_of(source: MediaInfo, words: str = "top-right,0.5,0.1") -> Plan:
    return make_plan(source, make_profile(watermark=parse_watermark(words)), inputs=(sources.LOGO,))


def test_words() -> None:
    half, tenth = Fraction(1, 2), Fraction(1, 10)
    assert parse_watermark("top-right,0.5,0.1") == Watermark("top-right", half, tenth)
    assert parse_watermark("center,.5,1") == Watermark("center", half, Fraction(1))


@pytest.mark.parametrize(
    "text",
    [
        *("", "top-right", "top-right,1", "left,1,0.1", "center,1.1,0.1", "center,-1,0.1"),
        *("center,1,0", "center,1,1.5", "center,1,0.001", "center,1,0.1,2", "center,a,0.1"),
        *("center,1e0,0.1", "center,١,0.1"),
    ],
)
def test_words_that_are_none(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_watermark(text)
    assert caught.value.code == "watermark_invalid"


def test_a_files_name_may_have_colons() -> None:
    asked = parse(["transcode", "a.mp4", "-o", "x", "--watermark", "a:b.png:center,1,0.5"])
    assert asked.inputs == {"watermark": Path("a:b.png")}
    assert asked.profile.inputs == {"watermark": "picture"}
    for word in ("logo.png", ":center,1,0.5"):
        with pytest.raises(UsageError, match="such as logo"):
            parse(["transcode", "a.mp4", "-o", "x", "--watermark", word])


@pytest.mark.parametrize(
    ("position", "place"),
    [
        # A tenth of 1920 is 192, half as high; the margin a fortieth of 1080: 27, so 28 or 26.
        ("top-left", (192, 96, 28, 28)),
        ("top-right", (192, 96, 1920 - 192 - 28, 28)),
        ("bottom-left", (192, 96, 28, 1080 - 96 - 28)),
        ("bottom-right", (192, 96, 1920 - 192 - 28, 1080 - 96 - 28)),
        ("center", (192, 96, 864, 492)),
    ],
)
def test_places(position: str, place: tuple[int, int, int, int]) -> None:
    mark = make_watermark(position, Fraction(1), Fraction(1, 10))
    overlay = Overlay("watermark", PictureFile("png", 80, 40), mark, "")
    assert filters.mark_place(overlay, Size(1920, 1080)) == place


def test_a_tall_watermark_stays_within_the_picture() -> None:
    mark = make_watermark("top-right", Fraction(1), Fraction(1))
    tall = Overlay("watermark", PictureFile("png", 10, 100), mark, "")
    assert filters.mark_place(tall, Size(640, 360)) == (36, 360, 640 - 36 - 8, 0)


def test_nothing_is_copied_under_it_and_what_shows_it_reads_it() -> None:
    plan = plan_of(sources.COMPLIANT)
    assert plan.copied is None
    assert "a watermark is laid over it" in plan.copy_refusals
    reading = {step.kind for step in plan.steps if "watermark" in step.inputs}
    assert reading == {"encode", "poster"}
    assert plan.overlay is not None
    assert plan.overlay.reason == "PNG of 80×40, top-right, opacity 0.5, 0.1 of the width"


def test_it_needs_its_file() -> None:
    with pytest.raises(UsageError) as caught:
        make_plan(sources.COMPLIANT, make_profile(watermark=parse_watermark("center,1,0.1")))
    assert caught.value.code == "input_missing"


def test_sound_alone_has_none() -> None:
    assert "no video: the watermark is left out" in plan_of(sources.SONG).warnings


def graph(plan: Plan, video_range: VideoRange = "SDR") -> str:
    wanted = [filters.Wanted(Size(640, 360), 0, video_range)]
    return filters.chunk_graph(plan, wanted, 1, origin_ticks=0, stream_index=0)


def test_its_matrix_is_that_of_the_pictures() -> None:
    """Of an untagged source what a player takes it for; of a matrix that scaling does not know, the
    same."""
    assert sources.COMPLIANT.video[0].color.matrix == "bt709"

    def matrix_of(color: Color, height: int, pix_fmt: str = "yuv420p") -> str:
        picture = replace(sources.PICTURE, color=color, height=height, pix_fmt=pix_fmt)
        made = graph(plan_of(replace(sources.COMPLIANT, video=(picture,))))
        return made.split("out_color_matrix=")[-1].split(":")[0]

    assert matrix_of(Color(matrix="smpte170m"), 1080) == "smpte170m"
    assert matrix_of(Color(), 1080) == "bt709"
    assert matrix_of(Color(), 480) == "smpte170m"
    assert matrix_of(Color(matrix="ycgco"), 480) == "smpte170m"
    assert matrix_of(Color(), 480, "rgb24") == "bt709"


def test_it_comes_after_tone_mapping() -> None:
    made = graph(plan_of(sources.HDR10))
    assert made.index("tonemap=") < made.index("[1:0]")
    assert "out_color_matrix=bt709" in made


def test_in_hdr_its_white_is_that_of_graphics() -> None:
    made = graph(plan_of(sources.HDR10), "PQ")
    assert "t=smpte2084:p=bt2020:m=bt2020nc:r=limited:npl=203" in made
    assert "format=yuv420p10" in made


def test_pictures_of_text_are_the_input_before_it() -> None:
    text = BurnedIn("bitmap", 2, None, captions=False, zero_s=Fraction(0), reason="")
    made = graph(replace(plan_of(sources.FILM), burned_in=text))
    assert "[1:0]setpts" in made
    assert "[2:0]format=gbrap" in made


@pytest.mark.parametrize("source", [sources.COMPLIANT, sources.PAL, sources.ODD])
def test_it_is_laid_over_each_size_by_itself(source: MediaInfo) -> None:
    """No size is scaled from one that has it already: it would be soft there, and not where the
    size has it that is scaled from the source, as those of the head are."""
    plan = plan_of(source)
    wanted = [filters.Wanted(r.size, 0) for r in plan.listed]
    made = filters.chunk_graph(plan, wanted, 1, origin_ticks=0, stream_index=0)
    laid = [part for part in made.split(";") if "overlay=" in part]
    assert len(laid) == len({each.size for each in wanted})
    assert all(part.count("[") == 3 and part[:-2].endswith("[v") for part in laid)


def test_a_poster_shows_it_before_its_colours_become_those_of_jpeg() -> None:
    """A tenth of 640 is 64, half as high; the margin a fortieth of 360 is 9, so 8."""
    made = filters.poster(plan_of(sources.COMPLIANT), Size(640, 360))
    assert made.startswith("thumbnail=n=12,scale=640:360:flags=bicubic:out_range=tv,setsar=1,")
    # overlay joins by time, and a picture that was sought may have one below 0.
    assert ",format=yuv420p,setpts=N,null[wf];[1:0]format=gbrap," in made
    assert "scale=64:32:" in made
    assert "colorchannelmixer=aa=0.500000," in made
    assert made.endswith(
        f"[wf][wp]overlay=x={640 - 64 - 8}:y=8:format=yuv420,"
        "scale=in_range=tv:out_range=pc:out_color_matrix=bt601,format=yuvj420p"
    )


@pytest.mark.parametrize(
    ("head", "format_"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\r", "png"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "jpeg"),
        (b"RIFF\x10\0\0\0WEBP", "webp"),
        (b"RIFF\x10\0\0\0WAVE", None),
        (b"<svg", None),
    ],
)
def test_formats_by_their_first_bytes(head: bytes, format_: str | None) -> None:
    assert sniff(head) == format_
