"""Pure: step → argv. Every flag carries its why; tests compare the lists whole.

Outputs leave FFmpeg through pipes where they can (`pipe:N`, the numbers are `*_FD` here), so that
most children need no writable folder at all. Paths appear only as the input and, for files that
need seeking while they are written, one output inside the step's working folder.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

from telecine.engine import filters
from telecine.engine.beside import Preview, Stills
from telecine.engine.copying import key_before
from telecine.engine.encoders import AUDIO_ENCODERS, VIDEO_ENCODERS, VideoSettings
from telecine.engine.formats.containers import MOTION_JPEG
from telecine.engine.joining import films_of
from telecine.engine.ladder import Size, fit_short_side
from telecine.engine.loudness import AS_IT_IS, Gain
from telecine.engine.media import AudioStream, PictureFormat, VideoStream
from telecine.engine.plan import AudioRendition, FileOutput, Plan, Span, Step, display_of
from telecine.engine.profile import AUDIO_KINDS
from telecine.engine.sandbox import global_flags, input_flags
from telecine.engine.searching import Compared, Sample, fine_timeline
from telecine.engine.timeline import gops_in

PROGRESS_FD = 10
FIRST_OUTPUT_FD = 11

POSTER_MAX_SHORT_SIDE = 1080

# A working copy starts here, so that nothing in it has a negative time, which Matroska cannot hold.
WORKING_COPY_ORIGIN_S = Fraction(10)

_QUIET = [
    *global_flags(),
    *("-loglevel", "warning"),  # the log tail in an error should hold the error
]

_TALKATIVE = [
    *global_flags(),
    *("-loglevel", "info"),  # showinfo, ashowinfo and idet speak at this level
]

_PROGRESS = [
    *("-progress", f"pipe:{PROGRESS_FD}"),  # key=value lines: time reached, frames, speed
    *("-stats_period", "0.25"),
    "-nostats",
]

_FRAGMENTED = [
    *("-f", "mp4"),
    # empty_moov: the init segment comes first and says nothing of the samples.
    # default_base_moof: offsets count from the moof, as CMAF asks.
    # negative_cts_offsets: no edit list, so the times of a chunk are its own; the segment writer
    # then sets CMAF's (ADR 0003).
    # skip_trailer: no mfra box behind the last fragment.
    *("-movflags", "empty_moov+default_base_moof+negative_cts_offsets+skip_trailer"),
]

_NOTHING_ELSE = [
    *("-map_metadata", "-1"),  # names, places and phones stay with the user
    *("-map_chapters", "-1"),  # FFmpeg would add a text track for them
    *("-fflags", "+bitexact"),  # no muxer version in the bytes
]


def _input(source: Path, *, before: Sequence[str] = (), container: str = "") -> list[str]:
    return [
        *input_flags(),
        # A row of JPEGs FFmpeg takes for one picture.
        *(("-f", container) if container == MOTION_JPEG else ()),
        # Broken packets are skipped, not fatal: a damaged film is still wanted.
        *("-err_detect", "ignore_err"),
        *("-max_error_rate", "1"),  # nor is a great share of them: the frame count is checked
        # Formats that carry only decode times (AVI) get presentation times.
        *("-fflags", "+genpts"),
        *before,
        # `file:` so that no name can be read as a protocol, an option or a pattern.
        *("-i", f"file:{source}"),
    ]


def _seek(time_s: Fraction, *, exactly: bool = False) -> list[str]:
    return [
        # On the source's own clock, wherever its first timestamp lies.
        *("-seek_timestamp", "1"),
        # Frames before the point are wanted: the graph cuts on the global grid.
        *(() if exactly else ("-noaccurate_seek",)),
        *("-ss", f"{float(time_s):.6f}"),
    ]


# Sound is read from so long before a clip: what stands beside a picture in the file may be a few
# seconds earlier or later.
SOUND_PREROLL_S = Fraction(10)


def _sound_seek(plan: Plan) -> list[str]:
    """Where a container seeks well, the sound of a clip is not decoded from the film's start."""
    entry_s = plan.timeline.origin_s - SOUND_PREROLL_S
    return _seek(entry_s) if plan.source.seekable and entry_s > plan.film_s else []


@dataclass(frozen=True, slots=True)
class Film:
    """What pictures are made of: the source, or a copy of it that seeks exactly; a file of the
    pictures of text, or a folder with text and its font, that become part of them; their
    watermark."""

    source: Path
    working_copy: bool
    burn: Path | None = None
    texts: Path | None = None
    mark: Path | None = None

    @property
    def read(self) -> tuple[Path, ...]:
        return tuple(path for path in (self.source, self.burn, self.mark) if path is not None)


def origin_ticks(plan: Plan, stream: VideoStream) -> int:
    return round(plan.grid_s / stream.time_base)


def encode_chunk(
    ffmpeg: Path,
    plan: Plan,
    step: Step,
    film: Film,
    *,
    idle: Collection[str] = (),
) -> list[str]:
    """One process: decode a span once, write every rung as fragmented MP4 to its own pipe. The
    rungs in `idle` are scaled, since others are made from them, and not encoded."""
    origin, stream_index = _film_clock(plan, film)
    graph = filters.chunk_graph(
        plan,
        [_wanted(plan, span) for span in step.spans],
        step.end,
        origin_ticks=origin,
        stream_index=stream_index,
    )
    argv = [str(ffmpeg), *_QUIET, *_PROGRESS]
    argv += _film_inputs(plan, step.first, film)
    argv += ["-filter_complex", graph]
    for n, span in enumerate(step.spans):
        if span.rendition in idle:
            argv += ["-map", f"[v{n}]", "-f", "null", "-"]
            continue
        argv += ["-map", f"[v{n}]", *_video_output(plan, span)]
        argv.append(f"pipe:{FIRST_OUTPUT_FD + n}")
    return argv


def fine(plan: Plan) -> Plan:
    """The plan with a segment for each GOP, as `encode_sample` and `compare` take it."""
    return replace(plan, timeline=fine_timeline(plan.timeline))


def encode_sample(
    ffmpeg: Path,
    plan: Plan,
    sample: Sample,
    crfs: Mapping[str, float],
    film: Film,
) -> list[str]:
    """One process: a sample of a `fine` plan for the judged renditions in `crfs`, each at its
    level, behind the GOP before it: x264 chooses the level of a key picture by the pictures before,
    and an encoder that has just begun spends otherwise (VMAF comes out 0.5 to 1.2 lower)."""
    tried = tuple(replace(r, crf=crfs.get(r.name, r.crf)) for r in plan.judged)
    first, end = max(0, sample.number - 1), sample.number + 1
    # All of them, in their order: which are scaled from which is then as it will be.
    spans = tuple(Span(rendition.name, first, end) for rendition in tried)
    return encode_chunk(
        ffmpeg,
        replace(plan, renditions=tried),
        Step("search", "encode", spans),
        film,
        idle=frozenset(rendition.name for rendition in tried) - crfs.keys(),
    )


def compare(
    ffmpeg: Path,
    plan: Plan,
    segment: int,
    film: Film,
    made: Sequence[tuple[Path, Compared]],
) -> list[str]:
    """VMAF of files of encoded pictures beside the source's of one segment of a `fine` plan.
    Nothing is written; each score is said by a filter of its own (`searching.Scores`)."""
    origin, stream_index = _film_clock(plan, film)
    compared = [each for _, each in made]
    graph = filters.compare_graph(
        plan,
        compared,
        segment,
        origin_ticks=origin,
        stream_index=stream_index,
        first_input=1 + (film.burn is not None) + (plan.overlay is not None),
    )
    argv = [str(ffmpeg), *_TALKATIVE, *_PROGRESS]
    argv += _film_inputs(plan, segment, film)
    for path, _ in made:
        # Our own segments: no clock to guess, nothing broken to pass over.
        argv += [*input_flags(), "-i", f"file:{path}"]
    return [*argv, "-filter_complex", graph, *_nowhere(f"[o{n}]" for n in range(len(made)))]


def _film_clock(plan: Plan, film: Film) -> tuple[int, int]:
    """Where picture 0 of the grid lies on the clock of what is read, in its ticks, and which of its
    streams has the pictures."""
    assert plan.video is not None
    if film.working_copy:
        # Matroska's clock is milliseconds; any other working copy is none.
        return 1000 * int(WORKING_COPY_ORIGIN_S), 0
    return origin_ticks(plan, plan.video), plan.video.index


def _film_inputs(plan: Plan, first: int, film: Film) -> list[str]:
    """The inputs of which pictures are made, from where segment `first` needs them."""
    origin_s = WORKING_COPY_ORIGIN_S if film.working_copy else plan.grid_s
    start_s = plan.timeline.time_s(first)
    entry_s = plan.entry_s(first)
    before = ["-copyts", *("-reinit_filter", "0"), *_decoder(plan)]
    if entry_s is not None:
        before += _seek(entry_s - plan.grid_s + origin_s)
    # copyts: times stay the source's, so that every chunk counts on the same clock.
    # reinit_filter 0: a size that changes midway is scaled, not a new graph with a new clock.
    container = "" if film.working_copy else plan.source.container
    argv = _input(film.source, before=before, container=container)
    if film.burn is not None:
        # Read from well before the span: a text that began earlier may still be shown.
        early_s = filters.BURN_ORIGIN_S + plan.lead_s + start_s - BURN_PREROLL_S
        argv += _input(film.burn, before=_seek(early_s) if early_s > 0 else [])
    return [*argv, *_mark_input(plan, film.mark)]


def _wanted(plan: Plan, span: Span) -> filters.Wanted:
    rendition = plan.rendition(span.rendition)
    return filters.Wanted(rendition.size, span.first, rendition.video_range)


def _decoder(plan: Plan) -> list[str]:
    """How the pictures are decoded.

    One thread decodes H.264 of 1080p several times faster than all its rungs are encoded; more cost
    1.5 % of the whole for handing frames about. Dearer decoders keep FFmpeg's own choice.
    """
    assert plan.video is not None
    cheap = plan.video.codec == "h264" and plan.video.width * plan.video.height <= 1920 * 1088
    flags = ["-threads", "1"] if cheap else []
    # Fields are put together as they were coded; the graph turns the pictures after that.
    return [*flags, "-noautorotate"] if filters.turning(plan) else flags


def _video_output(plan: Plan, span: Span) -> list[str]:
    rendition = plan.rendition(span.rendition)
    settings = VideoSettings(
        ceiling_bps=rendition.ceiling_bps,
        crf=rendition.crf,
        gop_frames=rendition.gop_frames,
        b_frames=rendition.b_frames,
        threads=rendition.threads,
        bit_depth=rendition.bit_depth,
        light=plan.light_of(rendition),
    )
    encoder = VIDEO_ENCODERS[rendition.codec]
    flags = ["-c:v", encoder.ffmpeg_name, *encoder.flags(settings)]
    if rendition.gop_frames is None:
        # Under a copied rung: IDRs on its segment borders and about every 2 s between.
        flags += ["-force_key_frames", ",".join(_forced_times(plan, span))]
    return [
        *flags,
        # The graph made the exact frames; nothing may be dropped or doubled after it.
        *("-fps_mode", "passthrough"),
        # The encoder's clock is the graph's: one tick a frame, or the source's own ticks.
        *("-enc_time_base", "filter"),
        *("-video_track_timescale", str(plan.timeline.timescale)),
        *_NOTHING_ELSE,
        *_FRAGMENTED,
        *("-movflags", "+frag_keyframe"),  # one fragment a GOP
    ]


def _forced_times(plan: Plan, span: Span) -> list[str]:
    """Seconds from the span's start at which an IDR is forced, rounded down to a microsecond so
    that the frame standing at that time is not missed."""
    start_s = plan.timeline.time_s(span.first)
    times: list[Fraction] = []
    for segment in range(span.first, span.end):
        begin_s = plan.timeline.time_s(segment) - start_s
        length_s = plan.timeline.time_s(segment + 1) - plan.timeline.time_s(segment)
        gops = gops_in(length_s)
        times.extend(begin_s + length_s * n / gops for n in range(gops))
    return [f"{int(time_s * 1_000_000) / 1_000_000:.6f}" for time_s in times]


def copy_video(ffmpeg: Path, plan: Plan, source: Path) -> list[str]:
    """The source's own pictures as fragmented MP4, a fragment a keyframe."""
    assert plan.video is not None
    entry_s = plan.entry_s(0)
    return [
        *(str(ffmpeg), *_QUIET, *_PROGRESS),
        *_input(source, before=["-copyts", *(_seek(entry_s) if entry_s is not None else ())]),
        *("-map", f"0:{plan.video.index}", "-c", "copy"),
        *_copied_part(plan),
        *("-video_track_timescale", str(plan.timeline.timescale)),
        *_NOTHING_ELSE,
        *_FRAGMENTED,
        *("-movflags", "+frag_keyframe"),
        f"pipe:{FIRST_OUTPUT_FD}",
    ]


def _copied_part(plan: Plan) -> list[str]:
    """A clip's own pictures: as many as lie before the IDR picture with which it ends, since none
    that is shown earlier is sent after that.

    FFmpeg begins with a key picture that is *sent* after a time, which for that of the clip is
    after the one before is *shown*: these are further apart than a decoder holds pictures back
    (`planning.clips`). Where there is none before, FFmpeg begins with the clip's by itself.
    """
    video = plan.video
    if plan.cut is None or video is None or video.index_table is None:
        return []
    table = video.index_table
    begin = []
    if plan.lead_s:
        whole = next(each.index_table for each in plan.source.video if each.index == video.index)
        assert whole is not None
        before = key_before(whole, table.first_ticks)
        if before is not None:
            after = before.ticks + table.usual_gap_ticks / 2
            begin = ["-ss", f"{float(after * video.time_base):.6f}"]
    return [*begin, "-frames:v", str(table.frame_count)]


NO_GAINS: Mapping[str, Gain] = MappingProxyType({})


def audio(
    ffmpeg: Path,
    plan: Plan,
    sources: Sequence[Path],
    folder: Path,
    gains: Mapping[str, Gain] = NO_GAINS,
) -> list[str]:
    """The sound that plays by default, in one process from one decode: the stream's AAC to a pipe,
    files to `folder`. `gains` are by the names of `encoded_sounds`. `sources` is the source, or
    each of the films that are joined."""
    return _sounds(ffmpeg, plan, sources, plan.sounds[:1], audio_files(plan), folder, gains)


def audio_others(
    ffmpeg: Path, plan: Plan, sources: Sequence[Path], gains: Mapping[str, Gain] = NO_GAINS
) -> list[str]:
    """Every other rendition of sound in one process, a track decoded once, each to its pipe."""
    return _sounds(ffmpeg, plan, sources, plan.sounds[1:], (), sources[0], gains)


def _sounds(
    ffmpeg: Path,
    plan: Plan,
    sources: Sequence[Path],
    sounds: Sequence[AudioRendition],
    files: Sequence[FileOutput],
    folder: Path,
    gains: Mapping[str, Gain],
) -> list[str]:
    maps = {sound.name: f"0:{sound.stream}" for sound in sounds}
    for file in files:
        assert plan.audio is not None
        maps[file.path] = f"0:{plan.audio.index}"
    graph, labels = _tapped(_taps(plan, sounds, files, gains))
    maps |= labels
    argv = [
        str(ffmpeg),
        *_QUIET,
        *_PROGRESS,
        *_heard_inputs(plan, sources),
    ]
    if graph:
        argv += ["-filter_complex", graph]
    for n, sound in enumerate(sounds):
        argv += ["-map", maps[sound.name], *_aac_stream(sound), f"pipe:{FIRST_OUTPUT_FD + n}"]
    for file in files:
        assert plan.audio is not None
        argv += ["-map", maps[file.path], *_audio_file(file, plan.audio), *_NOTHING_ELSE]
        argv.append(f"file:{folder / file.path}")
    return argv


def _heard_inputs(plan: Plan, sources: Sequence[Path]) -> list[str]:
    films = [film for film, _ in films_of(plan)]
    return [
        word
        for film, source in zip(films, sources, strict=True)
        for word in _input(source, before=["-copyts", *_sound_seek(film)])
    ]


def audio_files(plan: Plan) -> tuple[FileOutput, ...]:
    return tuple(file for file in plan.files if file.kind in AUDIO_KINDS)


@dataclass(frozen=True, slots=True)
class Feed:
    """A chain of filters on a stream of the input `file`, or one that makes silence."""

    file: int
    stream: int | None  # None: silence
    chain: str


@dataclass(frozen=True, slots=True)
class Tap:
    """What is heard by a name: a feed, or several behind each other and a chain of filters."""

    name: str
    feeds: tuple[Feed, ...]
    chain: str = ""


def _taps(
    plan: Plan,
    sounds: Sequence[AudioRendition],
    files: Sequence[FileOutput],
    gains: Mapping[str, Gain],
) -> list[Tap]:
    """What is encoded of these."""
    taps = []
    for sound in sounds:
        if sound.mode == "encode":
            gain = gains.get(sound.name, AS_IT_IS)
            if plan.parts:
                heard = [filters.joined_sound(plan, part, sound) for part in plan.parts]
                taps.append(_joined_tap(sound.name, heard, 48_000, filters.raised(gain, 48_000)))
            else:
                chain = filters.stream_audio(plan, sound, gain)
                taps.append(Tap(sound.name, (Feed(0, sound.stream, chain),)))
    for file in files:
        assert plan.audio is not None
        if not file.copy:
            gain = gains.get(file.path, AS_IT_IS)
            if plan.parts:
                rate = _file_rate(file, plan.audio)
                channels = min(plan.audio.channels, 8) if file.kind == "flac" else 2
                heard = [filters.joined_file(plan, part, rate, channels) for part in plan.parts]
                taps.append(_joined_tap(file.path, heard, rate, filters.raised(gain, rate)))
            else:
                chain = _file_chain(plan, file, plan.audio, gain)
                taps.append(Tap(file.path, (Feed(0, plan.audio.index, chain),)))
    return taps


def _joined_tap(
    name: str, heard: Sequence[tuple[int | None, str]], rate: int, then: Sequence[str]
) -> Tap:
    """Films one behind the other: of each its stream and its filters."""
    feeds = tuple(Feed(n, stream, chain) for n, (stream, chain) in enumerate(heard))
    return Tap(name, feeds, filters.behind_each_other(len(feeds), rate, then))


def _tapped(taps: Sequence[Tap]) -> tuple[str, dict[str, str]]:
    """The graph in which each stream is decoded once, and the `-map` of each tap."""
    fed = [(n, tap, feed) for n, tap in enumerate(taps) for feed in tap.feeds]
    numbered = list(enumerate(fed))
    parts = []
    streams = dict.fromkeys((feed.file, feed.stream) for *_, feed in fed)
    for file, stream in streams:
        own = [(m, one) for m, one in numbered if (one[2].file, one[2].stream) == (file, stream)]
        if stream is not None:
            labels = "".join(f"[s{m}]" for m, _ in own)
            parts.append(f"[{file}:{stream}]asplit={len(own)}{labels}")
        for m, (n, tap, feed) in own:
            begin = "" if stream is None else f"[s{m}]"
            parts.append(f"{begin}{feed.chain}" + (f"[p{m}]" if tap.chain else f"[a{n}]"))
    for n, tap in enumerate(taps):
        if tap.chain:
            labels = "".join(f"[p{m}]" for m, (number, *_) in numbered if number == n)
            parts.append(f"{labels}{tap.chain}[a{n}]")
    return ";".join(parts), {tap.name: f"[a{n}]" for n, tap in enumerate(taps)}


def _file_chain(plan: Plan, file: FileOutput, stream: AudioStream, gain: Gain = AS_IT_IS) -> str:
    """FLAC keeps rate and channels, being the lossless one; the others take what their format and
    every player know: stereo at 44.1 or 48 kHz."""
    start = [*filters.part_of_sound(plan, stream), f"aresample={filters.FILL_HOLES}"]
    if file.kind == "flac":
        return ",".join([*start, *filters.raised(gain, stream.sample_rate)])
    rate = _file_rate(file, stream)
    stereo = [*start, f"aresample={rate}", "aformat=channel_layouts=stereo"]
    return ",".join([*stereo, *filters.mixed_down(plan, stream), *filters.raised(gain, rate)])


def _file_rate(file: FileOutput, stream: AudioStream) -> int:
    if file.kind == "flac":
        return stream.sample_rate
    return 44_100 if stream.sample_rate == 44_100 and file.kind != "opus" else 48_000


# The same bytes on any machine: the encoder may not choose by its processor.
_SAME_ANYWHERE = ["-flags:a", "+bitexact"]


def _aac_stream(rendition: AudioRendition) -> list[str]:
    return [
        *_aac(rendition),
        *_NOTHING_ELSE,
        *_SAME_ANYWHERE,
        *_FRAGMENTED,
        *("-frag_duration", "1000000"),  # a second at once: segments are published as they fill
    ]


def _aac(rendition: AudioRendition) -> list[str]:
    if rendition.mode == "copy":
        return ["-c:a", "copy"]
    return ["-c:a", AUDIO_ENCODERS["aac"].ffmpeg_name, "-b:a", str(rendition.bitrate_bps)]


# --- how loud it is ------------------------------------------------------------------------------


def encoded_sounds(plan: Plan) -> tuple[str, ...]:
    """Everything that may be heard, by its name or path: what a gain may be for."""
    return (*(sound.name for sound in plan.sounds), *(file.path for file in audio_files(plan)))


def measure_encoded(
    ffmpeg: Path, plan: Plan, sources: Sequence[Path], gains: Mapping[str, Gain]
) -> list[str]:
    """How loud what is named in `gains` comes out of its encoder, in the order of `encoded_sounds`:
    FFmpeg decodes what it encodes, and nothing is written. What an encoder leaves out, such as the
    highest tones, and by how much its peaks are too high, is then known."""
    sounds = [sound for sound in plan.sounds if sound.name in gains]
    files = [file for file in audio_files(plan) if file.path in gains]
    graph, maps = _tapped(_taps(plan, sounds, files, gains))
    argv = [
        str(ffmpeg),
        *_TALKATIVE,
        *_PROGRESS,
        *_heard_inputs(plan, sources),
    ]
    argv += ["-filter_complex", graph]
    encoders = [(maps[sound.name], _aac(sound)) for sound in sounds]
    for file in files:
        assert plan.audio is not None
        encoders.append((maps[file.path], _file_codec(file, plan.audio)))
    for n, (label, encoder) in enumerate(encoders):
        # One output each, so that its encoder's options are its own.
        argv += ["-map", label, *encoder, *_SAME_ANYWHERE, "-f", "null", "-", "-dec", f"{n}:0"]
    heard = [f"[dec:{n}]{filters.measured(n)}[m{n}]" for n in range(len(encoders))]
    argv += ["-filter_complex", ";".join(heard)]
    return [*argv, *_nowhere(f"[m{n}]" for n in range(len(encoders)))]


def measure_files(ffmpeg: Path, files: Sequence[Path]) -> list[str]:
    """How loud the sound of each of these files is, in their order."""
    argv = [str(ffmpeg), *_TALKATIVE, *_PROGRESS]
    for file in files:
        argv += [*input_flags(), "-i", f"file:{file}"]
    heard = [f"[{n}:a]{filters.measured(n)}[m{n}]" for n in range(len(files))]
    argv += ["-filter_complex", ";".join(heard)]
    return [*argv, *_nowhere(f"[m{n}]" for n in range(len(files)))]


def _nowhere(labels: Iterable[str]) -> list[str]:
    """To the end of the graph and no further."""
    maps = [word for label in labels for word in ("-map", label)]
    return [*maps, "-f", "null", "-"]


# --- files of sound ------------------------------------------------------------------------------

_AUDIO_FORMATS = {"mp3": "mp3", "opus": "opus", "flac": "flac", "aac": "ipod"}


def _audio_file(file: FileOutput, stream: AudioStream) -> list[str]:
    # faststart: it plays while it downloads.
    index = ["-movflags", "+faststart"] if file.kind == "aac" else []
    return [*_file_codec(file, stream), *index, *("-f", _AUDIO_FORMATS[file.kind])]


def _file_codec(file: FileOutput, stream: AudioStream) -> list[str]:
    if file.copy:
        return ["-c:a", "copy"]
    encoder = AUDIO_ENCODERS[file.kind]
    codec = ["-c:a", encoder.ffmpeg_name, *encoder.flags]
    if file.bitrate_bps is not None:
        codec += ["-b:a", str(file.bitrate_bps)]
    if file.kind == "flac" and stream.channels > 8:
        codec += ["-ac", "8"]  # FLAC's limit (RFC 9639, 9.1.3)
    return codec


def _mark_input(plan: Plan, mark: Path | None) -> list[str]:
    if plan.overlay is None:
        return []
    assert mark is not None
    return _picture_input(mark, plan.overlay.picture.format)


def _picture_input(path: Path, format_: PictureFormat) -> list[str]:
    """A file with one picture, and no other like it: `image2` would look for a row of them."""
    demuxer = f"{format_}_pipe"
    return [*input_flags(demuxers=(demuxer,)), "-f", demuxer, "-i", f"file:{path}"]


def picture_check(ffmpeg: Path, path: Path, format_: PictureFormat) -> list[str]:
    """Decode a picture and describe it on stderr."""
    return [
        *(str(ffmpeg), *_TALKATIVE),
        *_picture_input(path, format_),
        *("-frames:v", "1", "-vf", "showinfo=checksum=0", "-f", "null", "-"),
    ]


def poster(
    ffmpeg: Path,
    plan: Plan,
    source: Path,
    *,
    size: Size,
    time_s: Fraction,
    mark: Path | None = None,
) -> list[str]:
    """One JPEG to a pipe, from the first frames at or after `time_s` from presentation 0. `size` is
    the `poster_size` of the whole where `plan` is that of one film of several."""
    assert plan.video is not None
    before = _decoder(plan)
    if time_s > 0 or plan.lead_s:
        before += _seek(plan.timeline.origin_s + time_s, exactly=plan.cut is not None)
    if plan.cut is not None:  # no picture from outside of it
        before += ["-t", f"{float(plan.timeline.duration_s - time_s):.6f}"]
    return [
        *(str(ffmpeg), *_QUIET),
        *_input(source, before=before, container=plan.source.container),
        *_mark_input(plan, mark),
        *_poster_graph(plan, plan.video.index, size),
        *("-frames:v", "1"),
        *("-c:v", "mjpeg", "-q:v", "3"),  # about quality 85: no visible blocks at a third the size
        *("-strict", "unofficial"),  # mjpeg calls explicit full range unofficial; JFIF asks it
        *("-f", "image2pipe", f"pipe:{FIRST_OUTPUT_FD}"),
    ]


def _poster_graph(plan: Plan, stream: int, size: Size) -> list[str]:
    chain = filters.poster(plan, size)
    if plan.overlay is None:
        return ["-map", f"0:{stream}", "-vf", chain]
    return ["-filter_complex", f"[0:{stream}]{chain}[v]", "-map", "[v]"]


def poster_size(plan: Plan) -> Size:
    assert plan.video is not None
    display = display_of(plan.video)
    return fit_short_side(min(POSTER_MAX_SHORT_SIDE, int(min(display))), display)


def join_mp4(ffmpeg: Path, video: Path, sound: Path | None, output: Path) -> list[str]:
    """A progressive file from whole tracks, each the ladder's own segments put together."""
    # copyts: without it FFmpeg moves each input's own start to 0, and late sound would come early.
    argv = [str(ffmpeg), *_QUIET, *_PROGRESS, "-copyts", *input_flags(), "-i", f"file:{video}"]
    if sound is not None:
        argv += [*input_flags(), "-i", f"file:{sound}"]
    argv += ["-map", "0:v:0"]
    if sound is not None:
        argv += ["-map", "1:a:0"]
    return [
        *argv,
        *("-c", "copy"),
        *_NOTHING_ELSE,
        *("-movflags", "+faststart"),  # the index in front: plays while it downloads
        *("-f", "mp4", f"file:{output}"),
    ]


def stills(ffmpeg: Path, stills: Stills, film: Path) -> list[str]:
    """JPEGs to a pipe, one behind the other, from a film of key pictures alone."""
    sheets = stills.per_picture > 1
    return [
        *(str(ffmpeg), *_QUIET, *_PROGRESS),
        *_segments_input(film),
        *("-vf", filters.stills(stills)),
        *("-fps_mode", "passthrough"),  # as many pictures as there are
        # A picture on a sheet is small and looked at for a moment: 85 against about 92 of 100.
        *("-c:v", "mjpeg", "-q:v", "4" if sheets else "3"),
        *("-strict", "unofficial"),  # mjpeg calls explicit full range unofficial; JFIF asks it
        *("-f", "image2pipe", f"pipe:{FIRST_OUTPUT_FD}"),
    ]


def preview(ffmpeg: Path, preview: Preview, film: Path) -> list[str]:
    """An animated WebP to a pipe, from a film of its pieces (`filters.PIECE_S` apart)."""
    return [
        *(str(ffmpeg), *_QUIET, *_PROGRESS),
        *_segments_input(film),
        *("-vf", filters.preview(preview)),
        *("-fps_mode", "passthrough"),
        # Small rather than fine: it plays where a poster stood. Level 4 is libwebp's own middle.
        *("-c:v", "libwebp_anim", "-quality", "50", "-compression_level", "4"),
        *("-loop", "0"),  # again and again; and any other number is written by going back in a file
        *_NOTHING_ELSE,
        *("-f", "webp", f"pipe:{FIRST_OUTPUT_FD}"),
    ]


def _segments_input(film: Path) -> list[str]:
    """Our own segments, put together: no clock to guess, nothing broken to pass over."""
    return [*input_flags(), *("-threads", "1"), *("-i", f"file:{film}"), *("-map", "0:v:0")]


def waveform(ffmpeg: Path, plan: Plan, sources: Sequence[Path]) -> list[str]:
    """The peaks of the sound as lines of text to a pipe (`peaks.PeaksReader`). `sources` is the
    source, or each of the films that are joined."""
    assert plan.audio is not None
    stream, target = plan.audio, f"pipe:{FIRST_OUTPUT_FD}"
    if plan.parts:
        assert plan.waveform is not None
        heard = [filters.joined_waveform(plan, part) for part in plan.parts]
        then = filters.peaks(plan, target)
        tap = _joined_tap("waveform", heard, plan.waveform.sample_rate, then)
        graph, _ = _tapped([tap])
    else:
        origin = round(plan.timeline.origin_s * stream.sample_rate)
        chain = filters.waveform(plan, origin_samples=origin, target=target)
        graph = f"[0:{stream.index}]{chain}[a0]"
    return [
        *(str(ffmpeg), *_QUIET, *_PROGRESS),
        *_heard_inputs(plan, sources),
        *("-filter_complex", graph),
        *("-map", "[a0]", "-f", "null", "-"),
    ]


# The longest that a text of pictures is shown.
BURN_PREROLL_S = Fraction(60)


def burn_copy(ffmpeg: Path, plan: Plan, source: Path, output: Path) -> list[str]:
    """The subtitles that become part of the pictures into a file of their own: it is small, and is
    read again for each chunk."""
    assert plan.burned_in is not None
    origin_s = filters.BURN_ORIGIN_S - plan.grid_s
    return [
        *(str(ffmpeg), *_QUIET, *_PROGRESS),
        *_input(source, before=["-copyts"], container=plan.source.container),
        *("-map", f"0:{plan.burned_in.stream}", "-c", "copy"),
        *("-output_ts_offset", f"{float(origin_s):.6f}"),
        *_NOTHING_ELSE,
        *("-f", "matroska", f"file:{output}"),
    ]


def working_copy(ffmpeg: Path, plan: Plan, source: Path, output: Path) -> list[str]:
    """The chosen video stream into a container that seeks exactly, without decoding it.

    Matroska takes every codec that FFmpeg decodes; TS, PS, FLV, AVI and others lose frames when
    they are entered in the middle (DESIGN section 6).
    """
    assert plan.video is not None
    return [
        *(str(ffmpeg), *_QUIET, *_PROGRESS),
        *_input(source, before=["-copyts"], container=plan.source.container),
        *("-map", f"0:{plan.video.index}", "-c", "copy"),
        # Of a clip nothing that comes long after it.
        *([] if plan.cut is None else ["-to", f"{float(plan.film_s + plan.cut.end_s + 10):.6f}"]),
        *("-output_ts_offset", f"{float(WORKING_COPY_ORIGIN_S - plan.grid_s):.6f}"),
        *_NOTHING_ELSE,
        *("-f", "matroska", f"file:{output}"),
    ]


def decode_check(
    ffmpeg: Path, stream_index: int, source: Path, *, frames: int, container: str = ""
) -> list[str]:
    """Decode a few frames and describe them on stderr: whether anything decodes is decided by the
    decoder that will do the work, and what it shows is the truth about size and field order."""
    return [
        *(str(ffmpeg), *_TALKATIVE),
        # The times it tells are the source's own.
        *_input(source, before=["-copyts"], container=container),
        *("-map", f"0:{stream_index}"),
        *("-frames:v", str(frames)),
        *("-vf", "showinfo=checksum=0"),
        *("-fps_mode", "passthrough"),
        *("-f", "null", "-"),
    ]


def audio_check(ffmpeg: Path, stream_index: int, source: Path) -> list[str]:
    """Decode a second of sound and describe it on stderr."""
    return [
        *(str(ffmpeg), *_TALKATIVE),
        *_input(source),
        *("-map", f"0:{stream_index}"),
        *("-t", "1"),
        *("-af", "ashowinfo"),
        *("-f", "null", "-"),
    ]


def field_check(ffmpeg: Path, stream_index: int, source: Path, *, container: str = "") -> list[str]:
    """Measure field order where the file does not say (idet over two seconds of pictures)."""
    return [
        *(str(ffmpeg), *_TALKATIVE),
        *_input(source, container=container),
        *("-map", f"0:{stream_index}"),
        *("-frames:v", "60"),
        *("-vf", "idet"),
        *("-f", "null", "-"),
    ]
