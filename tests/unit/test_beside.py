"""What stands beside the film, planned: by arithmetic, and for any distance of key pictures."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.sources import (
    BROADCAST,
    COMPLIANT,
    DEFAULT_KEYINT,
    FILM,
    PICTURE,
    SILENT,
    SONG,
    SOUND,
    lasting,
    media,
    table,
)

from telecine.engine.beside import Stills, content_type
from telecine.engine.errors import InputRefused
from telecine.engine.ladder import Size
from telecine.engine.media import Chapter, MediaInfo
from telecine.engine.plan import Plan
from telecine.engine.planning import make_plan
from telecine.engine.planning.beside import (
    key_gap_s,
    last_key_s,
    rendition_for,
    stretches,
    within,
)
from telecine.engine.profile import make_profile, parse_output


def planned(source: MediaInfo, *words: str, rungs: tuple[int, ...] = ()) -> Plan:
    return make_plan(source, make_profile(tuple(map(parse_output, words)), rungs))


# --- where a picture lies -------------------------------------------------------------------------

SHEETS = Stills("storyboard", "240p", Fraction(2), 27, Size(240, 136), 5, 5, "")


def test_pictures_lie_row_by_row_on_sheets() -> None:
    assert SHEETS.pictures == ("storyboard/00000.jpg", "storyboard/00001.jpg")
    assert SHEETS.picture_size == Size(1200, 680)
    assert SHEETS.place(0) == ("storyboard/00000.jpg", 0, 0)
    assert SHEETS.place(7) == ("storyboard/00000.jpg", 480, 136)
    assert SHEETS.place(24) == ("storyboard/00000.jpg", 960, 544)
    assert SHEETS.place(26) == ("storyboard/00001.jpg", 240, 0)


def test_thumbnails_are_a_file_each() -> None:
    files = replace(SHEETS, kind="thumbnails", columns=1, rows=1, count=3)
    assert files.pictures == tuple(f"thumbnails/0000{n}.jpg" for n in range(3))
    assert files.place(2) == ("thumbnails/00002.jpg", 0, 0)


def test_every_ending_has_its_type() -> None:
    assert content_type("storyboard.vtt") == "text/vtt"
    assert content_type("thumbnails/00000.jpg") == "image/jpeg"
    assert content_type("preview.webp") == "image/webp"


# --- how often ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("duration", "every", "last", "count"),
    [
        ("30", "2", "28", 15),
        ("31", "2", "30", 16),
        ("31", "2", "29", 15),  # the last second may hold no key picture
        ("30", "7", "28", 5),
        ("29.9", "7", "27.9", 4),
        ("0.04", "2", "0", 1),
        ("5", "10", "4", 1),
    ],
)
def test_stretches_by_hand(duration: str, every: str, last: str, count: int) -> None:
    assert stretches(Fraction(duration), Fraction(every), Fraction(last)) == count


@given(
    gaps=st.lists(st.integers(1, 20), min_size=1, max_size=30),
    slack=st.integers(0, 30),
)
def test_every_stretch_has_a_key_picture(gaps: list[int], slack: int) -> None:
    keys = [sum(gaps[:n]) for n in range(len(gaps))]
    duration, every = sum(gaps), max(gaps) + slack
    count = stretches(Fraction(duration), Fraction(every), Fraction(keys[-1]))
    for n in range(count):
        end = (n + 1) * every if n + 1 < count else duration
        assert any(n * every <= key < end for key in keys)


def test_a_storyboard_is_as_fine_as_the_key_pictures() -> None:
    plan = planned(FILM, "hls", "storyboard")  # 60 s at 23.976: a key every 48 frames, 2.002 s
    (stills,) = plan.stills
    assert (stills.rendition, stills.every_s, stills.count) == ("240p", Fraction(2002, 1000), 30)
    assert (stills.columns, stills.rows, stills.picture_size) == (5, 5, Size(1200, 500))
    assert stills.reason == "30 key pictures of 240p, one every 2.002 s, 5 × 5 on a sheet"


@pytest.mark.parametrize(
    ("seconds", "every", "count", "sheets"),
    [
        (4, 2, 2, 1),
        (800, 2, 400, 16),
        (802, 4, 200, 8),  # the last 2 s hold a key picture: that is one more stretch
        (7200, 18, 400, 16),
        (48 * 3600, 432, 400, 16),
    ],
)
def test_a_long_film_has_no_more_than_400(
    seconds: int, every: int, count: int, sheets: int
) -> None:
    (stills,) = planned(lasting(seconds), "hls", "storyboard").stills
    assert stills.every_s == every
    assert stills.count == count + (seconds == 802)
    assert len(stills.pictures) == sheets + (seconds == 802)


def test_a_short_film_has_a_small_sheet() -> None:
    (stills,) = planned(lasting(4), "hls", "storyboard").stills
    assert (stills.columns, stills.rows) == (2, 1)


def test_thumbnails_come_as_often_as_is_asked() -> None:
    plan = planned(lasting(60), "hls", "thumbnails:every=7s")
    (stills,) = plan.stills
    assert stills.every_s == 7
    assert (stills.count, stills.size) == (9, Size(640, 360))
    assert planned(lasting(60), "hls", "thumbnails").stills[0].every_s == 10
    assert [file.path for file in plan.files] == ["thumbnails.vtt", "thumbnails.json"]
    assert plan.warnings == ()


def test_thumbnails_are_no_more_than_there_are_keys_or_a_thousand() -> None:
    plan = planned(lasting(60), "hls", "thumbnails:every=1s")
    assert plan.stills[0].every_s == 2
    assert plan.warnings == (
        "thumbnails every 2 s, not every 1 s: key pictures of 360p are up to 2 s apart",
    )
    plan = planned(lasting(7201), "hls", "thumbnails:every=3s")
    assert plan.stills[0].every_s == 8
    assert plan.stills[0].count == 901
    assert plan.warnings == ("thumbnails every 8 s, not every 3 s: at most 1000 are made",)


# --- of what --------------------------------------------------------------------------------------


def test_under_a_copied_top_rung_key_pictures_follow_its_segments() -> None:
    # A key every 2 s (48 frames at 24): copied as they are; encoded rungs have one forced at the
    # same times, or a frame later.
    plan = planned(COMPLIANT, "hls")
    assert plan.copied is not None
    assert key_gap_s(plan, plan.copied) == 2
    assert key_gap_s(plan, plan.rendition("360p")) == 2 + Fraction(1, 24)
    # x264 as it comes: 250 frames, 10.417 s; five GOPs in each segment.
    plan = planned(DEFAULT_KEYINT, "hls")
    assert plan.copied is not None
    assert key_gap_s(plan, plan.copied) == Fraction(250, 24)
    assert key_gap_s(plan, plan.rendition("360p")) == Fraction(250, 24) / 5 + Fraction(1, 24)


def test_the_last_stretch_is_known_by_the_last_key_picture() -> None:
    # 60 s at 23.976: of 1439 pictures every 48th is a key, the last one the 1392nd.
    plan = planned(FILM, "hls")
    assert last_key_s(plan, plan.renditions[0]) == 1392 / Fraction(24000, 1001)
    plan = planned(DEFAULT_KEYINT, "hls")  # 500 pictures before the last GOP, 720 in all
    assert plan.copied is not None
    assert last_key_s(plan, plan.copied) == Fraction(500, 24)
    encoded = plan.rendition("360p")
    assert last_key_s(plan, encoded) == 30 - key_gap_s(plan, encoded)


def test_a_copy_with_few_key_pictures_gives_way_to_a_smaller_rung() -> None:
    rare = table([250, 250, 220], frame_bytes=2000)
    narrow = replace(PICTURE, width=568, height=320, index_table=rare)
    plan = planned(media(narrow), "hls", "thumbnails:every=5s", rungs=(320, 240))
    assert [(r.name, r.mode) for r in plan.renditions] == [("320p", "copy"), ("240p", "encode")]
    assert plan.stills[0].rendition == "240p"
    assert plan.stills[0].every_s == 5
    plan = planned(media(narrow), "hls", "thumbnails:every=5s", rungs=(320,))
    assert (plan.stills[0].rendition, plan.stills[0].every_s) == ("320p", Fraction(250, 24))


def test_the_smallest_rendition_that_need_not_be_enlarged() -> None:
    renditions = planned(lasting(10), "hls").renditions
    assert rendition_for(renditions, 240).name == "240p"
    assert rendition_for(renditions, 640).name == "360p"
    assert rendition_for(renditions, 5000).name == "1080p"
    dark = [replace(r, video_range="PQ" if r.name == "240p" else "SDR") for r in renditions]
    assert rendition_for(dark, 240).name == "360p"
    assert rendition_for([replace(r, video_range="PQ") for r in renditions], 240).name == "240p"


@pytest.mark.parametrize(
    ("size", "fitted"),
    [
        ((320, 180), (240, 134)),  # 135 is odd
        ((180, 320), (134, 240)),
        ((200, 100), (200, 100)),
        ((16, 4320), (2, 240)),
    ],
)
def test_sizes_are_even_and_never_larger(size: tuple[int, int], fitted: tuple[int, int]) -> None:
    assert within(Size(*size), 240) == Size(*fitted)


def test_without_playlists_one_unlisted_rung_is_made() -> None:
    plan = planned(FILM, "storyboard", "preview")
    assert [(r.name, r.listed, r.reason) for r in plan.renditions] == [
        ("360p", False, "for the pictures beside the film")
    ]
    assert plan.sounds == ()
    small = planned(media(replace(PICTURE, width=320, height=180, index_table=None)), "preview")
    assert ([r.name for r in small.renditions], small.warnings) == (["180p"], ())
    # A file's rung does as well.
    plan = planned(FILM, "storyboard", "mp4:480p")
    assert [r.name for r in plan.renditions] == ["480p"]
    assert plan.stills[0].rendition == "480p"


def test_pictures_wait_for_what_they_are_made_of_and_nothing_else() -> None:
    plan = planned(FILM, "hls", "mp4:240p", "storyboard", "thumbnails", "preview", "waveform")
    needs = {step.id: step.needs for step in plan.steps}
    chunks = ("encode-0000", "encode-0001", "encode-0002")
    assert needs["storyboard"] == needs["preview"] == chunks
    # Of 360p another step makes the first segments.
    assert needs["thumbnails"] == ("encode-0000-head", *chunks)
    assert needs["waveform"] == ()
    assert [step.id for step in plan.steps[-4:]] == [
        *("storyboard", "thumbnails", "preview", "waveform")
    ]


# --- preview --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "segments", "each"),
    [
        # 10 segments of 6 s: the middle of each fifth.
        (Fraction(60), (1, 3, 5, 7, 9), Fraction(1)),
        (Fraction(30), (0, 1, 2, 3, 4), Fraction(1)),
        (Fraction(61, 2), (0, 1, 2, 3, 4), Fraction(1)),  # the last half second is no place
        (Fraction(12), (0, 1), Fraction(5, 2)),
        (Fraction(8), (0, 1), Fraction(2)),  # the second segment has no more
        (Fraction(4), (0,), Fraction(4)),
        (Fraction(1, 2), (0,), Fraction(1, 2)),
        (Fraction(1, 25), (0,), Fraction(1, 10)),  # one picture
    ],
)
def test_pieces_from_places_spread_evenly(
    seconds: Fraction, segments: tuple[int, ...], each: Fraction
) -> None:
    preview = planned(lasting(seconds), "preview").preview
    assert preview is not None
    assert (preview.segments, preview.each_s, preview.rate) == (segments, each, 10)
    assert preview.size == Size(320, 180)


def test_the_reason_says_where() -> None:
    preview = planned(lasting(60), "hls", "preview").preview
    assert preview is not None
    assert preview.reason == "1 s each of 240p from 6, 18, 30, 42, 54 s"


# --- sound and chapters ---------------------------------------------------------------------------


def test_a_waveform_lasts_as_long_as_the_film() -> None:
    waveform = planned(BROADCAST, "waveform").waveform  # 40 s: 1.92 million samples
    assert waveform is not None
    assert (waveform.samples_per_pixel, waveform.length) == (256, 7500)
    song = planned(SONG, "waveform")  # 600 × 1024 / 44100 s, at 48 kHz
    assert song.waveform is not None
    assert song.waveform.length == -(-round(Fraction(600 * 1024, 44_100) * 48_000) // 256)
    assert [step.id for step in song.steps] == ["waveform"]
    assert [file.path for file in song.files] == ["waveform.json", "waveform.png"]


@pytest.mark.parametrize("word", ["storyboard", "thumbnails", "preview"])
def test_sound_has_no_pictures(word: str) -> None:
    with pytest.raises(InputRefused, match=f"{word} was asked") as refused:
        planned(SONG, "hls", word)
    assert refused.value.code == "no_video"


def test_a_silent_film_has_no_waveform() -> None:
    with pytest.raises(InputRefused) as refused:
        planned(SILENT, "hls", "waveform")
    assert refused.value.code == "no_audio"


CHAPTERS = (
    Chapter(Fraction(0), Fraction(11), "One"),
    Chapter(Fraction(11), Fraction(99), "Two"),
)


def test_chapters_come_with_playlists_on_the_films_clock() -> None:
    source = replace(BROADCAST, chapters=CHAPTERS)  # its clock begins at 1.4 s, and it has 40 s
    plan = planned(source, "hls")
    assert [(c.start_s, c.end_s, c.title) for c in plan.chapters] == [
        (0, Fraction(96, 10), "One"),
        (Fraction(96, 10), 40, "Two"),
    ]
    assert [file.path for file in plan.files] == ["chapters.vtt", "chapters.json"]
    assert plan.steps[-1].id == "chapters"
    assert planned(source, "mp3").chapters == ()
    assert planned(replace(SONG, chapters=CHAPTERS), "hls").chapters[0].title == "One"


def test_chapters_may_be_asked_for_alone() -> None:
    plan = planned(replace(FILM, chapters=CHAPTERS), "chapters")
    assert ([step.id for step in plan.steps], plan.renditions) == (["chapters"], ())
    assert planned(FILM, "chapters").warnings == ("no chapters: the file names none",)


def test_a_plan_with_all_of_it_is_another_for_each_sound() -> None:
    assert planned(media(audio=SOUND), "waveform").id != planned(SONG, "waveform").id
