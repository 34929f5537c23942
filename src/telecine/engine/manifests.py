"""Pure: what the playlists of a plan say, from the segments that there are.

Whoever publishes calls these: `package` writes the answers to files, a server gives them to those
who ask. `segments` are always a rendition's from number 0 on without a hole, `made` holds them for
every rendition of `finished_names`, and `codecs` are what the init segments say (`cmaf.Track`).
Segments and playlists lie where the plan says: `Plan.folder_of`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from types import MappingProxyType

from telecine.engine.chapters import CHAPTERS_JSON, HLS_CHAPTERS
from telecine.engine.formats import playlist
from telecine.engine.formats.mpd import (
    MPD,
    AdaptationSet,
    ContentProtection,
    Representation,
    SegmentTemplate,
    TextFile,
)
from telecine.engine.plan import (
    SUBTITLE_WHOLE,
    AudioRendition,
    Plan,
    SoundKind,
    SubtitleRendition,
    copied_load,
)
from telecine.engine.protection import rendition_iv, segment_iv
from telecine.engine.segments import INIT_NAME, Segment, segment_name
from telecine.engine.words.protection import uri_from

MASTER = "master.m3u8"
MANIFEST = "manifest.mpd"
GROWING = "growing.m3u8"
FINISHED = "index.m3u8"
IFRAMES = "iframes.m3u8"

AUDIO_GROUP = "audio"
SURROUND_GROUP = "surround"
SUBTITLE_GROUP = "subtitles"
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
NO_TEXTS: Mapping[str, Rates] = MappingProxyType({})


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
    sounds = (sound.name for sound in plan.sounds if sound.listed)
    return (*(rendition.name for rendition in plan.listed), *sounds)


def shown(plan: Plan, listed: Sequence[str]) -> tuple[str, ...]:
    """The renditions whose playlists a `master.m3u8` names that lists these pictures."""
    return tuple(listed) if plan.sound is None else (*listed, plan.sound.name)


def growing_names(plan: Plan) -> tuple[str, ...]:
    """The renditions that are ever shown while they grow: a copied rung runs far ahead of the
    encoded ones, which then wait for the end. One that only a file needs is shown nowhere."""
    copies = tuple(rendition for rendition in plan.listed if rendition.mode == "copy")
    pictures = copies or plan.listed
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
            _keys(plan, name, segment.number),
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
    voice = plan.voice(name)
    return plan.timeline.timescale if voice is None else voice.sample_rate


def _entries(plan: Plan, name: str, segments: Sequence[Segment]) -> tuple[playlist.Segment, ...]:
    timescale = _timescale(plan, name)
    return tuple(
        playlist.Segment(
            Fraction(s.duration_ticks, timescale),
            segment_name(s.number),
            keys=_keys(plan, name, s.number),
        )
        for s in segments
    )


def _keys(plan: Plan, name: str, number: int) -> tuple[playlist.Key, ...]:
    """What players are told of a segment's key. The init segment is never encrypted: it tells a
    player whether it can play at all, and what is wrong where it cannot."""
    protection = plan.profile.protection
    if protection is None:
        return ()
    uri = uri_from(protection, plan.folder_of(name))
    if protection.scheme == "aes-128":
        return (playlist.Key("AES-128", uri, segment_iv(plan, name, number)),)
    # No more than this one format: where there are two, hls.js takes this one and gives up.
    return (playlist.Key("SAMPLE-AES", uri, rendition_iv(plan, name)),)


def subtitle_name(number: int) -> str:
    return f"{number:05d}.vtt"


def subtitle_media(plan: Plan) -> str:
    """The `index.m3u8` of any subtitles: the picture's grid, from the film's start to its end."""
    timeline = plan.timeline
    return playlist.write_media(
        playlist.MediaPlaylist(
            segments=tuple(
                playlist.Segment(timeline.time_s(n + 1) - timeline.time_s(n), subtitle_name(n))
                for n in range(timeline.segments)
            ),
            target_duration=timeline.target_duration_s,
            playlist_type="VOD",
            ended=True,
        )
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


def subtitle_rates(plan: Plan, sizes_bytes: Sequence[int]) -> Rates:
    """The rates of subtitles whose segments have these sizes."""
    timeline = plan.timeline
    load = [
        (timeline.time_s(n + 1) - timeline.time_s(n), size) for n, size in enumerate(sizes_bytes)
    ]
    peak_bps = playlist.peak_bandwidth_bps(load, timeline.target_duration_s)
    return peak_bps, playlist.average_bandwidth_bps(load)


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
    rates = {name: _expected_rates(plan, name) for name in listed}
    # Other languages and 5.1 join when all is finished, as do rungs that are not made in step.
    sounds = () if plan.sound is None else (plan.sound,)
    rates |= {sound.name: (sound.bitrate_bps * 5 // 4,) * 2 for sound in sounds}
    return _master(plan, listed, sounds, rates, codecs, GROWING, ())


def final_master(
    plan: Plan,
    made: Mapping[str, Sequence[Segment]],
    codecs: Mapping[str, str],
    texts: Mapping[str, Rates] = NO_TEXTS,
) -> playlist.MultivariantPlaylist:
    """`master.m3u8` of the finished film: measured rates, the I-frame playlists, and subtitles,
    whose rates `texts` has by their names."""
    rates = {name: _measured_rates(plan, name, segments) for name, segments in made.items()}
    sounds = [sound for sound in plan.sounds if sound.listed]
    listed = [rendition.name for rendition in plan.listed]
    streams = tuple(_iframe_stream(plan, name, made[name], codecs[name]) for name in listed)
    master = _master(plan, listed, sounds, rates, codecs, FINISHED, streams)
    master = replace(master, session_data=_session_data(plan))
    return _with_subtitles(plan, master, texts)


def _session_data(plan: Plan) -> tuple[playlist.SessionData, ...]:
    """What players are told of the chapters, whose files stand once the film is finished."""
    if not plan.chapters:
        return ()
    return (playlist.SessionData(HLS_CHAPTERS, uri=CHAPTERS_JSON),)


@dataclass(frozen=True, slots=True)
class _Group:
    """The sounds of which any one may be played with a variant: every track is one of them, in each
    group (RFC 8216, 4.3.4.1.1). Without sound `id` is None."""

    id: str | None
    members: tuple[AudioRendition, ...]
    rates: Rates
    codecs: tuple[str, ...]


def _groups(
    sounds: Sequence[AudioRendition], rates: Mapping[str, Rates], codecs: Mapping[str, str]
) -> list[_Group]:
    """Stereo of all tracks and, where there is 5.1, that of the tracks that have it beside stereo
    of the others."""
    stereo = [sound for sound in sounds if sound.group == "stereo"]
    surround = {sound.stream: sound for sound in sounds if sound.group == "surround"}
    members = {AUDIO_GROUP: stereo} if stereo else {}
    if surround:
        members[SURROUND_GROUP] = [surround.get(sound.stream, sound) for sound in stereo]
    return [
        _Group(
            name,
            tuple(group),
            (max(rates[s.name][0] for s in group), max(rates[s.name][1] for s in group)),
            tuple(dict.fromkeys(codecs[s.name] for s in group)),
        )
        for name, group in members.items()
    ]


def _master(
    plan: Plan,
    listed: Sequence[str],
    sounds: Sequence[AudioRendition],
    rates: Mapping[str, Rates],
    codecs: Mapping[str, str],
    leaf: str,
    iframe_streams: tuple[playlist.IFrameStream, ...],
) -> playlist.MultivariantPlaylist:
    groups = _groups(sounds, rates, codecs)
    renditions = tuple(_audio_media(s, group, leaf) for group in groups for s in group.members)
    if not listed:
        variants = tuple(_sound_alone(group, leaf, several=len(sounds) > 1) for group in groups)
        renditions = renditions if len(sounds) > 1 else ()
        return playlist.MultivariantPlaylist(variants, renditions)
    # Stereo first: with what stands first players begin.
    variants = tuple(
        _variant(plan, name, rates[name], group, codecs[name], leaf)
        for group in groups or [_Group(None, (), (0, 0), ())]
        for name in listed
    )
    return playlist.MultivariantPlaylist(variants, renditions, iframe_streams)


def _variant(
    plan: Plan, name: str, rates: Rates, group: _Group, codec: str, leaf: str
) -> playlist.Variant:
    rendition = plan.rendition(name)
    return playlist.Variant(
        uri=f"{rendition.folder}/{leaf}",
        bandwidth_bps=rates[0] + group.rates[0],
        average_bandwidth_bps=rates[1] + group.rates[1],
        codecs=(codec, *group.codecs),
        resolution=(rendition.size.width, rendition.size.height),
        frame_rate=plan.timeline.rate,
        video_range=rendition.video_range,
        audio=group.id,
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


def _audio_media(audio: AudioRendition, group: _Group, leaf: str) -> playlist.Rendition:
    assert group.id is not None
    return playlist.Rendition(
        type="AUDIO",
        group_id=group.id,
        name=audio.title,
        uri=f"{audio.folder}/{leaf}",
        language=audio.language,
        default=audio.default,
        # Nobody hears a commentary by the language of their system.
        autoselect=audio.default or audio.kind != "commentary",
        channels=str(audio.channels),
        characteristics=_CHARACTERISTICS.get(audio.kind, ()),
    )


_CHARACTERISTICS: dict[SoundKind, tuple[str, ...]] = {
    "description": ("public.accessibility.describes-video",)
}


def _sound_alone(group: _Group, leaf: str, *, several: bool) -> playlist.Variant:
    """Sound without a picture is a variant itself, which names a group where there is a choice."""
    default = next(sound for sound in group.members if sound.default)
    return playlist.Variant(
        uri=f"{default.folder}/{leaf}",
        bandwidth_bps=group.rates[0],
        average_bandwidth_bps=group.rates[1],
        codecs=group.codecs,
        audio=group.id if several else None,
    )


# --- subtitles -----------------------------------------------------------------------------------

_FOR_THE_DEAF = (
    "public.accessibility.transcribes-spoken-dialog",
    "public.accessibility.describes-music-and-sound",
)


def _with_subtitles(
    plan: Plan, master: playlist.MultivariantPlaylist, texts: Mapping[str, Rates]
) -> playlist.MultivariantPlaylist:
    """Every variant with the one group of subtitles, of which the largest counts (RFC 8216,
    4.3.4.2)."""
    if not plan.subtitles:
        return master
    peak_bps = max(texts[track.name][0] for track in plan.subtitles)
    average_bps = max(texts[track.name][1] for track in plan.subtitles)
    variants = tuple(
        replace(
            variant,
            bandwidth_bps=variant.bandwidth_bps + peak_bps,
            average_bandwidth_bps=(variant.average_bandwidth_bps or 0) + average_bps,
            subtitles=SUBTITLE_GROUP,
        )
        for variant in master.variants
    )
    renditions = tuple(_subtitle_media(track) for track in plan.subtitles)
    return replace(master, variants=variants, renditions=(*master.renditions, *renditions))


def _subtitle_media(track: SubtitleRendition) -> playlist.Rendition:
    return playlist.Rendition(
        type="SUBTITLES",
        group_id=SUBTITLE_GROUP,
        name=track.title,
        uri=f"{track.folder}/{FINISHED}",
        language=track.language,
        default=track.default,
        autoselect=True,
        forced=track.forced,
        characteristics=_FOR_THE_DEAF if track.hearing_impaired else (),
    )


def _subtitle_set(track: SubtitleRendition, rates: Rates) -> AdaptationSet:
    role = "caption" if track.hearing_impaired else "subtitle"
    url = f"{track.folder}/{SUBTITLE_WHOLE}"
    return AdaptationSet(
        "text",
        "text/vtt",
        (),
        lang=track.language,
        role="forced-subtitle" if track.forced else role,
        label=track.title,
        files=(TextFile(f"subtitles-{track.name}", max(1, rates[0]), url),),
    )


# --- DASH ----------------------------------------------------------------------------------------


def mpd(
    plan: Plan,
    made: Mapping[str, Sequence[Segment]],
    codecs: Mapping[str, str],
    texts: Mapping[str, Rates] = NO_TEXTS,
) -> MPD:
    """`manifest.mpd` of the finished film, with the subtitles whose rates `texts` has."""
    sets = _picture_sets(plan, made, codecs)
    sounds = [sound for sound in plan.sounds if sound.listed]
    for sound in sounds:
        voice = _representation(plan, sound.name, made[sound.name], codecs[sound.name])
        sets.append(
            AdaptationSet(
                "audio",
                "audio/mp4",
                (voice,),
                protection=_content_protection(plan),
                lang=sound.language,
                role=_role(sound),
                label=sound.title if len(sounds) > 1 else None,
                accessibility="description" if sound.kind == "description" else None,
            )
        )
    sets += [_subtitle_set(track, texts[track.name]) for track in plan.subtitles]
    ends_s = [
        sum((entry.duration_s for entry in _entries(plan, name, segments)), Fraction(0))
        for name, segments in made.items()
    ]
    return MPD(duration_s=max(ends_s), min_buffer_s=MIN_BUFFER_S, adaptation_sets=tuple(sets))


def _content_protection(plan: Plan) -> ContentProtection | None:
    protection = plan.profile.protection
    if protection is None:
        return None
    return ContentProtection(protection.scheme, bytes.fromhex(protection.key_id))


def _role(sound: AudioRendition) -> str:
    """By the role scheme of ISO/IEC 23009-1 (5.8.5.5)."""
    if sound.kind != "main":
        return sound.kind
    return "main" if sound.default else "alternate"


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
            "video",
            "video/mp4",
            tuple(items),
            transfer=playlist.HDR_TRANSFERS.get(video_range),
            protection=_content_protection(plan),
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
    voice = plan.voice(name)
    if voice is not None:
        return Representation(
            id=name,
            bandwidth_bps=peak_bps,
            codecs=codec,
            template=template,
            audio_sampling_rate=voice.sample_rate,
            channels=voice.channels,
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
