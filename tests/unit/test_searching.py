"""The search for a quality: places, levels, and rungs that add nothing, by arithmetic."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit import sources

from telecine.engine.encoders import FALLBACK, VIDEO_ENCODERS, Levels
from telecine.engine.errors import StepFailed, UsageError
from telecine.engine.ladder import Size
from telecine.engine.profile import make_profile
from telecine.engine.searching import (
    MAX_SAMPLES,
    MAX_TRIES,
    SETTLED,
    Choices,
    Compared,
    Sample,
    Scores,
    Try,
    choose,
    choose_samples,
    fine_timeline,
    hardest_bps,
    loads,
    model_for,
    next_crf,
    pairs_to_compare,
    part_name,
    part_of,
    superfluous,
    together,
    total_s,
    trial_name,
)
from telecine.engine.timeline import Timeline, constant_timeline
from telecine.engine.words.quality import parse_quality

LEVELS = Levels(finest=10.0, coarsest=45.0, step=0.5, slope=1.0)


def tried(*pairs: tuple[float, float], rate: int = 1_000_000) -> list[Try]:
    return [Try(crf, vmaf, rate, rate) for crf, vmaf in pairs]


# --- places -------------------------------------------------------------------------------------


def test_a_film_is_parted_into_gops() -> None:
    # 29.97: a GOP is 60 pictures of 1001 ticks; 20 s are 599 pictures.
    film = constant_timeline(Fraction(30000, 1001), Fraction(0), Fraction(20))
    fine = fine_timeline(film)
    assert fine.boundaries == (*(n * 60 * 1001 for n in range(10)), 599 * 1001)
    assert fine.frames == (60,) * 9 + (59,)
    assert (fine.rate, fine.timescale, fine.gop_frames) == (film.rate, film.timescale, 60)


def test_segments_of_a_copied_grid_are_parted_evenly() -> None:
    copied = Timeline(
        origin_s=Fraction(0),
        rate=Fraction(25),
        constant=False,
        timescale=1000,
        frame_ticks=0,
        boundaries=(0, 10_400, 12_000),
        frames=(260, 40),
        gop_frames=None,
        target_duration_s=11,
    )
    fine = fine_timeline(copied)
    # 10.4 s have five keys of about 2 s, 1.6 s have one.
    assert fine.boundaries == (0, 2080, 4160, 6240, 8320, 10_400, 12_000)
    assert fine.frames == (0,) * 6


def test_how_hard_a_part_is_follows_from_the_bytes_of_the_source() -> None:
    # GOPs of 48 pictures at 24/s, 2 s each, of 480 kB: 240 kB/s; the third one is three times that.
    table = sources.table([48] * 5)
    keys = list(table.keyframes)
    keys[2] = replace(keys[2], size_bytes=3 * keys[2].size_bytes)
    video = replace(sources.PICTURE, index_table=replace(table, keyframes=tuple(keys)))
    film = fine_timeline(constant_timeline(Fraction(24), Fraction(0), Fraction(10)))
    assert loads(video, film) == pytest.approx([240e3, 240e3, 720e3, 240e3, 240e3])
    # A clip that begins in the middle of the third: half of it, then the fourth.
    clip = fine_timeline(constant_timeline(Fraction(24), Fraction(5), Fraction(9)))
    assert loads(video, clip) == pytest.approx([480e3, 240e3])


def test_without_an_index_all_parts_are_alike() -> None:
    film = fine_timeline(constant_timeline(Fraction(24), Fraction(0), Fraction(10)))
    assert loads(replace(sources.PICTURE, index_table=None), film) == [0.0] * 5


def test_samples_stand_for_the_whole_range_of_difficulty() -> None:
    # 32 GOPs: half of the film is easy, the other half harder and harder.
    film = fine_timeline(constant_timeline(Fraction(25), Fraction(0), Fraction(64)))
    hard = [100.0] * 16 + [200.0 + 50 * n for n in range(16)]
    samples = choose_samples(film, hard)
    assert [sample.number for sample in samples] == sorted(sample.number for sample in samples)
    assert len(samples) == MAX_SAMPLES
    assert [sample.share for sample in samples] == [Fraction(1, 8)] * 8
    assert sum(sample.number < 16 for sample in samples) == 4
    # The mean of the samples is that of the film, within half a step of difficulty.
    found = together(samples, [hard[sample.number] for sample in samples])
    assert found == pytest.approx(sum(hard) / 32, abs=25)


def test_alike_parts_are_looked_at_all_over_the_film() -> None:
    film = fine_timeline(constant_timeline(Fraction(25), Fraction(0), Fraction(160)))
    samples = choose_samples(film, [0.0] * 80)
    assert [sample.number for sample in samples] == [5, 15, 25, 35, 45, 55, 65, 75]
    assert total_s(samples) == 16
    assert (samples[0].start_s, samples[0].end_s) == (Fraction(10), Fraction(12))


def test_a_short_film_is_looked_at_whole_but_for_a_stump() -> None:
    film = fine_timeline(constant_timeline(Fraction(25), Fraction(0), Fraction(45, 10)))
    samples = choose_samples(film, [1.0, 2.0, 3.0])
    assert [(sample.number, sample.share) for sample in samples] == [
        (0, Fraction(1, 2)),
        (1, Fraction(1, 2)),
    ]
    moment = fine_timeline(constant_timeline(Fraction(25), Fraction(0), Fraction(1, 25)))
    assert [sample.share for sample in choose_samples(moment, [1.0])] == [1]


@given(st.lists(st.floats(0, 1e7), min_size=1, max_size=60), st.integers(1, 12))
def test_samples_always_stand_for_all_of_the_film(hard: list[float], count: int) -> None:
    film = fine_timeline(constant_timeline(Fraction(25), Fraction(0), Fraction(2 * len(hard))))
    samples = choose_samples(film, hard, count)
    assert len(samples) == min(count, len(hard))
    assert sum(sample.share for sample in samples) == 1
    assert len({sample.number for sample in samples}) == len(samples)


def test_where_a_sample_lies_in_finished_segments() -> None:
    film = constant_timeline(Fraction(25), Fraction(0), Fraction(20))  # segments of 6 s
    sample = choose_samples(fine_timeline(film), [0.0] * 10)[4]
    assert sample.start_s == 10
    tick = film.timescale
    assert part_of(film, sample, Size(640, 360)) == (
        1,
        Compared(Size(640, 360), 4 * tick, 6 * tick),
    )


def test_files_of_samples_are_told_apart_by_place_rendition_and_level() -> None:
    sample = Sample(7, Fraction(14), Fraction(16), Fraction(1))
    assert trial_name(sample, "av1-720p", 33.0) == "7-av1-720p-33.mp4"
    assert trial_name(sample, "720p", 23.5) == "7-720p-23.5.mp4"
    assert part_name(sample, "720p") == "7-720p.mp4"


# --- levels -------------------------------------------------------------------------------------


def test_the_usual_level_is_tried_first() -> None:
    assert next_crf([], 90, 23.0, LEVELS) == 23.0


def test_the_next_follows_the_usual_slope_and_then_the_line_that_was_found() -> None:
    assert next_crf(tried((23, 94)), 90, 23, LEVELS) == 27.0
    assert next_crf(tried((23, 84)), 90, 23, LEVELS) == 17.0
    # Two points a level: 3 points above are a level and a half.
    assert next_crf(tried((23, 97), (25, 93)), 90, 23, LEVELS) == 26.5
    # Between 94 at 23 and 88 at 27 a line is at 90 with 25.67: 25.5 is the nearest step.
    assert next_crf(tried((23, 94), (27, 88)), 90, 23, LEVELS) == 25.5


def test_nothing_is_believed_to_be_too_steep_or_too_flat_nor_very_far() -> None:
    # A slope of 0.05 counts as 0.4; 12 points away are 30 levels then, of which 12 are gone.
    assert next_crf(tried((20, 75.1), (18, 75.5)), 90, 23, LEVELS) == 10.0
    assert next_crf(tried((23, 100), (23.5, 99.99)), 80, 23, LEVELS) == 35.5


def test_the_search_ends_near_enough_or_tried_often_enough() -> None:
    assert next_crf(tried((23, 90 + SETTLED)), 90, 23, LEVELS) is None
    often = tried(*((23 + n, 80 - n) for n in range(MAX_TRIES)))
    assert next_crf(often, 90, 23, LEVELS) is None


def test_the_search_ends_between_neighbours_and_at_the_ends() -> None:
    assert next_crf(tried((23, 91), (23.5, 89.2)), 90, 23, LEVELS) is None
    assert next_crf(tried((10, 80)), 90, 23, LEVELS) is None
    assert next_crf(tried((45, 99)), 90, 23, LEVELS) is None


def test_the_search_ends_where_levels_lead_nowhere() -> None:
    # Finer and no better: the ceiling holds.
    assert next_crf(tried((23, 80), (19, 80.2)), 90, 23, LEVELS) is None
    # Coarser and better, which no line describes.
    assert next_crf(tried((23, 88), (25, 92)), 90, 23, LEVELS) is None


def test_a_level_that_does_not_do_as_it_should_is_gone_beyond() -> None:
    """Snow in AV1: a coarser level came out better, and the target lies behind both."""
    # It costs next to nothing a level, which counts as 0.24: 2.7 points are 11 levels behind 41.
    snow = tried((39, 91.4), (41, 92.7))
    assert next_crf(snow, 90, 39, VIDEO_ENCODERS["av1"].levels) == 52


@given(
    st.floats(60, 97),
    st.floats(0.5, 2.2),
    st.floats(70, 99.5),
    st.sampled_from(sorted(VIDEO_ENCODERS)),
)
def test_a_straight_film_is_found_within_a_step(
    target: float, slope: float, usual_vmaf: float, codec: str
) -> None:
    """Where levels act evenly, the search ends at most a level's step away, if one may go there."""
    encoder = VIDEO_ENCODERS[codec]
    levels, usual = encoder.levels, encoder.usual_crf(1080)

    def vmaf(crf: float) -> float:
        return usual_vmaf - slope * (crf - usual)

    tries: list[Try] = []
    while (crf := next_crf(tries, target, usual, levels)) is not None:
        assert levels.finest <= crf <= levels.coarsest
        tries.append(Try(crf, vmaf(crf), 1, 1))
    assert len(tries) <= MAX_TRIES
    chosen = choose("a", tries, target, levels, 10)
    if vmaf(levels.finest) > target > vmaf(levels.coarsest) and abs(usual_vmaf - target) < 15:
        assert abs(chosen.vmaf - target) <= max(SETTLED, slope * levels.step) + 1e-6


def test_the_try_nearest_to_the_target_is_chosen() -> None:
    found = choose("360p", tried((23, 94), (27, 89.7), (26.5, 90.6)), 90, LEVELS, 2_000_000)
    assert (found.crf, found.vmaf, len(found.tries)) == (27, 89.7, 3)
    assert found.reason == "VMAF 89.7 at CRF 27 in samples"


def test_where_levels_change_nothing_the_coarsest_is_chosen() -> None:
    """Black pictures: VMAF is 97.43 at any level."""
    tries: list[Try] = []
    while (crf := next_crf(tries, 90, 23, LEVELS)) is not None:
        tries.append(Try(crf, 97.43, 4000, 4000))
    assert tries[-1].crf == LEVELS.coarsest
    found = choose("180p", tries, 90, LEVELS, 280_000)
    assert found.crf == LEVELS.coarsest
    assert found.reason.endswith(", the coarsest that is used")


def test_what_the_ceiling_holds_down_is_said_and_not_starved() -> None:
    hard = tried((23, 80), (19, 80.2), rate=7_000_000)
    found = choose("1080p", hard, 90, LEVELS, 6_000_000)
    assert found.crf == 23
    assert found.reason == (
        "VMAF 80.0 at CRF 23 in samples: 90 is out of reach, its ceiling of 6000 kb/s holds"
    )
    partly = choose("1080p", [Try(23, 90.1, 3_000_000, 7_000_000)], 90, LEVELS, 6_000_000)
    assert partly.reason.endswith(
        "in samples; what is hardest is held down by its ceiling of 6000 kb/s"
    )


def test_a_film_of_a_few_pictures_may_take_its_time() -> None:
    # 3540 bytes in one of 25 pictures a second: 708 kb/s, or 14 kb/s over a buffer of two seconds.
    moment = Sample(0, Fraction(0), Fraction(1, 25), Fraction(1))
    assert hardest_bps([moment], [708_000]) == 14_160
    two = Sample(0, Fraction(0), Fraction(2), Fraction(1, 2))
    assert hardest_bps([two, replace(two, end_s=Fraction(3))], [500_000, 400_000]) == 500_000


def test_what_cannot_be_reached_is_said() -> None:
    assert choose("a", tried((10, 80)), 90, LEVELS, 2_000_000).reason.endswith(
        ": 90 is out of reach"
    )
    assert choose("a", tried((45, 99)), 90, LEVELS, 2_000_000).reason.endswith(
        ", the coarsest that is used"
    )


def test_choices_are_found_by_name() -> None:
    one = choose("a", tried((23, 90)), 90, LEVELS, 2_000_000)
    choices = Choices(90, (one,), (), (), 1.0, 1.0)
    assert (choices.of("a"), choices.of("b")) == (one, None)


# --- rungs that add nothing ---------------------------------------------------------------------

NAMES = ["360p", "480p", "720p", "1080p"]
VMAF = dict.fromkeys(NAMES, 90.0)


def test_neighbours_are_compared_first_and_then_over_what_was_dropped() -> None:
    assert pairs_to_compare(NAMES, {}, VMAF) == [
        ("360p", "480p"),
        ("480p", "720p"),
        ("720p", "1080p"),
    ]
    known = {("360p", "480p"): 80.0, ("480p", "720p"): 70.0, ("720p", "1080p"): 60.0}
    assert pairs_to_compare(NAMES, known, VMAF) == []
    known["480p", "720p"] = 88.5  # 720p shows nothing more: is 1080p still worth it, beside 480p?
    assert pairs_to_compare(NAMES, known, VMAF) == [("480p", "1080p")]
    known["480p", "1080p"] = 85.0
    assert pairs_to_compare(NAMES, known, VMAF) == []


def test_a_rung_that_adds_nothing_visible_is_dropped_with_its_reason() -> None:
    known = {
        ("360p", "480p"): 80.0,
        ("480p", "720p"): 88.5,
        ("720p", "1080p"): 60.0,
        ("480p", "1080p"): 85.0,
    }
    (dropped,) = superfluous(NAMES, known, VMAF)
    assert dropped.name == "720p"
    assert dropped.reason == ("adds nothing visible to 480p, enlarged: VMAF 88.5 beside 90.0")
    known["480p", "720p"] = 86.0  # four points are seen
    assert superfluous(NAMES, known, VMAF) == []


# --- what FFmpeg says, and words ----------------------------------------------------------------

SAID = """\
Stream mapping:
[libvmaf@m1 @ 0x7f8bf0002e00] VMAF score: 93.125436
frame=   48 fps= 20 [Parsed_libvmaf@m0_9 @ 0x55de91c0d100] VMAF score: 100
"""


def test_scores_are_read_by_their_number() -> None:
    scores = Scores()
    for line in SAID.splitlines():
        scores.take(line)
    assert scores.found(2) == [100.0, 93.125436]
    with pytest.raises(StepFailed) as failed:
        scores.found(3)
    assert failed.value.code == "not_measured"


def test_pictures_of_4k_have_a_model_of_their_own() -> None:
    assert model_for(Size(3840, 2160)) == "vmaf_4k_v0.6.1"
    assert model_for(Size(2560, 1440)) == model_for(Size(426, 240)) == "vmaf_v0.6.1"


@pytest.mark.parametrize(("text", "vmaf"), [("90", 90.0), ("50", 50.0), ("97.25", 97.25)])
def test_qualities_that_are_accepted(text: str, vmaf: float) -> None:
    assert parse_quality(text) == vmaf
    assert make_profile(quality=parse_quality(text)).quality == vmaf


@pytest.mark.parametrize(
    "text", ["", "9", "49.99", "98.01", "100", "-90", "9e1", "90%", "٩٠", "nan"]
)
def test_qualities_that_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_quality(text)
    assert refused.value.code == "quality_invalid"


def test_every_encoder_has_its_usual_level_among_those_of_a_search() -> None:
    for encoder in VIDEO_ENCODERS.values():
        for side in (144, 240, 360, 480, 720, 1080, 2160):
            usual = encoder.usual_crf(side)
            assert next_crf([], 90, usual, encoder.levels) == usual
    assert FALLBACK.usual_crf(1080) == 23


def test_a_sample_is_weighed_by_what_it_stands_for() -> None:
    samples = [
        Sample(0, Fraction(0), Fraction(2), Fraction(3, 4)),
        Sample(1, Fraction(2), Fraction(4), Fraction(1, 4)),
    ]
    assert together(samples, [80, 100]) == 85
