"""What `telecine submit` asks a service for, by the words of `telecine transcode`. Expected bodies
are written by hand from docs/reference/jobs.md.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from telecine.cli import joined_clip, parser, spread_rungs
from telecine.engine.errors import UsageError
from telecine.ordering import Order, read_order
from telecine.service.orders import input_assets, make_order
from telecine.wishes import read_wishes

SECRET = "a0b1c2d3e4f5061728394a5b6c7d8e9f"
KEY_ID = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key lies where the command is given."""
    (tmp_path / "film.key").write_text(SECRET)
    monkeypatch.chdir(tmp_path)


def order(words: str) -> Order:
    line = joined_clip(spread_rungs(["submit", *shlex.split(words), "a.mp4"]))
    return read_order(parser().parse_args(line))


def outputs(words: str) -> list[dict[str, Any]]:
    """Assets are called here as their files are."""
    asked = order(words)
    inputs = {} if asked.wishes is None else asked.wishes.inputs
    found = asked.with_assets({name: str(path) for name, path in inputs.items()})["outputs"]
    assert isinstance(found, list)
    return found


STREAM = {"type": "hls"}
POSTER = {"type": "poster"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "--output hls --output mp4:720p --output mp4:source --output mp3@192k --output flac",
            [
                STREAM,
                {"type": "mp4", "size": "720p"},
                {"type": "mp4", "size": "source"},
                {"type": "mp3", "bitrate_bps": 192_000},
                {"type": "flac"},
            ],
        ),
        (
            "--output storyboard --output thumbnails:every=4s --output preview --output waveform "
            "--output chapters",
            [
                {"type": "storyboard"},
                {"type": "thumbnails", "every_s": 4},
                {"type": "preview"},
                {"type": "waveform"},
                {"type": "chapters"},
            ],
        ),
        ("--codec av1,h264", [{**STREAM, "codecs": ["h264", "av1"]}, POSTER]),
        ("--codec h264 --top auto --output hls", [STREAM]),
        (
            "--codec h264,av1 --hdr keep --output hls",
            [{**STREAM, "codecs": ["h264", "av1"], "hdr": "keep"}],
        ),
        (
            "--rung 360 720p --top encode",
            [{**STREAM, "rungs": [720, 360], "top": "encode"}, POSTER],
        ),
        ("--burn-subtitle en", [{**STREAM, "burn_subtitle": "en"}, POSTER]),
        ("--burn-subtitle 3", [{**STREAM, "burn_subtitle": "3"}, POSTER]),
        (
            "--output hls --output mp3 --output poster --loudness -16 --clip 00:10-00:40.5",
            [
                {**STREAM, "loudness_lufs": -16, "clip": {"start_s": 10, "end_s": 40.5}},
                {"type": "mp3", "loudness_lufs": -16, "clip": {"start_s": 10, "end_s": 40.5}},
                POSTER,
            ],
        ),
        ("--clip -30", [{**STREAM, "clip": {"start_s": 0, "end_s": 30}}, POSTER]),
        ("--clip 1:00:00.25-", [{**STREAM, "clip": {"start_s": 3600.25}}, POSTER]),
        (
            "--quality 90 --measure vmaf --output mp4:720p --output mp3",
            [
                {"type": "mp4", "size": "720p", "quality": 90, "measure": "vmaf"},
                {"type": "mp3"},
            ],
        ),
        (
            "--subtitle en=a.srt --subtitle de:sdh=b.ass --subtitle fr:forced=c.vtt --output hls",
            [
                {
                    **STREAM,
                    "subtitles": [
                        {
                            "asset": asset,
                            "language": language,
                            "forced": forced,
                            "hearing_impaired": deaf,
                        }
                        for asset, language, forced, deaf in [
                            ("a.srt", "en", False, False),
                            ("b.ass", "de", False, True),
                            ("c.vtt", "fr", True, False),
                        ]
                    ],
                }
            ],
        ),
        (
            "--watermark logo.png:top-right,0.5,.1 --concat b.mp4 --concat c.mp4 --output hls "
            "--output mp4:source --output opus",
            [
                {
                    **kind,
                    "concat": ["b.mp4", "c.mp4"],
                    "watermark": {
                        "asset": "logo.png",
                        "position": "top-right",
                        "opacity": 0.5,
                        "scale": 0.1,
                    },
                }
                for kind in (STREAM, {"type": "mp4", "size": "source"})
            ]
            + [{"type": "opus", "concat": ["b.mp4", "c.mp4"]}],
        ),
        (
            f"--output hls --protect cbcs --key-file film.key --key-uri key.bin --key-id {KEY_ID}",
            [
                {
                    **STREAM,
                    "protection": {
                        "scheme": "cbcs",
                        "key": SECRET,
                        "key_uri": "key.bin",
                        "key_id": KEY_ID,
                    },
                }
            ],
        ),
        (
            "--output 'image:small.webp:resize:w=800,fit=inside;rotate:angle=90' "
            "--output image:same.jpg",
            [
                {
                    "type": "image",
                    "name": "small",
                    "format": "webp",
                    "ops": [{"op": "resize", "w": 800}, {"op": "rotate", "angle": 90}],
                },
                {"type": "image", "name": "same", "format": "jpeg", "ops": []},
            ],
        ),
    ],
)
@pytest.mark.usefixtures("in_folder")
def test_every_word_has_its_field(words: str, expected: list[dict[str, Any]]) -> None:
    assert outputs(words) == expected


@pytest.mark.parametrize(
    "words",
    [
        "--rung 1080 360 --top copy --codec h264,hevc --hdr keep --burn-subtitle de --quality 92.5",
        "--clip 0.123456789-999999.987654321 --loudness -23.5 --output aac@96k --output mp4:480p",
        "--watermark a.png:center,.333333,0.01 --subtitle pt-BR=b.srt --output hls --measure vmaf",
        "--concat b.mp4 --concat c.mp4 --output hls --output mp4:source",
        "--concat b.mp3 --clip 2-3 --output flac",
        "--protect aes-128 --key-file film.key --key-uri https://keys.example.com/1 --output hls",
    ],
)
@pytest.mark.usefixtures("in_folder")
def test_the_service_reads_what_transcode_would(words: str) -> None:
    line = joined_clip(spread_rungs(["submit", *shlex.split(words), "a.mp4"]))
    asked = read_order(parser().parse_args(line))
    read = make_order(outputs=outputs(words))
    transcoded = parser().parse_args(["transcode", "-o", "d", *line[1:]])
    here = read_wishes(transcoded)
    assert read.profile == here.profile
    assert read.key == here.key
    inputs = {} if asked.wishes is None else asked.wishes.inputs
    assert input_assets(read.outputs) == {name: str(path) for name, path in inputs.items()}


def test_nothing_asked_is_the_usual_preset() -> None:
    assert order("").body == {"preset": "stream", "priority": 0}
    assert order("--preset mp3 --priority 7").body == {"preset": "mp3", "priority": 7}


@pytest.mark.usefixtures("in_folder")
def test_what_an_upload_cannot_carry_goes_with_the_job() -> None:
    protect = "--protect cbcs --key-file film.key --key-uri key.bin --output hls"
    assert order("--clip -30").wishes is None
    for words in (protect, "--concat b.mp4", "--subtitle en=a.srt", "--watermark a.png:center,1,1"):
        assert order(words).wishes is not None
        assert "outputs" not in order(words).body


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("--preset stream --quality 90", "usage"),
        ("--preset stream --output mp3", "usage"),
        ("--output mp3 --measure vmaf", "usage"),
        ("--output mp4:source --rung 720", "usage"),
        ("--output poster --clip -30", "usage"),
        ("--output image:a.jpg --output hls", "usage"),
        ("--output image:a.jpg --clip -30", "usage"),
        ("--output image", "output_unknown"),
        ("--output image:small", "output_unknown"),
        ("--output image:small.bmp", "format_unknown"),
        ("--output image:small.webp:explode", "operation_unknown"),
        ("--output image:small.png:convert:quality=80", "option_not_of_format"),
        ("--quality 101", "quality_invalid"),
        ("--codec vp9", "codec_unknown"),
        ("--hdr keep", "hdr_needs_ladders"),
        ("--watermark a.png", "watermark_invalid"),
        ("--protect cbcs", "key_missing"),
        ("--key-uri key.bin", "key_without_protect"),
        ("--output hls --output mp4:source --protect aes-128 --key-file film.key --key-uri k",
         "protection_clear_file"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("in_folder")
def test_what_cannot_be_made_is_refused_before_anything_is_sent(words: str, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        order(words)
    assert caught.value.code == code
