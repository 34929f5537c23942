"""Films that are joined: where each stands and what becomes of it, by arithmetic."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from tests.unit import goldens, sources

from telecine.cli import parse
from telecine.engine import filters
from telecine.engine.colors import sdr_color
from telecine.engine.commands import commands
from telecine.engine.errors import InputRefused, UsageError
from telecine.engine.joining import film_of, film_paths, films_of, fitted, working_name
from telecine.engine.ladder import Size
from telecine.engine.media import (
    Chapter,
    Color,
    ExtraInput,
    Light,
    MediaInfo,
    SubtitleFile,
    SubtitleStream,
    VideoStream,
)
from telecine.engine.plan import Cut, Plan, plan_from_json
from telecine.engine.planning import encoded_instead, make_plan
from telecine.engine.process import Sandbox
from telecine.engine.profile import Profile, make_profile, parse_output
from telecine.engine.sandbox import DEMUXERS
from telecine.engine.timeline import joined_timeline
from telecine.engine.tools import Tools
from telecine.engine.words.clip import parse_clip
from telecine.engine.words.concat import MAX_FILMS
from telecine.engine.words.subtitles import parse_side_car


def inputs_of(*films: MediaInfo) -> tuple[ExtraInput, ...]:
    return tuple(
        ExtraInput(f"film-{number}", "film", sources.FINGERPRINT, film=film)
        for number, film in enumerate(films, start=2)
    )


def joined(
    first: MediaInfo, *films: MediaInfo, words: tuple[str, ...] = ("hls",), **asked: object
) -> Plan:
    outputs = tuple(parse_output(word) for word in words)
    profile = make_profile(outputs, concat=len(films), **asked)  # type: ignore[arg-type]
    return make_plan(first, profile, inputs=inputs_of(*films))


# --- words ---------------------------------------------------------------------------------------


def test_films_follow_the_source_in_their_order() -> None:
    asked = parse(["transcode", "a.mp4", "--concat", "b.ts", "--concat", "c.mkv", "-o", "x"])
    assert asked.profile.concat == 2
    assert asked.profile.inputs == {"film-2": "film", "film-3": "film"}
    assert asked.inputs == {"film-2": Path("b.ts"), "film-3": Path("c.mkv")}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--concat", "b"] * MAX_FILMS, "concat_too_many"),
        (["--concat", "b", "--burn-subtitle", "en"], "concat_unsupported"),
    ],
)
def test_what_is_not_made_of_joined_films_is_refused(words: list[str], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(["transcode", "a.mp4", "-o", "x", *words])
    assert caught.value.code == code


def test_so_many_films_are_joined() -> None:
    asked = parse(["plan", "a", *["--concat", "b"] * (MAX_FILMS - 1), "--output", "waveform"])
    assert asked.profile.concat == MAX_FILMS - 1


# --- the timeline --------------------------------------------------------------------------------


def test_each_film_begins_a_segment_and_none_is_shorter_than_a_gop() -> None:
    """At 24 frames/s a GOP has 48, a segment 144. 8 s are 192 = 144 + 48; 7 s are 168 = 144 + 24:
    the 24 that are left over go with the last GOP, 96 + 72; 0.1 s are 2."""
    times = [("0", "8"), ("3/2", "17/2"), ("0", "1/10")]
    spans = [(Fraction(begin), Fraction(end)) for begin, end in times]
    timeline, edges = joined_timeline(Fraction(24), spans)
    assert timeline.frames == (144, 48, 96, 72, 2)
    assert edges == (0, 2, 4, 5)
    ticks = timeline.frame_ticks
    assert [edge // ticks for edge in timeline.boundaries] == [0, 144, 192, 288, 360, 362]
    assert (timeline.origin_s, timeline.target_duration_s) == (Fraction(0), 6)


def test_a_film_is_a_plan_of_its_own_and_its_chunks_are_its_own() -> None:
    """70 s at 24 frames/s in three chunks, then 40 s of fields from 1.4 s on in two."""
    plan = joined(sources.lasting(70), sources.BROADCAST)
    assert [(part.first, part.end) for part in plan.parts] == [(0, 12), (12, 19)]
    chunks = [(chunk.first, chunk.end) for chunk in plan.chunks]
    assert chunks == [(0, 4), (4, 8), (8, 12), (12, 16), (16, 19)]
    assert [chunk.index for chunk in plan.chunks] == [0, 1, 2, 3, 4]
    second = plan.step("encode-0004")
    own, share = film_of(plan, second)
    assert (share.first, share.end) == (4, 7)
    assert (own.source, own.working_copy, own.deinterlace) == (sources.BROADCAST, True, True)
    assert own.timeline.origin_s == Fraction(7, 5)
    assert own.timeline.time_s(share.first) == 24
    assert own.timeline.frames == plan.timeline.frames[12:]
    assert film_of(plan, plan.step("encode-0000"))[1].first == 0
    assert [at_s for _, at_s in films_of(plan)] == [0, 70]
    assert [working_name(film) for film, _ in films_of(plan)] == [
        "working.mkv",
        "working-film-2.mkv",
    ]


def test_steps_read_the_films_that_they_are_of() -> None:
    plan = joined(
        sources.COMPLIANT, sources.PAL, sources.SILENT, words=("hls", "poster", "waveform", "mp3")
    )
    read = {step.id: step.inputs for step in plan.steps}
    both = ("film-2", "film-3")
    assert read == {
        "encode-0000-head": (),
        "encode-0000": (),
        "audio": both,
        "poster": (),
        "encode-0001": ("film-2",),
        "encode-0002": ("film-3",),
        "loudness": (),
        "waveform": both,
        "chapters": (),
    }
    beside = {"film-2": Path("b"), "film-3": Path("c")}
    assert film_paths(plan, Path("a"), beside) == (Path("a"), Path("b"), Path("c"))


def test_where_nothing_is_joined_a_plan_is_its_own_film() -> None:
    plan = make_plan(sources.COMPLIANT, make_profile())
    step = plan.steps[0]
    assert film_of(plan, step) == (plan, step)
    assert films_of(plan) == [(plan, Fraction(0))]
    assert film_paths(plan, Path("a"), {}) == (Path("a"),)
    assert working_name(plan) == "working.mkv"


# --- pictures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("display", "frame", "inner"),
    [
        ((1920, 1080), (1280, 720), (1280, 720)),
        # 854 × 480 is 16:9 but for a third of a pixel.
        ((854, 480), (1920, 1080), (1920, 1080)),
        ((640, 480), (1920, 1080), (1440, 1080)),
        ((1080, 1920), (1920, 1080), (608, 1080)),
        ((1920, 800), (1920, 1080), (1920, 800)),
        ((1920, 1080), (240, 426), (240, 134)),
        ((10_000, 2), (320, 180), (320, 2)),
        ((2, 10_000), (320, 180), (2, 180)),
    ],
)
def test_a_film_fills_as_much_of_the_frame_as_its_shape_does(
    display: tuple[int, int], frame: tuple[int, int], inner: tuple[int, int]
) -> None:
    size = (Fraction(display[0]), Fraction(display[1]))
    assert fitted(size, Size(*frame)) == Size(*inner)


@pytest.mark.parametrize(
    ("video", "color"),
    [
        (sources.PICTURE, ("bt709", "bt709", "bt709")),
        (replace(sources.PICTURE, color=Color()), ("bt709", "bt709", "bt709")),
        (replace(sources.PICTURE, color=Color(), height=576), ("smpte170m",) * 3),
        (sources.PAL.video[0], ("bt470bg", "smpte170m", "bt470bg")),
        (sources.HDR10.video[0], ("bt709", "bt709", "bt709")),
        (replace(sources.PICTURE, pix_fmt="gbrp"), ("bt709", "bt709", "bt709")),
        (
            replace(sources.PICTURE, color=Color("pc", None, None, "fcc")),
            ("smpte170m", "smpte170m", "fcc"),
        ),
        (
            replace(sources.PICTURE, color=Color(None, "odd", "odd", "bt2020nc")),
            ("bt2020", "smpte170m", "bt2020nc"),
        ),
    ],
)
def test_every_property_of_finished_colours_is_named(
    video: VideoStream, color: tuple[str, str, str]
) -> None:
    assert sdr_color(video) == Color("tv", *color)


def test_a_film_is_made_the_shape_and_the_colours_of_the_first() -> None:
    plan = joined(sources.COMPLIANT, sources.PAL)
    own, _ = films_of(plan)[1]
    # 720 × 576 of 16:15 are 4:3: 960 × 720, with 160 on each side.
    chain = filters.picture(own, Size(1280, 720))
    assert "scale=960:720:flags=bicubic:out_range=tv" in chain
    assert "pad=1280:720:160:0:color=black" in chain
    assert (
        "zscale=min=bt470bg:pin=bt470bg:tin=bt709:rin=limited:m=bt709:p=bt709:t=bt709:r=limited"
        in chain
    )
    first = filters.picture(films_of(plan)[0][0], Size(1280, 720))
    assert not any(step.startswith(("zscale", "pad")) for step in first)
    assert first[-2:] == chain[-2:]
    assert chain[-2] == (
        "setparams=field_mode=prog:range=tv:chroma_location=left"
        ":colorspace=bt709:color_primaries=bt709:color_trc=bt709"
    )


def test_hdr_is_kept_where_all_films_have_the_same() -> None:
    darker = replace(
        sources.HDR10, video=(replace(sources.HDR10.video[0], light=Light((), (200, 100))),)
    )
    for other, ranges in (
        (sources.HDR10, {"SDR", "PQ"}),
        (sources.COMPLIANT, {"SDR"}),
        (darker, {"SDR"}),
    ):
        plan = joined(sources.HDR10, other, codecs=("h264", "av1"), hdr=True)
        assert {rendition.video_range for rendition in plan.renditions} == ranges
        said = any(warning.startswith("HDR was to be kept") for warning in plan.warnings)
        assert said == (ranges == {"SDR"})
    kept = joined(sources.HDR10, sources.HDR10, codecs=("h264", "av1"), hdr=True)
    chain = filters.picture(films_of(kept)[1][0], Size(1920, 1080), "PQ")
    assert chain[-2] == "setparams=field_mode=prog:range=tv:chroma_location=left"


def test_nothing_is_copied_and_the_reason_is_said() -> None:
    plan = joined(sources.COMPLIANT, sources.COMPLIANT, words=("hls", "aac"))
    assert plan.copy_refusals == ("several films are joined",)
    assert {rendition.mode for rendition in plan.renditions} == {"encode"}
    assert plan.sounds[0].reason == "encoded: several films are joined"
    assert not plan.files[0].copy
    assert encoded_instead(plan) is None
    with pytest.raises(UsageError, match="several films are joined"):
        joined(sources.COMPLIANT, sources.COMPLIANT, top="copy")


def test_what_is_changed_is_said() -> None:
    plan = joined(sources.COMPLIANT, sources.PAL, sources.PHONE, sources.SILENT, sources.COMPLIANT)
    first, pal, phone, silent, same = (part.reason for part in plan.parts)
    assert first == same == "nothing is changed"
    assert silent == "no sound: silence"
    assert pal == (
        "768×576 made 1920×1080, bars at the sides; deinterlaced; "
        "25.000 frames/s made 24.000; bt470bg made bt709"
    )
    assert phone == (
        "1080×1920 made 1920×1080, bars at the sides; turned upright; "
        "variable frame rate made constant 24.000; HDR to SDR"
    )
    wide = joined(sources.PAL, sources.FILM).parts[1].reason
    assert wide.startswith("1920×800 made 768×576, bars above and below; 23.976 frames/s made 50")
    small = replace(sources.COMPLIANT, video=(replace(sources.PICTURE, width=1280, height=720),))
    assert joined(sources.COMPLIANT, small).parts[1].reason == "1280×720 made 1920×1080"


# --- clips of them -------------------------------------------------------------------------------


def test_a_clip_is_what_it_has_of_each_film() -> None:
    """At 24 frames/s, of 30, 40, 30 and 40 s: what lies from picture 961 = 720 + 241 up to 1704 =
    1680 + 24. The source ends before; the second film's clock begins at 1.4 s."""
    plan = joined(
        sources.COMPLIANT, sources.BROADCAST, sources.CHAPTERED, sources.PAL,
        words=("hls", "poster", "waveform"), clip=parse_clip("40.01-71"),
    )  # fmt: skip
    assert plan.cut is not None
    assert [(part.input, sum(plan.timeline.frames[part.first : part.end]), part.cut)
            for part in plan.parts] == [
        ("film-2", 719, Cut(Fraction(241, 24), Fraction(40), "10.042 s to 40.000 s of the film")),
        ("film-3", 24, Cut(Fraction(0), Fraction(1), "0.000 s to 1.000 s of the film")),
    ]  # fmt: skip
    assert [warning for warning in plan.warnings if "outside" in warning] == [
        "source lies outside of the clip",
        "film-4 lies outside of the clip",
    ]
    assert (plan.cut.start_s, plan.cut.end_s) == (Fraction(961, 24), Fraction(71))
    steps = {step.id: step.inputs for step in plan.steps}
    assert steps["poster"] == ("film-2",)
    assert steps["audio"] == steps["waveform"] == ("film-2", "film-3")
    assert plan.parts[0].working_copy
    first, _ = films_of(plan)[0]
    # It is entered where its own clip would be, and counted on its own grid.
    alone = make_plan(sources.BROADCAST, make_profile(clip=parse_clip("10-")))
    assert (first.lead_frames, first.film_s) == (241, Fraction(7, 5))
    assert alone.film_s == first.film_s
    assert [(c.start_s, c.end_s, c.title) for c in plan.chapters] == [
        (Fraction(0), Fraction(719, 24), "Part 1"),
        (Fraction(719, 24), Fraction(743, 24), "Opening"),
    ]


def test_a_clip_that_leaves_no_sound_is_silent() -> None:
    words = ("hls", "waveform")
    assert joined(sources.COMPLIANT, sources.SILENT, clip=parse_clip("31-40")).sounds == ()
    with pytest.raises(InputRefused) as caught:
        joined(sources.COMPLIANT, sources.SILENT, words=words, clip=parse_clip("31-40"))
    assert caught.value.code == "no_audio"
    for clip, code in (("90-", "clip_outside"), ("0.001-0.002", "clip_invalid")):
        with pytest.raises(UsageError) as refused:
            joined(sources.COMPLIANT, sources.COMPLIANT, clip=parse_clip(clip))
        assert refused.value.code == code


def test_files_of_subtitles_count_from_the_start_of_the_whole() -> None:
    """The clip begins at 40 s of the whole, 10 s into the second film, whose clock is at 11.4 s."""
    facts = ExtraInput(
        "subtitles-en", "subtitles", sources.FINGERPRINT,
        subtitles=SubtitleFile("srt", "utf-8", guessed=False, cues=1),
    )  # fmt: skip
    profile = make_profile(concat=1, subtitles=(parse_side_car("en"),), clip=parse_clip("40-"))
    plan = make_plan(sources.COMPLIANT, profile, inputs=(facts, *inputs_of(sources.BROADCAST)))
    (track,) = plan.subtitles
    assert plan.timeline.origin_s - track.zero_s == 40


# --- sound ---------------------------------------------------------------------------------------


def test_tracks_go_on_in_their_language_else_in_the_default_one() -> None:
    def track(index: int, language: str | None, **facts: object) -> object:
        return replace(sources.SOUND, index=index, language=language, **facts)  # type: ignore[arg-type]

    first = sources.media(audio=(track(1, "eng"), track(2, "fra"), track(3, "fra")))  # type: ignore[arg-type]
    other = sources.media(audio=(track(4, "deu", default=False), track(7, "fra", default=False)))  # type: ignore[arg-type]
    plan = joined(first, other)
    assert [sound.stream for sound in plan.sounds] == [1, 2, 3]
    taken = [{one.name: one.stream for one in part.taken} for part in plan.parts]
    assert taken[0] == {"aac": 1, "aac-2": 2, "aac-3": 3}
    # The first of the file stands in for English; French is there once.
    assert taken[1] == {"aac": 4, "aac-2": 7, "aac-3": 7}
    assert plan.track(plan.sounds[1]).index == 2
    assert plan.track(plan.sounds[1]).end_s == 60
    english = joined(first, sources.COMPLIANT)
    assert english.parts[1].reason == (
        "no sound 'French': the one that plays by default; "
        "no sound 'French 2': the one that plays by default"
    )


def test_what_is_heard_instead_and_what_is_left_out_is_said() -> None:
    english, french, nameless = (
        replace(sources.SOUND, index=index, language=language, default=index == 1)
        for index, language in ((1, "eng"), (2, "fra"), (1, None))
    )
    first = sources.media(audio=(english,))
    foreign = sources.media(audio=(replace(french, index=1), replace(english, index=2)))
    plan = joined(first, sources.media(audio=(english, french)),
                  sources.media(audio=(replace(french, default=True),)),
                  sources.media(audio=(nameless,)), foreign)  # fmt: skip
    assert [part.reason for part in plan.parts] == [
        "nothing is changed",
        "sound of stream 2 (fra) left out",
        "no sound 'English': the one that plays by default",
        "nothing is changed",
        "sound of stream 1 (fra) left out",
    ]


def test_the_first_film_may_be_silent() -> None:
    plan = joined(sources.SILENT, sources.PAL, words=("hls", "flac", "mp3"))
    assert plan.audio is not None
    assert (plan.audio.start_s, plan.audio.end_s) == (Fraction(0), Fraction(40))
    assert [part.audio for part in plan.parts] == [None, 1]
    assert plan.track(plan.sounds[0]).codec == "mp2"
    silent = joined(sources.SILENT, sources.SILENT)
    assert silent.sounds == ()
    assert [part.reason for part in silent.parts] == ["nothing is changed"] * 2
    with pytest.raises(InputRefused) as caught:
        joined(sources.SILENT, sources.SILENT, words=("hls", "mp3"))
    assert caught.value.code == "no_audio"


# --- subtitles, chapters -------------------------------------------------------------------------


def text(index: int, language: str, *, forced: bool = False) -> SubtitleStream:
    return SubtitleStream(index, "text", "subrip", language, forced=forced)


def test_subtitles_of_a_language_are_one_track() -> None:
    first = replace(sources.FILM, subtitles=(text(2, "eng"), text(3, "eng"), text(4, "deu")))
    other = replace(
        sources.FILM,
        subtitles=(text(2, "deu"), text(5, "eng", forced=True), text(6, "eng")),
    )
    plan = joined(first, other)
    assert [track.name for track in plan.subtitles] == ["en", "en-2", "de", "en-forced"]
    names = {track.name for track in plan.subtitles}
    taken = [
        {one.name: one.stream for one in part.taken if one.name in names} for part in plan.parts
    ]
    assert taken == [{"en": 2, "en-2": 3, "de": 4}, {"de": 2, "en-forced": 5, "en": 6}]
    second, _ = films_of(plan)[1]
    assert [(t.name, t.stream) for t in second.subtitles] == [
        *(("en", 6), ("de", 2), ("en-forced", 5)),
    ]


def test_pictures_of_text_are_left_out_by_the_name_of_their_film() -> None:
    """Nor is burning them in proposed, which is refused of joined films."""
    discs = replace(
        sources.FILM, subtitles=(SubtitleStream(5, "bitmap", "hdmv_pgs_subtitle", "eng"),)
    )
    said = [warning for warning in joined(discs, discs).warnings if "subtitles" in warning]
    left = (
        "subtitles of stream 5 (hdmv_pgs_subtitle, eng) are left out: they are pictures, not text"
    )
    assert said == [left, f"film-2: {left}"]
    (alone,) = make_plan(discs, make_profile()).warnings
    assert alone == f"{left}; --burn-subtitle 5 makes them part of the film's"


def test_chapters_of_each_film_or_one_for_it() -> None:
    plan = joined(sources.COMPLIANT, sources.CHAPTERED, sources.COMPLIANT)
    assert plan.chapters == (
        Chapter(Fraction(0), Fraction(30), "Part 1"),
        Chapter(Fraction(30), Fraction(85, 2), "Opening"),
        Chapter(Fraction(85, 2), Fraction(60), "Chapter 2"),
        Chapter(Fraction(60), Fraction(90), "Part 3"),
    )


# --- sound alone ---------------------------------------------------------------------------------


def test_sound_alone_is_joined_on_a_grid_of_samples() -> None:
    """At 48 kHz a segment of 6 s has 288,000 samples; what is shorter than 2 s at an end goes with
    2 s of the one before: 13 s are 6 + 4 + 3. The second one's clock begins at 1.4 s."""
    late = replace(sources.SOUND, start_s=Fraction(7, 5), end_s=Fraction(7, 5) + 13)
    plan = joined(sources.SONG, sources.media(audio=late), words=("mp3", "flac"))
    song = sources.SONG.audio[0]
    assert song.end_s is not None
    lasts = [round((song.end_s - max(song.start_s or 0, 0)) * 48_000), 13 * 48_000]
    begins = [plan.timeline.boundaries[part.first] for part in plan.parts]
    assert begins == [0, lasts[0]]
    assert plan.timeline.boundaries[-1] == sum(lasts)
    assert [end - begin for begin, end in pairwise(plan.timeline.boundaries)][-2:] == [
        192_000,
        144_000,
    ]
    assert [(part.video, part.audio, part.origin_s) for part in plan.parts][1] == (
        None,
        1,
        Fraction(7, 5),
    )
    assert not plan.chunks
    assert not plan.renditions
    assert {step.id: step.inputs for step in plan.steps} == {
        "audio": ("film-2",),
        "loudness": (),
    }
    assert not any(file.copy for file in plan.files)
    assert plan_from_json(plan.to_json()) == plan


def test_a_clip_of_sound_alone_is_one_of_the_whole() -> None:
    plan = joined(sources.lasting(30), sources.lasting(30), words=("flac",), clip=parse_clip("40-"))
    assert [(part.input, part.origin_s, part.reason) for part in plan.parts] == [
        ("film-2", Fraction(10), "10.000 s to 30.000 s of the film"),
    ]
    assert plan.timeline.boundaries[-1] == 20 * 48_000
    assert "source lies outside of the clip" in plan.warnings


def test_sound_alone_of_what_has_none_is_refused() -> None:
    for films, named in (
        ((sources.SILENT, sources.COMPLIANT), "the source"),
        ((sources.COMPLIANT, sources.SONG, sources.SILENT), "film-3"),
    ):
        with pytest.raises(InputRefused, match=f"^{named} has no sound") as caught:
            joined(*films, words=("mp3",))
        assert caught.value.code == "no_audio"
    with pytest.raises(InputRefused) as caught:
        joined(sources.SONG, sources.SILENT)
    assert caught.value.code == "film_no_picture"


# --- refusals ------------------------------------------------------------------------------------


def test_films_without_pictures_or_too_long_together_are_refused() -> None:
    for films, code in (
        ((sources.COMPLIANT, sources.SONG), "film_no_picture"),
        ((sources.SONG, sources.COMPLIANT), "film_no_picture"),
        ((sources.lasting(25 * 3600), sources.lasting(24 * 3600)), "too_long"),
    ):
        with pytest.raises(InputRefused) as caught:
            joined(*films)
        assert caught.value.code == code


def test_a_film_that_nobody_gave_is_asked_for() -> None:
    profile = make_profile(concat=1)
    for inputs in ((), (ExtraInput("film-2", "film", sources.FINGERPRINT),)):
        with pytest.raises(UsageError) as caught:
            make_plan(sources.COMPLIANT, profile, inputs=inputs)
        assert caught.value.code == "input_missing"
    plan = joined(sources.COMPLIANT, sources.PAL)
    lacking = replace(plan, inputs=(replace(plan.inputs[0], film=None),))
    with pytest.raises(UsageError, match="film-2 is no film"):
        films_of(lacking)


def test_what_further_films_warn_of_is_said_by_their_name() -> None:
    odd = replace(sources.SEVERAL, warnings=("broken here and there",))
    warnings = joined(sources.COMPLIANT, odd).warnings
    assert "film-2: broken here and there" in warnings
    assert any(warning.startswith("film-2: 2 video streams") for warning in warnings)


# --- golden files --------------------------------------------------------------------------------

EVERY_KIND: Profile = make_profile(
    tuple(parse_output(word) for word in ("hls", "mp3", "flac", "poster", "waveform")),
    (360,),
    loudness_lufs=-16.0,
    concat=3,
)


def golden_plan() -> Plan:
    return make_plan(
        sources.FILM,
        EVERY_KIND,
        inputs=inputs_of(sources.PAL, sources.PHONE, sources.SILENT),
    )


def test_golden_plan() -> None:
    plan = golden_plan()
    goldens.check("joined.plan.json", plan.to_json())
    assert plan_from_json(plan.to_json()) == plan


def test_golden_argv() -> None:
    tools = Tools(Path("/opt/ffmpeg"), "9.0.2", Sandbox("none"))
    beside = {f"film-{n}": Path(f"/in/film-{n}") for n in (2, 3, 4)}
    allowed = ",".join(DEMUXERS)
    parts = []
    made = commands(golden_plan(), tools, Path("/in/film"), Path("/out"), beside)
    for step, command in made:
        shown = ["{demuxers}" if word == allowed else word for word in command]
        parts.append(f"# {step}\n" + "".join(f"{word}\n" for word in shown))
    goldens.check("joined.argv.txt", "\n".join(parts))
