"""What a user may ask for, in the command line's and the service's words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telecine.engine.errors import UsageError
from telecine.engine.profile import (
    Output,
    OutputKind,
    Profile,
    file_name,
    make_profile,
    parse_output,
    parse_rung,
)

WORDS = [
    ("hls", Output("hls"), "hls", "master.m3u8"),
    ("mp4:720p", Output("mp4", 720), "mp4:720p", "720p.mp4"),
    ("mp4:720", Output("mp4", 720), "mp4:720p", "720p.mp4"),
    ("mp4:source", Output("mp4"), "mp4:source", "source.mp4"),
    ("mp3", Output("mp3"), "mp3", "audio.mp3"),
    ("mp3@192k", Output("mp3", None, 192_000), "mp3@192k", "audio.mp3"),
    ("aac@96000", Output("aac", None, 96_000), "aac@96k", "audio.m4a"),
    ("opus@16k", Output("opus", None, 16_000), "opus@16k", "audio.opus"),
    ("opus@512k", Output("opus", None, 512_000), "opus@512k", "audio.opus"),
    ("flac", Output("flac"), "flac", "audio.flac"),
    ("poster", Output("poster"), "poster", "poster.jpg"),
    ("storyboard", Output("storyboard"), "storyboard", "storyboard.vtt"),
    ("thumbnails", Output("thumbnails"), "thumbnails", "thumbnails.vtt"),
    (
        "thumbnails:every=10s",
        Output("thumbnails", every_s=10),
        "thumbnails:every=10s",
        "thumbnails.vtt",
    ),
    ("preview", Output("preview"), "preview", "preview.webp"),
    ("waveform", Output("waveform"), "waveform", "waveform.json"),
    ("chapters", Output("chapters"), "chapters", "chapters.vtt"),
]


@pytest.mark.parametrize(("word", "output", "shown", "file"), WORDS)
def test_words_of_outputs(word: str, output: Output, shown: str, file: str) -> None:
    assert parse_output(word) == output
    assert str(output) == shown
    assert file_name(output) == file


@pytest.mark.parametrize(
    ("word", "code"),
    [
        *[(word, "output_unknown") for word in ("", "dash", "HLS", "mp4 :720p", "hls;rm", "mp3@")],
        *[(word, "output_unknown") for word in ("mp4", "hls:720p", "mp3:720p", "poster:1p")],
        *[(word, "output_unknown") for word in ("mp4:720p\n", "mp4@1k", "flac:source")],
        *[(word, "rung_invalid") for word in ("mp4:p", "mp4:15", "mp4:8193", "mp4:tiny")],
        *[(word, "bitrate_invalid") for word in ("mp3@15k", "mp3@513k", "mp3@0", "aac@15999")],
        *[(word, "bitrate_invalid") for word in ("flac@192k", "hls@192k", "poster@20k")],
        ("mp4:720p@192k", "bitrate_invalid"),
        *[(f"thumbnails:every={n}s", "every_invalid") for n in ("0", "3601", "999999")],
        *[(f"{kind}:every=10s", "every_invalid") for kind in ("storyboard", "hls", "mp3")],
        *[(f"thumbnails:{n}", "output_unknown") for n in ("every=10", "every=-1s", "10s")],
        ("thumbnails:every=10s@20k", "bitrate_invalid"),
        ("mp3@999999999999k", "bitrate_invalid"),
    ],
)
def test_other_words_are_refused_with_a_code(word: str, code: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_output(word)
    assert refused.value.code == code
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "side"), [("1080", 1080), ("720p", 720), ("16", 16), ("8192", 8192), ("0016", 16)]
)
def test_rungs(text: str, side: int) -> None:
    assert parse_rung(text) == side


@pytest.mark.parametrize(
    "text", ["", "p", "-720", "720P", "15", "8193", "7.5", "7", "720pp", "720p ", "123456"]
)
def test_other_rungs_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_rung(text)
    assert refused.value.code == "rung_invalid"


def test_nothing_asked_is_a_stream_and_a_poster() -> None:
    assert make_profile() == Profile((Output("hls"), Output("poster")), (), "auto")
    assert Profile() == make_profile()


def test_doubles_count_once_and_rungs_fall() -> None:
    profile = make_profile(
        (Output("hls"), Output("mp3"), Output("hls")), (240, 1080, 240, 720), "copy"
    )
    assert profile == Profile((Output("hls"), Output("mp3")), (1080, 720, 240), "copy")
    assert profile.has("mp3")
    assert not profile.has("mp4")


def test_two_outputs_of_one_file_name_are_refused() -> None:
    with pytest.raises(UsageError, match=r"both write audio\.mp3") as refused:
        make_profile((Output("mp3"), Output("mp3", None, 96_000)))
    assert refused.value.code == "output_twice"
    with pytest.raises(UsageError, match=r"both write thumbnails\.vtt"):
        make_profile((Output("thumbnails"), Output("thumbnails", every_s=5)))
    assert make_profile((Output("mp4", 720), Output("mp4"))).outputs == (
        Output("mp4", 720),
        Output("mp4"),
    )


kinds: st.SearchStrategy[OutputKind] = st.sampled_from(["mp3", "aac", "opus"])


@given(kind=kinds, kilo=st.integers(16, 512))
def test_any_bitrate_in_range_comes_back_from_its_word(kind: OutputKind, kilo: int) -> None:
    output = Output(kind, None, kilo * 1000)
    assert parse_output(str(output)) == output


# As in test_plan: the characters of st.text(), without its search for them.
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_any_text_is_an_output_or_a_usage_error(text: str) -> None:
    try:
        output = parse_output(text)
    except UsageError:
        return
    assert parse_output(str(output)).kind == output.kind
