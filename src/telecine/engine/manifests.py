"""Pure: what the playlists of a plan say, from the segments that there are.

Whoever publishes calls these: `package` writes the answers to files, a server gives them to those
who ask. `segments` are always a rendition's from number 0 on without a hole, `made` holds them for
every rendition of `finished_names`, and `codecs` are what the init segments say (`cmaf.Track`).
Segments and playlists lie where the plan says: `Plan.folder_of`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from telecine.engine import playlist
from telecine.engine.mpd import MPD, AdaptationSet, Representation, SegmentTemplate
from telecine.engine.plan import AudioRendition, Plan, copied_load
from telecine.engine.segments import INIT_NAME, Segment, segment_name

MASTER = "master.m3u8"
MANIFEST = "manifest.mpd"
GROWING = "growing.m3u8"
FINISHED = "index.m3u8"
IFRAMES = "iframes.m3u8"

AUDIO_GROUP = "audio"
OPENING_SEGMENTS = 3  # of a copied film or sound alone; `started` says why
# Players join a growing playlist near its end unless told where. An offset from the end that is
# longer than any film means its beginning (RFC 8216, 4.3.5.2). A plain 0 is "nothing said" to Shaka
# Player, and a hair above it costs hls.js a seek, half a second before the first picture.
GROWING_START_S = Fraction(-1_000_000)
# How long growing playlists stand complete before they end. A player fetches them one after another
# and ends where the one that still grew ends, once another has ended (Shaka Player): between the
# two answers of such a round lies less than this, whatever the player's network.
ENDS_AFTER_S = 3.0
MIN_BUFFER_S = Fraction(2)

# A capped-CRF segment holds at most maxrate for its length plus the VBV's two seconds.
_CAP = Fraction(4, 3)

Rates = tuple[int, int]  # peak and average, bits a second


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures of a finished rendition, from its files."""

    name: str
    segments: int
    size_bytes: int
    peak_bps: int
    average_bps: int


# --- which renditions --------------------------------------------------------------------------


def finished_names(plan: Plan) -> tuple[str, ...]:
    """Every rendition that the finished playlists list: pictures from the highest, then sound."""
    return shown(plan, [rendition.name for rendition in plan.listed])


def shown(plan: Plan, listed: Sequence[str]) -> tuple[str, ...]:
    """The renditions whose playlists a `master.m3u8` names that lists these pictures."""
    return tuple(listed) if plan.sound is None else (*listed, plan.sound.name)


def growing_names(plan: Plan) -> tuple[str, ...]:
    """The renditions that are ever shown while they grow: a copied rung runs far ahead of the
    encoded ones, which then wait for the end."""
    pictures = plan.listed if plan.copied is None else (plan.copied,)
    return shown(plan, [rendition.name for rendition in pictures])


def listed_now(plan: Plan, runs: Mapping[str, int]) -> tuple[str, ...]:
    """The video renditions that a growing `master.m3u8` lists, highest first: the head rungs, and
    once the others have caught up with them, all, since they grow in step from there on. `runs` is
    how many segments, from the first, each rendition has without a hole."""
    if plan.copied is not None:
        return (plan.copied.name,)
    everyone = tuple(rendition.name for rendition in plan.listed)
    if all(runs[name] >= max(1, plan.head_segments) for name in everyone):
        return everyone
    return tuple(rendition.name for rendition in plan.listed if rendition.head)


def started(
    plan: Plan, listed: Sequence[str], published: Mapping[str, int], complete: Collection[str]
) -> bool:
    """Whether the growing playlists of the renditions `listed` and of the sound hold enough to open
    with; `published` is how many segments each lists, `complete` whose last one is among them.

    What is copied or sound alone comes by the dozen, and a player that finds more than one segment
    need not ask again just in time.
    """
    encoded = plan.copied is None and bool(plan.listed)
    enough = 1 if encoded else OPENING_SEGMENTS
    return all(
        published[name] >= enough or (name in complete and published[name] > 0)
        for name in shown(plan, listed)
    )


# --- media playlists ---------------------------------------------------------------------------


def growing_media(plan: Plan, name: str, segments: Sequence[Segment], *, ended: bool) -> str:
    """A rendition's `growing.m3u8`: with more segments the text only gets longer."""
    return playlist.write_media(
        playlist.MediaPlaylist(
            segments=_entries(plan, name, segments),
            target_duration=plan.timeline.target_duration_s,
            map=playlist.Map(INIT_NAME),
            playlist_type="EVENT",
            ended=ended,
            start_offset_s=GROWING_START_S,
        )
    )


def finished_media(plan: Plan, name: str, segments: Sequence[Segment]) -> str:
    """A rendition's `index.m3u8`."""
    return playlist.write_media(
        playlist.MediaPlaylist(
            segments=_entries(plan, name, segments),
            target_duration=plan.timeline.target_duration_s,
            map=playlist.Map(INIT_NAME),
            playlist_type="VOD",
            ended=True,
        )
    )


def iframes(plan: Plan, name: str, segments: Sequence[Segment]) -> str:
    """A rendition's `iframes.m3u8`: each run's first picture as a byte range (Apple 6.8, 6.10)."""
    timescale = _timescale(plan, name)
    entries = tuple(
        playlist.Segment(
            Fraction(ticks, timescale),
            segment_name(segment.number),
            playlist.ByteRange(length, offset),
        )
        for segment in segments
        for offset, length, ticks in segment.keys
    )
    return playlist.write_media(
        playlist.MediaPlaylist(
            segments=entries,
            target_duration=playlist.target_duration(entry.duration_s for entry in entries),
            map=playlist.Map(INIT_NAME),
            playlist_type="VOD",
            ended=True,
            iframes_only=True,
        )
    )


def _timescale(plan: Plan, name: str) -> int:
    audio = plan.sound
    if audio is not None and name == audio.name:
        return audio.sample_rate
    return plan.timeline.timescale


def _entries(plan: Plan, name: str, segments: Sequence[Segment]) -> tuple[playlist.Segment, ...]:
    timescale = _timescale(plan, name)
    return tuple(
        playlist.Segment(Fraction(s.duration_ticks, timescale), segment_name(s.number))
        for s in segments
    )


# --- figures -----------------------------------------------------------------------------------


def measure(plan: Plan, name: str, segments: Sequence[Segment]) -> Measured:
    """The figures of a finished rendition."""
    timescale = _timescale(plan, name)
    load = [(Fraction(s.duration_ticks, timescale), s.size_bytes) for s in segments]
    return Measured(
        name=name,
        segments=len(segments),
        size_bytes=sum(segment.size_bytes for segment in segments),
        peak_bps=playlist.peak_bandwidth_bps(load, plan.timeline.target_duration_s),
        average_bps=playlist.average_bandwidth_bps(load),
    )


def _measured_rates(plan: Plan, name: str, segments: Sequence[Segment]) -> Rates:
    measured = measure(plan, name, segments)
    return measured.peak_bps, measured.average_bps


def _expected_rates(plan: Plan, name: str) -> Rates:
    """Before anything can be measured: the rates that the encoder is capped at, and exact ones for
    a copied rung, whose sample sizes are known."""
    rendition = plan.rendition(name)
    if rendition.mode == "encode":
        return int(rendition.ceiling_bps * _CAP), rendition.ceiling_bps
    load = copied_load(plan)
    return (
        playlist.peak_bandwidth_bps(load, plan.timeline.target_duration_s),
        playlist.average_bandwidth_bps(load),
    )


# --- multivariant playlists ----------------------------------------------------------------------


def growing_master(
    plan: Plan, listed: Sequence[str], codecs: Mapping[str, str]
) -> playlist.MultivariantPlaylist:
    """`master.m3u8` while the job runs: the pictures `listed`, and the sound."""
    sound_bps = plan.sound.bitrate_bps * 5 // 4 if plan.sound else 0
    rates = {name: _expected_rates(plan, name) for name in listed}
    return _master(plan, listed, rates, (sound_bps, sound_bps), codecs, GROWING, ())


def final_master(
    plan: Plan, made: Mapping[str, Sequence[Segment]], codecs: Mapping[str, str]
) -> playlist.MultivariantPlaylist:
    """`master.m3u8` of the finished film: measured rates, and the I-frame playlists."""
    rates = {name: _measured_rates(plan, name, segments) for name, segments in made.items()}
    sound = rates[plan.sound.name] if plan.sound else (0, 0)
    listed = [rendition.name for rendition in plan.listed]
    streams = tuple(_iframe_stream(plan, name, made[name], codecs[name]) for name in listed)
    return _master(plan, listed, rates, sound, codecs, FINISHED, streams)


def _master(
    plan: Plan,
    listed: Sequence[str],
    rates: Mapping[str, Rates],
    sound: Rates,
    codecs: Mapping[str, str],
    leaf: str,
    iframe_streams: tuple[playlist.IFrameStream, ...],
) -> playlist.MultivariantPlaylist:
    audio = plan.sound
    sound_codecs = () if audio is None else (codecs[audio.name],)
    if not listed:
        return _sound_only(audio, sound_codecs, sound, leaf)
    return playlist.MultivariantPlaylist(
        variants=tuple(
            _variant(plan, name, rates[name], sound, (codecs[name], *sound_codecs), leaf)
            for name in listed
        ),
        renditions=() if audio is None else (_audio_media(audio, leaf),),
        iframe_streams=iframe_streams,
    )


def _variant(
    plan: Plan, name: str, rates: Rates, sound: Rates, codecs: tuple[str, ...], leaf: str
) -> playlist.Variant:
    rendition = plan.rendition(name)
    return playlist.Variant(
        uri=f"{rendition.folder}/{leaf}",
        bandwidth_bps=rates[0] + sound[0],
        average_bandwidth_bps=rates[1] + sound[1],
        codecs=codecs,
        resolution=(rendition.size.width, rendition.size.height),
        frame_rate=plan.timeline.rate,
        video_range=rendition.video_range,
        audio=None if plan.sound is None else AUDIO_GROUP,
    )


def _iframe_stream(
    plan: Plan, name: str, segments: Sequence[Segment], codec: str
) -> playlist.IFrameStream:
    rendition = plan.rendition(name)
    timescale = _timescale(plan, name)
    keys = [
        (Fraction(ticks, timescale), length)
        for segment in segments
        for _, length, ticks in segment.keys
    ]
    return playlist.IFrameStream(
        uri=f"{rendition.folder}/{IFRAMES}",
        bandwidth_bps=max(int(8 * size / seconds) + 1 for seconds, size in keys),
        average_bandwidth_bps=playlist.average_bandwidth_bps(keys),
        codecs=(codec,),
        resolution=(rendition.size.width, rendition.size.height),
        video_range=rendition.video_range,
    )


def _audio_media(audio: AudioRendition, leaf: str) -> playlist.Rendition:
    return playlist.Rendition(
        type="AUDIO",
        group_id=AUDIO_GROUP,
        name=audio.language or "main",
        uri=f"{audio.folder}/{leaf}",
        language=audio.language,
        default=True,
        autoselect=True,
        channels=str(audio.channels),
    )


def _sound_only(
    audio: AudioRendition | None, codecs: tuple[str, ...], sound: Rates, leaf: str
) -> playlist.MultivariantPlaylist:
    """Sound without a picture is a variant itself, not an alternative of one."""
    assert audio is not None
    variant = playlist.Variant(
        uri=f"{audio.folder}/{leaf}",
        bandwidth_bps=sound[0],
        average_bandwidth_bps=sound[1],
        codecs=codecs,
    )
    return playlist.MultivariantPlaylist(variants=(variant,))


# --- DASH ----------------------------------------------------------------------------------------


def mpd(plan: Plan, made: Mapping[str, Sequence[Segment]], codecs: Mapping[str, str]) -> MPD:
    """`manifest.mpd` of the finished film."""
    sets = _picture_sets(plan, made, codecs)
    if plan.sound is not None:
        name = plan.sound.name
        voices = (_representation(plan, name, made[name], codecs[name]),)
        sets.append(AdaptationSet("audio", "audio/mp4", voices, lang=plan.sound.language))
    ends_s = [
        sum((entry.duration_s for entry in _entries(plan, name, segments)), Fraction(0))
        for name, segments in made.items()
    ]
    return MPD(duration_s=max(ends_s), min_buffer_s=MIN_BUFFER_S, adaptation_sets=tuple(sets))


def _picture_sets(
    plan: Plan, made: Mapping[str, Sequence[Segment]], codecs: Mapping[str, str]
) -> list[AdaptationSet]:
    """A set for each codec and range: players switch within one, and choose which they can show."""
    sets: dict[tuple[str, playlist.VideoRange], list[Representation]] = {}
    for r in plan.listed:
        item = _representation(plan, r.name, made[r.name], codecs[r.name])
        sets.setdefault((r.codec, r.video_range), []).append(item)
    return [
        AdaptationSet(
            "video", "video/mp4", tuple(items), transfer=playlist.HDR_TRANSFERS.get(video_range)
        )
        for (_, video_range), items in sets.items()
    ]


def _representation(
    plan: Plan, name: str, segments: Sequence[Segment], codec: str
) -> Representation:
    folder = plan.folder_of(name)
    peak_bps, _ = _measured_rates(plan, name, segments)
    template = SegmentTemplate(
        timescale=_timescale(plan, name),
        initialization=f"{folder}/{INIT_NAME}",
        media=f"{folder}/$Number%05d$.m4s",
        durations_ticks=tuple(segment.duration_ticks for segment in segments),
        start_ticks=segments[0].start_ticks,
        start_number=segments[0].number,
    )
    audio = plan.sound
    if audio is not None and name == audio.name:
        return Representation(
            id=name,
            bandwidth_bps=peak_bps,
            codecs=codec,
            template=template,
            audio_sampling_rate=audio.sample_rate,
            channels=audio.channels,
        )
    rendition = plan.rendition(name)
    return Representation(
        id=name,
        bandwidth_bps=peak_bps,
        codecs=codec,
        template=template,
        width=rendition.size.width,
        height=rendition.size.height,
        frame_rate=plan.timeline.rate,
        sar=Fraction(1),
    )
