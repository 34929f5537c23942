"""Command lines: whole lists against golden files, and what must never be in one."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit import goldens
from tests.unit.sources import (
    BROADCAST,
    COMPLIANT,
    DEFAULT_KEYINT,
    LOGO,
    PICTURE,
    SONG,
    SOUND,
    SURROUND,
    UHD60,
    lasting,
    media,
)

from telecine.engine import argv
from telecine.engine.loudness import AS_IT_IS, Gain
from telecine.engine.media import MediaInfo, PictureFormat
from telecine.engine.plan import Plan, Step
from telecine.engine.planning import make_plan
from telecine.engine.profile import make_profile, parse_output
from telecine.engine.sandbox import DEMUXERS
from telecine.engine.searching import Compared
from telecine.engine.words.clip import parse_clip
from telecine.engine.words.watermark import make_watermark

FFMPEG = Path("/opt/ffmpeg")
SOURCE = Path("/in/film")
FOLDER = Path("/out/work")
MARK = Path("/in/logo")  # given always, read where the plan has a watermark


def gains_of(plan: Plan) -> dict[str, Gain]:
    """As the step `gain` might leave them: one comes near to the bound, the others do not."""
    if plan.profile.loudness_lufs is None:
        return {}
    gains = {name: Gain(-3.5) for name in argv.encoded_sounds(plan)}
    return gains | {plan.sounds[0].name: Gain(6.25, -1.5)}


def lines(plan: Plan, source: Path = SOURCE) -> dict[str, list[str]]:
    """Every command that this plan's steps may run, by a name for it."""
    made: dict[str, list[str]] = {}
    if plan.working_copy:
        made["working copy"] = argv.working_copy(FFMPEG, plan, source, FOLDER / "working.mkv")
    for step in plan.steps:
        if step.kind == "encode":
            copy = plan.reads_copy(step)
            burn = None
            if plan.burned_in is not None and plan.burned_in.kind == "bitmap":
                burn = FOLDER / "burn.mkv"
                made["pictures of text"] = argv.burn_copy(FFMPEG, plan, source, burn)
            film = argv.Film(FOLDER / "working.mkv" if copy else source, copy, burn, mark=MARK)
            made[step.id] = argv.encode_chunk(FFMPEG, plan, step, film)
        elif step.kind in ("search", "measure"):
            made |= judging(plan, step, source)
        elif step.kind == "video-copy":
            made[step.id] = argv.copy_video(FFMPEG, plan, source)
        elif step.kind == "audio":
            made[step.id] = argv.audio(FFMPEG, plan, [source], FOLDER, gains_of(plan))
        elif step.kind == "audio-others":
            made[step.id] = argv.audio_others(FFMPEG, plan, [source], gains_of(plan))
        elif step.kind == "gain":
            as_it_is = dict.fromkeys(gains_of(plan), AS_IT_IS)
            made[step.id] = argv.measure_encoded(FFMPEG, plan, [source], as_it_is)
            made["gain, again"] = argv.measure_encoded(FFMPEG, plan, [source], gains_of(plan))
        elif step.kind == "loudness":
            files = [FOLDER / f"{sound.name}.mp4" for sound in plan.sounds]
            files += [FOLDER / file.path for file in argv.audio_files(plan)]
            made[step.id] = argv.measure_files(FFMPEG, files)
        elif step.kind == "poster":
            size, time_s = argv.poster_size(plan), plan.poster_time_s
            made[step.id] = argv.poster(FFMPEG, plan, source, size=size, time_s=time_s, mark=MARK)
        elif step.kind == "waveform":
            made[step.id] = argv.waveform(FFMPEG, plan, [source])
        elif step.kind == "preview":
            assert plan.preview is not None
            made[step.id] = argv.preview(FFMPEG, plan.preview, FOLDER / "pieces.mp4")
        elif step.kind == "mp4":
            assert step.output is not None
            sound = FOLDER / "sound.mp4" if plan.sounds else None
            made[step.id] = argv.join_mp4(FFMPEG, FOLDER / "video.mp4", sound, FOLDER / step.output)
        for stills in plan.stills:
            if stills.kind == step.kind:
                made[step.id] = argv.stills(FFMPEG, stills, FOLDER / "keys.mp4")
    return made


def judging(plan: Plan, step: Step, source: Path) -> dict[str, list[str]]:
    """What is run for the first of the plan's samples: all but one of the renditions are tried."""
    fine, sample = argv.fine(plan), plan.samples[0]
    film = argv.Film(source, plan.judges_copy, mark=MARK)
    assert film.read == (source, MARK)
    made: dict[str, list[str]] = {}
    tried = plan.judged[:-1] or plan.judged
    if step.kind == "search":
        made[f"{step.id}, a try"] = argv.encode_sample(
            FFMPEG,
            fine,
            sample,
            {rendition.name: 31.5 for rendition in tried},
            film,
        )
    compared = [(FOLDER / f"{each.name}.mp4", Compared(each.size)) for each in tried]
    made[f"{step.id}, compared"] = argv.compare(FFMPEG, fine, sample.number, film, compared)
    return made


def check(golden: str, commands: dict[str, list[str]]) -> None:
    """One element a line; the allow-list of demuxers, the same everywhere, by its name."""
    allowed = ",".join(DEMUXERS)
    parts = []
    for name, command in commands.items():
        shown = ["{demuxers}" if word == allowed else word for word in command]
        parts.append(f"# {name}\n" + "".join(f"{word}\n" for word in shown))
    goldens.check(golden, "\n".join(parts))


@pytest.mark.parametrize("case", goldens.CASES)
def test_golden_argv(case: str) -> None:
    check(f"{case}.argv.txt", lines(make_plan(*goldens.CASES[case])))


def test_golden_argv_of_the_probe() -> None:
    commands = {
        "decode_check": argv.decode_check(FFMPEG, 2, SOURCE, frames=8),
        "audio_check": argv.audio_check(FFMPEG, 1, SOURCE),
        "field_check": argv.field_check(FFMPEG, 0, SOURCE),
    }
    check("probe.argv.txt", commands)


def test_golden_argv_under_a_watermark() -> None:
    """Its file is an input of what shows it: the pictures and the poster, and of its own check."""
    mark = make_watermark("top-right", Fraction(1, 2), Fraction(1, 10))
    outputs = tuple(parse_output(word) for word in ("hls", "poster"))
    profile = make_profile(outputs, (360,), watermark=mark)
    made = lines(make_plan(COMPLIANT, profile, inputs=(LOGO,)))
    made["picture_check"] = argv.picture_check(FFMPEG, MARK, "png")
    check("watermark.argv.txt", made)
    assert {name for name, line in made.items() if f"file:{MARK}" in line} == {
        *("encode-0000", "poster", "picture_check")
    }


@pytest.mark.parametrize("format_", ["png", "jpeg", "webp"])
def test_a_watermark_is_read_as_one_picture_and_as_nothing_else(format_: PictureFormat) -> None:
    """FFmpeg's demuxers of one picture: png_pipe, jpeg_pipe, webp_pipe."""
    command = argv.picture_check(FFMPEG, MARK, format_)
    assert option(command, "-format_whitelist") == [f"{format_}_pipe"]
    assert option(command, "-f") == [f"{format_}_pipe", "null"]
    assert option(command, "-protocol_whitelist") == ["file"]
    assert option(command, "-i") == ["file:/in/logo"]


def option(command: list[str], name: str) -> list[str]:
    """Every value that `name` has in this command."""
    return [command[n + 1] for n, word in enumerate(command) if word == name]


# --- seeking -----------------------------------------------------------------------------------


def test_a_chunk_decodes_from_two_seconds_before_it_on_the_sources_clock() -> None:
    plan = make_plan(lasting(54, replace(PICTURE, start_s=Fraction(3, 2))), make_profile())
    starts = [option(line, "-ss") for name, line in lines(plan).items() if "encode" in name]
    # Head and first chunk begin at 0, the second at 24 s; sound rules from 0 on.
    assert plan.timeline.origin_s == 0
    assert starts == [[], [], ["22.000000"]]


def test_a_working_copy_starts_at_ten_seconds() -> None:
    made = lines(make_plan(BROADCAST, make_profile()))
    # The source starts at 1.4 s.
    assert option(made["working copy"], "-output_ts_offset") == ["8.600000"]
    # The chunk starts at 24 s: 10 + 24 − 2, and presentation 0 is at 10000 ms.
    assert option(made["encode-0001"], "-ss") == ["32.000000"]
    (graph,) = option(made["encode-0001"], "-filter_complex")
    assert graph.startswith("[0:0]setpts=PTS-10000,")
    # The first chunk reads the source itself: 1.4 × 90000.
    (graph,) = option(made["encode-0000-head"], "-filter_complex")
    assert graph.startswith("[0:0]setpts=PTS-126000,")
    assert option(made["encode-0000-head"], "-i") == ["file:/in/film"]
    assert option(made["encode-0001"], "-i") == ["file:/out/work/working.mkv"]


def test_the_poster_of_the_very_start_is_not_sought() -> None:
    plan = make_plan(COMPLIANT, make_profile())
    size = argv.poster_size(plan)
    first, later = (
        argv.poster(FFMPEG, plan, SOURCE, size=size, time_s=Fraction(time_s)) for time_s in (0, 3)
    )
    assert "-ss" not in first
    assert option(later, "-ss") == ["3.000000"]


def test_ffmpeg_turns_no_fields() -> None:
    """Its own turning comes before the graph, and so before the deinterlacer."""
    (fields,) = BROADCAST.video
    for video, coded in ((replace(fields, rotation=90), True), (fields, False)):
        made = lines(make_plan(replace(BROADCAST, video=(video,)), make_profile()))
        for name, command in made.items():
            wanted = coded and name.startswith(("encode", "poster"))
            assert ("-noautorotate" in command[: command.index("-i")]) == wanted, name
    progressive = make_plan(media(replace(PICTURE, rotation=90)), make_profile())
    assert not any("-noautorotate" in command for command in lines(progressive).values())


def test_a_copied_clip_has_its_own_pictures_and_is_sought_by_half_a_picture_too_much() -> None:
    """10 s of 24 pictures each; the key picture before that of 10 s stands at 8 s."""
    for clip, begin in (("10-20", ["8.020833"]), ("-10", [])):
        plan = make_plan(COMPLIANT, make_profile(clip=parse_clip(clip)))
        command = lines(plan)["video-copy"]
        # What stands behind the input is said of the output.
        behind = command[command.index("-i") :]
        assert (option(behind, "-ss"), option(behind, "-frames:v")) == (begin, ["240"])


# --- keyframes ---------------------------------------------------------------------------------


def test_rungs_under_a_copy_have_idrs_on_its_borders_and_every_two_seconds_between() -> None:
    plan = make_plan(DEFAULT_KEYINT, make_profile())
    assert [(chunk.first, chunk.end) for chunk in plan.chunks] == [(0, 3)]
    (command,) = (line for name, line in lines(plan).items() if name == "encode-0000")
    forced = option(command, "-force_key_frames")
    # 10.4167 s in five, twice; the last 9.1667 s in five as well: round(4.58).
    first = [Fraction(125, 12) * n / 5 for n in range(10)]
    last = [Fraction(125, 6) + Fraction(55, 6) * n / 5 for n in range(5)]
    expected = ",".join(f"{int(time * 1_000_000) / 1_000_000:.6f}" for time in (*first, *last))
    assert forced == [expected] * 4
    assert expected.startswith("0.000000,2.083333,4.166666,6.250000,8.333333,10.416666,")
    assert option(command, "-g") == ["100000"] * 4
    assert option(command, "-keyint_min") == ["1"] * 4


def test_an_encoded_grid_forces_nothing() -> None:
    command = lines(make_plan(COMPLIANT, make_profile(top="encode")))["encode-0000"]
    assert "-force_key_frames" not in command
    assert option(command, "-g") == ["48"] * 5
    assert option(command, "-keyint_min") == ["48"] * 5
    assert option(command, "-maxrate") == ["6000000", "3500000", "1600000", "900000", "450000"]
    assert option(command, "-bufsize") == ["12000000", "7000000", "3200000", "1800000", "900000"]


# --- sound -------------------------------------------------------------------------------------


def audio_line(source: MediaInfo, *words: str) -> list[str]:
    outputs = tuple(parse_output(word) for word in words)
    return lines(make_plan(source, make_profile(outputs)))["audio"]


@pytest.mark.parametrize(
    ("source", "word", "rate"),
    [
        (media(None, SOUND), "mp3", 48_000),
        (SONG, "mp3", 44_100),
        (SONG, "opus", 48_000),  # Opus knows 48 kHz alone
        (media(None, replace(SOUND, sample_rate=96_000)), "mp3", 48_000),
        (media(None, replace(SOUND, sample_rate=8_000)), "aac@64k", 48_000),
    ],
)
def test_sound_files_have_a_rate_that_every_player_knows(
    source: MediaInfo, word: str, rate: int
) -> None:
    (graph,) = option(audio_line(source, word), "-filter_complex")
    assert f",aresample={rate},aformat=channel_layouts=stereo[a0]" in graph


def test_flac_keeps_rate_and_channels_up_to_eight() -> None:
    six = audio_line(media(None, SURROUND), "flac")
    assert option(six, "-filter_complex") == [
        "[0:1]asplit=1[s0];[s0]aresample=async=1:min_hard_comp=0.01[a0]"
    ]
    assert "-ac" not in six
    assert "-ac" not in audio_line(media(None, replace(SURROUND, channels=8)), "flac")
    sixteen = audio_line(media(None, replace(SURROUND, channels=16)), "flac")
    assert option(sixteen, "-ac") == ["8"]
    assert "-b:a" not in sixteen


def test_copied_sound_needs_no_graph() -> None:
    command = audio_line(media(None, SOUND), "hls", "aac")
    assert "-filter_complex" not in command
    assert option(command, "-map") == ["0:1", "0:1"]
    assert option(command, "-c:a") == ["copy", "copy"]
    assert command[-1] == "file:/out/work/audio.m4a"


def test_all_sound_comes_from_one_decode() -> None:
    command = audio_line(media(None, SURROUND), "hls", "mp3", "flac")
    assert command.count("-i") == 1
    assert option(command, "-map") == ["[a0]", "[a1]", "[a2]"]
    assert option(command, "-b:a") == ["128000", "192000"]


# --- pictures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "size"),
    [(UHD60, (1920, 1080)), (COMPLIANT, (1920, 1080)), (lasting(6), (1920, 1080))],
)
def test_posters_are_at_most_1080_high(source: MediaInfo, size: tuple[int, int]) -> None:
    poster = argv.poster_size(make_plan(source, make_profile()))
    assert (poster.width, poster.height) == size


def test_a_joined_file_without_sound_has_one_input() -> None:
    command = argv.join_mp4(FFMPEG, FOLDER / "v.mp4", None, FOLDER / "o.mp4")
    assert option(command, "-map") == ["0:v:0"]
    assert option(command, "-i") == ["file:/out/work/v.mp4"]


# --- hostile names -----------------------------------------------------------------------------

names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=60
)
HOSTILE = "-y;[in]movie=/etc/passwd,concat:http://x%d\n\"'"


@given(name=names, case=st.sampled_from(sorted(goldens.CASES)))
def test_a_sources_name_is_one_word_behind_file_whatever_it_says(name: str, case: str) -> None:
    plan = make_plan(*goldens.CASES[case])
    plain = lines(plan)
    for step, command in lines(plan, Path(name)).items():
        expected = [
            f"file:{Path(name)}" if word == f"file:{SOURCE}" else word for word in plain[step]
        ]
        assert command == expected


@pytest.mark.parametrize("case", goldens.CASES)
def test_no_text_of_a_file_reaches_a_command(case: str) -> None:
    source, profile = goldens.CASES[case]
    hostile = replace(
        source,
        warnings=(HOSTILE,),
        audio=tuple(
            replace(
                audio,
                language=HOSTILE,
                title=HOSTILE,
                # By this one it is decided whether sound may be copied.
                channel_layout="5.1" if audio.channel_layout == "5.1" else HOSTILE,
            )
            for audio in source.audio
        ),
        video=tuple(replace(video, language=HOSTILE) for video in source.video),
    )
    assert lines(make_plan(hostile, profile)) == lines(make_plan(source, profile))


@pytest.mark.parametrize("case", goldens.CASES)
def test_every_input_has_the_flags_that_keep_a_hostile_file_in(case: str) -> None:
    for command in lines(make_plan(*goldens.CASES[case])).values():
        inputs = command.count("-i")
        assert inputs >= 1
        assert option(command, "-protocol_whitelist") == ["file"] * inputs
        assert option(command, "-format_whitelist") == [",".join(DEMUXERS)] * inputs
        assert len(option(command, "-max_pixels")) == inputs
        assert len(option(command, "-max_streams")) == inputs
        assert all(path.startswith("file:") for path in option(command, "-i"))
