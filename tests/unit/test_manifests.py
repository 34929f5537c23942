"""What the playlists of a plan say, read by parsers that are not ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import m3u8
import pytest
from mpegdash.parser import MPEGDASHParser  # type: ignore[import-untyped]
from tests.unit.goldens import CASES
from tests.unit.sources import COMPLIANT, FILM, SILENT, SONG, lasting

from telecine.engine import manifests
from telecine.engine.formats import mpd, playlist
from telecine.engine.plan import Plan
from telecine.engine.planning import make_plan
from telecine.engine.profile import Output, make_profile
from telecine.engine.segments import Segment

# 30 s, 24 frames a second, segments of 6 s; the top rung is copied, and then none is.
COPIED = make_plan(COMPLIANT, make_profile())
ENCODED = make_plan(lasting(102), make_profile(top="encode"))
SOUND_ALONE = make_plan(SONG, make_profile())
PICTURE_ALONE = make_plan(SILENT, make_profile())

H264, AAC = "avc1.64001f", "mp4a.40.2"


def segments_of(plan: Plan, name: str, count: int | None = None) -> list[Segment]:
    """Segments on the plan's boundaries: 90 000 bytes each, and a key picture of 9000 at both ends
    of its first half."""
    timeline = plan.timeline
    sound = plan.sound
    scale = (
        Fraction(sound.sample_rate, timeline.timescale)
        if sound is not None and sound.name == name
        else Fraction(1)
    )
    ticks = [int(boundary * scale) for boundary in timeline.boundaries]
    made = []
    for number in range(timeline.segments if count is None else count):
        lasts = ticks[number + 1] - ticks[number]
        keys = ((100, 9000, lasts // 2), (50_000, 9000, lasts - lasts // 2))
        made.append(Segment(number, ticks[number], lasts, 90_000, 10, keys))
    return made


def texts_of(plan: Plan) -> dict[str, manifests.Rates]:
    return {track.name: (1000, 500) for track in plan.subtitles}


def codecs_of(plan: Plan) -> dict[str, str]:
    sound = None if plan.sound is None else plan.sound.name
    return {name: AAC if name == sound else H264 for name in manifests.finished_names(plan)}


# --- which renditions ---------------------------------------------------------------------------


def test_a_copied_rung_grows_alone_with_the_sound() -> None:
    assert manifests.growing_names(COPIED) == ("1080p", "aac")
    # A copy that only a file needs: nothing is shown.
    unlisted = make_plan(COMPLIANT, make_profile((Output("mp4"),)))
    assert unlisted.copied is not None
    assert manifests.growing_names(unlisted) == ()
    assert manifests.finished_names(COPIED) == ("1080p", "720p", "480p", "360p", "240p", "aac")


def test_encoded_rungs_all_grow() -> None:
    assert manifests.growing_names(ENCODED) == manifests.finished_names(ENCODED)
    assert manifests.finished_names(SOUND_ALONE) == ("aac",)
    assert "aac" not in manifests.finished_names(PICTURE_ALONE)


@pytest.mark.parametrize(
    ("plan", "runs", "listed"),
    [
        (COPIED, {"1080p": 0, "aac": 0}, ("1080p",)),
        (COPIED, {"1080p": 5, "aac": 5}, ("1080p",)),
        # The head is two segments of the two lowest useful rungs; then all from there on.
        (ENCODED, {"1080p": 0, "720p": 0, "480p": 1, "360p": 1, "240p": 0}, ("480p", "360p")),
        (ENCODED, {"1080p": 2, "720p": 2, "480p": 2, "360p": 2, "240p": 1}, ("480p", "360p")),
        (
            ENCODED,
            {"1080p": 2, "720p": 2, "480p": 2, "360p": 2, "240p": 2},
            ("1080p", "720p", "480p", "360p", "240p"),
        ),
        (SOUND_ALONE, {"aac": 7}, ()),
    ],
)
def test_what_a_growing_master_lists(
    plan: Plan, runs: Mapping[str, int], listed: tuple[str, ...]
) -> None:
    assert manifests.listed_now(plan, runs) == listed


@pytest.mark.parametrize(
    ("plan", "listed", "published", "complete", "enough"),
    [
        (ENCODED, ("480p", "360p"), {"480p": 1, "360p": 1, "aac": 1}, (), True),
        (ENCODED, ("480p", "360p"), {"480p": 1, "360p": 0, "aac": 1}, (), False),
        (ENCODED, ("480p", "360p"), {"480p": 1, "360p": 1, "aac": 0}, (), False),
        (COPIED, ("1080p",), {"1080p": 3, "aac": 3}, (), True),
        (COPIED, ("1080p",), {"1080p": 3, "aac": 2}, (), False),
        # A film so short that there are no three.
        (COPIED, ("1080p",), {"1080p": 2, "aac": 2}, ("1080p", "aac"), True),
        (COPIED, ("1080p",), {"1080p": 2, "aac": 2}, ("1080p",), False),
        (COPIED, ("1080p",), {"1080p": 2, "aac": 0}, ("1080p", "aac"), False),
        (SOUND_ALONE, (), {"aac": 2}, (), False),
        (SOUND_ALONE, (), {"aac": 3}, (), True),
    ],
)
def test_how_much_is_enough_to_open_with(
    plan: Plan,
    listed: tuple[str, ...],
    published: Mapping[str, int],
    complete: tuple[str, ...],
    enough: bool,
) -> None:
    assert manifests.started(plan, listed, published, complete) is enough


def test_a_master_needs_the_sound_of_its_pictures() -> None:
    assert manifests.shown(COPIED, ("1080p",)) == ("1080p", "aac")
    assert manifests.shown(PICTURE_ALONE, ("480p",)) == ("480p",)


# --- media playlists ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["1080p", "aac"])
def test_a_growing_playlist_only_gets_longer(name: str) -> None:
    whole = segments_of(COPIED, name)
    texts = [
        manifests.growing_media(COPIED, name, whole[:count], ended=False) for count in range(1, 6)
    ]
    for before, after in pairwise(texts):
        assert after.startswith(before)
    ended = manifests.growing_media(COPIED, name, whole, ended=True)
    assert ended == texts[-1] + "#EXT-X-ENDLIST\n"
    found = m3u8.M3U8(texts[-1])
    assert found.playlist_type == "event"
    assert not found.is_endlist
    assert [segment.uri for segment in found.segments] == [f"{n:05d}.m4s" for n in range(5)]
    assert [segment.duration for segment in found.segments] == [6.0] * 5
    assert found.segment_map[0].uri == "init.mp4"
    # From the end, and before any beginning: players then start at the first segment.
    assert found.start.time_offset < -24 * 3600


def test_a_finished_playlist_is_vod() -> None:
    found = m3u8.M3U8(manifests.finished_media(COPIED, "720p", segments_of(COPIED, "720p")))
    assert found.playlist_type == "vod"
    assert found.is_endlist
    assert found.target_duration == 6
    assert [segment.duration for segment in found.segments] == [6.0] * 5


def test_iframes_are_the_key_pictures_as_byte_ranges() -> None:
    found = m3u8.M3U8(manifests.iframes(COPIED, "720p", segments_of(COPIED, "720p")))
    assert found.is_i_frames_only
    assert [(segment.uri, segment.byterange) for segment in found.segments[:3]] == [
        ("00000.m4s", "9000@100"),
        ("00000.m4s", "9000@50000"),
        ("00001.m4s", "9000@100"),
    ]
    assert [segment.duration for segment in found.segments] == [3.0] * 10


# --- multivariant playlists ---------------------------------------------------------------------


def test_a_growing_master_of_a_copied_rung_has_its_true_rates() -> None:
    text = playlist.write_multivariant(
        manifests.growing_master(COPIED, ("1080p",), codecs_of(COPIED))
    )
    (variant,) = m3u8.M3U8(text).playlists
    assert variant.uri == "video/1080p/growing.m3u8"
    # 10 kB a frame, 24 frames a second, and 5/4 of the sound's own rate.
    sound = 5 * COPIED.sound.bitrate_bps // 4 if COPIED.sound else 0
    assert variant.stream_info.average_bandwidth == 1_920_000 + sound
    assert variant.stream_info.codecs == f"{H264},{AAC}"
    assert variant.stream_info.resolution == (1920, 1080)
    assert variant.stream_info.frame_rate == 24
    assert [media.uri for media in variant.media] == ["audio/aac/growing.m3u8"]


def test_a_growing_master_of_encoded_rungs_has_the_rates_they_are_capped_at() -> None:
    master = manifests.growing_master(ENCODED, ("480p", "360p"), codecs_of(ENCODED))
    found = m3u8.M3U8(playlist.write_multivariant(master))
    sound = 5 * ENCODED.sound.bitrate_bps // 4 if ENCODED.sound else 0
    ceilings = {rung.name: rung.ceiling_bps for rung in ENCODED.listed}
    assert [
        (variant.stream_info.bandwidth, variant.stream_info.average_bandwidth)
        for variant in found.playlists
    ] == [(ceilings[name] * 4 // 3 + sound, ceilings[name] + sound) for name in ("480p", "360p")]
    assert found.iframe_playlists == []


def test_sound_alone_is_a_variant_itself() -> None:
    master = manifests.growing_master(SOUND_ALONE, (), codecs_of(SOUND_ALONE))
    found = m3u8.M3U8(playlist.write_multivariant(master))
    assert [variant.uri for variant in found.playlists] == ["audio/aac/growing.m3u8"]
    assert found.playlists[0].stream_info.codecs == AAC
    assert found.media == []


def test_the_final_master_has_measured_rates() -> None:
    made = {name: segments_of(COPIED, name) for name in manifests.finished_names(COPIED)}
    master = manifests.final_master(COPIED, made, codecs_of(COPIED))
    found = m3u8.M3U8(playlist.write_multivariant(master))
    # 90 000 bytes in 6 s, picture and sound.
    rates = {v.uri: v.stream_info.bandwidth for v in found.playlists}
    assert rates["video/720p/index.m3u8"] == 2 * 120_000
    assert len(found.playlists) == len(found.iframe_playlists) == 5
    # 9000 bytes in 3 s.
    assert found.iframe_playlists[0].iframe_stream_info.bandwidth == pytest.approx(24_000, abs=1)


def test_a_finished_rendition_is_measured() -> None:
    measured = manifests.measure(COPIED, "480p", segments_of(COPIED, "480p"))
    assert measured == manifests.Measured("480p", 5, 450_000, 120_000, 120_000)


# --- DASH ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "plan", [COPIED, SOUND_ALONE, PICTURE_ALONE, make_plan(FILM, make_profile())]
)
def test_the_mpd_names_the_same_segments(plan: Plan) -> None:
    made = {name: segments_of(plan, name) for name in manifests.finished_names(plan)}
    manifest = manifests.mpd(plan, made, codecs_of(plan), texts_of(plan))
    found = MPEGDASHParser.parse(mpd.write_mpd(manifest))
    (period,) = found.periods
    representations = [r for group in period.adaptation_sets for r in group.representations]
    texts = [f"subtitles-{track.name}" for track in plan.subtitles]
    assert [r.id for r in representations] == [*manifests.finished_names(plan), *texts]
    for representation in representations[: len(representations) - len(texts)]:
        folder = plan.folder_of(representation.id)
        (template,) = representation.segment_templates
        assert template.initialization == f"{folder}/init.mp4"
        assert template.media == f"{folder}/$Number%05d$.m4s"


def test_every_case_of_the_goldens_can_be_published() -> None:
    for name, (info, profile) in CASES.items():
        plan = make_plan(info, profile)
        made = {each: segments_of(plan, each) for each in manifests.finished_names(plan)}
        if not made:
            continue
        master = manifests.final_master(plan, made, codecs_of(plan), texts_of(plan))
        assert m3u8.M3U8(playlist.write_multivariant(master)).playlists, name


# --- subtitles -----------------------------------------------------------------------------------

SUBTITLED = make_plan(*CASES["film-23976-mkv"])


def test_subtitles_have_the_pictures_grid_for_the_whole_film() -> None:
    found = m3u8.M3U8(manifests.subtitle_media(SUBTITLED))
    timeline = SUBTITLED.timeline
    assert [segment.uri for segment in found.segments] == [
        f"{n:05d}.vtt" for n in range(timeline.segments)
    ]
    assert sum(segment.duration or 0 for segment in found.segments) == pytest.approx(
        float(timeline.duration_s)
    )
    assert (found.playlist_type, found.is_endlist) == ("vod", True)
    assert found.segment_map == []


def test_the_largest_subtitles_count_into_the_rates_of_every_variant() -> None:
    plan = SUBTITLED
    # Segments of 6.006 s, the last one shorter, of 3000 bytes each.
    peak_bps, average_bps = manifests.subtitle_rates(plan, [3000] * plan.timeline.segments)
    assert peak_bps >= average_bps >= 8 * 3000 / 6.006
    made = {name: segments_of(plan, name) for name in manifests.finished_names(plan)}
    without = replace(plan, subtitles=())
    texts = {plan.subtitles[0].name: (peak_bps, average_bps)}
    for bare, whole in zip(
        manifests.final_master(without, made, codecs_of(plan)).variants,
        manifests.final_master(plan, made, codecs_of(plan), texts).variants,
        strict=True,
    ):
        assert whole.bandwidth_bps - bare.bandwidth_bps == peak_bps
        assert whole.subtitles == "subtitles"
        assert bare.subtitles is None


def test_what_is_for_the_hard_of_hearing_or_forced_says_so() -> None:
    (track,) = SUBTITLED.subtitles
    plan = replace(
        SUBTITLED,
        subtitles=(
            replace(track, name="a", hearing_impaired=True),
            replace(track, name="b", title="other", forced=True),
        ),
    )
    made = {name: segments_of(plan, name) for name in manifests.finished_names(plan)}
    texts = {"a": (1, 1), "b": (2, 2)}
    master = manifests.final_master(plan, made, codecs_of(plan), texts)
    traits = {r.name: (r.forced, r.characteristics) for r in master.renditions[-2:]}
    assert traits == {
        track.title: (
            False,
            (
                "public.accessibility.transcribes-spoken-dialog",
                "public.accessibility.describes-music-and-sound",
            ),
        ),
        "other": (True, ()),
    }
    sets = manifests.mpd(plan, made, codecs_of(plan), texts).adaptation_sets[-2:]
    assert [group.role for group in sets] == ["caption", "forced-subtitle"]
