"""Pure: CMAF init segments and fragments, read and written (ISO/IEC 23000-19 over 14496-12).

FFmpeg writes each rung of a chunk as fragmented MP4 into a pipe; `FragmentReader` takes that apart
and `write_init` and `write_fragment` write it again in one canonical form. So the bytes do not
depend on the muxer, on the chunk or on what ran before, and chunks join exactly.

The truth is each sample's *presentation* time. Decode times are made from it: in a closed GOP the
i-th sample in decode order gets the i-th smallest presentation time, hence they rise, start at the
run's first picture and leave no hole to the next run. What then lies before its decode time (a
B-picture) would need a negative composition offset, which FFmpeg-based players show late; a
constant `edit_offset_ticks` is added to every offset instead and one edit list entry in the init
segment takes it away again (CMAF's offset edit list, 7.5.13).

All `ticks` are in the track's timescale. What is read may come from a hostile source by way of an
encoder that it took over: nothing is allocated by a claimed count.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate

from telecine.engine.errors import StepFailed
from telecine.engine.formats.bmff import (
    Box,
    SampleEntry,
    box,
    boxes,
    full_box,
    header,
    malformed,
    sample_entry,
)
from telecine.engine.formats.captions import SEI_MARK
from telecine.engine.formats.cenc import (
    ENTRIES,
    Encryption,
    pssh,
    read_senc,
    read_sinf,
    sample_boxes,
    seal,
    sinf,
    unseal,
)
from telecine.engine.formats.coding import (
    CODINGS,
    Parameters,
    Subsamples,
    avc_without_captions,
    nclx,
    subsamples,
)
from telecine.engine.media import Light

# A GOP of ten seconds at 200 Mb/s: more than any rung or copied source has.
MAX_BOX_BYTES = 256 << 20

# Far above any fragment (45 minutes of AAC), far below what would fill the memory.
MAX_SAMPLES = 1 << 17

# Sample flags (14496-12, 8.8.3.1): depends on nothing; depends on others and is no sync sample.
_SYNC = 0x02000000
_NOT_SYNC = 0x01010000
_NON_SYNC_BIT = 0x00010000

_IDENTITY = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)

# What starts a segment file: a CMAF segment, as DASH and HLS know it.
SEGMENT_TYPE = box("styp", b"cmfs", bytes(4), b"cmfs", b"iso6", b"msdh")


@dataclass(frozen=True, slots=True)
class Sample:
    """One coded frame, or one coded block of sound. `pts` is on the timeline that a viewer sees
    (the edit list applied). `subsamples` say what of it is encrypted: None for nothing, no entries
    for all of it."""

    pts: int
    duration: int
    data: bytes | memoryview
    sync: bool
    subsamples: Subsamples | None = None


@dataclass(frozen=True, slots=True)
class Track:
    """What an init segment says of its one track."""

    track_id: int
    handler: str  # "vide" or "soun"
    timescale: int
    codec: str  # RFC 6381, read from the configuration bytes: "avc1.64001f", "mp4a.40.2"
    language: str  # ISO 639-2/T, "und" where unknown
    edit_offset_ticks: int = 0
    width: int = 0  # coded pixels
    height: int = 0
    sar: Fraction = Fraction(1)
    transfer: int | None = None  # as ISO/IEC 23091-2 counts, where the sample entry says it
    light: Light | None = None  # of HDR, where the sample entry says it
    channels: int = 0
    sample_rate: int = 0  # Hz
    config: bytes = b""  # the body of avcC, hvcC, av1C or esds
    nal_length_size: int = 0  # AVC and HEVC: bytes of the length before each NAL unit
    parameter_sets: tuple[bytes, ...] = ()  # see `coding.Parameters`
    default_duration: int = 0  # trex
    default_size: int = 0
    default_flags: int = 0
    encryption: Encryption | None = None  # `codec` and all else is that of what is encrypted


@dataclass(frozen=True, slots=True)
class Init:
    """The ftyp and moov boxes as they came."""

    data: bytes
    track: Track


@dataclass(frozen=True, slots=True)
class Fragment:
    """One moof with its mdat. Offsets count from the first byte that was fed or from the segment
    file's start."""

    sequence: int
    decode_ticks: int  # tfdt: the first sample's decode time
    samples: tuple[Sample, ...]  # in decode order
    offset: int  # of moof
    size_bytes: int  # from the start of moof to the end of mdat
    first_sample_end: int  # offset behind the first sample's last byte

    @property
    def end_ticks(self) -> int:
        """The decode time at which the next fragment must start."""
        return self.decode_ticks + sum(sample.duration for sample in self.samples)

    @property
    def decode_times(self) -> list[int]:
        """The decode time of each sample, in ticks."""
        steps = (sample.duration for sample in self.samples[:-1])
        return list(accumulate(steps, initial=self.decode_ticks))

    @property
    def key_range(self) -> tuple[int, int]:
        """Offset and length of moof and first sample: the byte range that an I-frame playlist
        names (Apple HLS authoring specification, 6.10: the range holds the moof)."""
        return self.offset, self.first_sample_end - self.offset


# -- codec strings ---------------------------------------------------------------------------

_SOUND_ENTRY, _SOUND_CONFIG = "mp4a", "esds"


def _descriptor(data: memoryview) -> tuple[int, memoryview, memoryview]:
    """Tag and body of the first descriptor (14496-1, 8.3.3), and what follows it."""
    size = 0
    for at, byte in enumerate(data[1:5], start=2):
        size = size << 7 | byte & 0x7F
        if byte < 0x80 and at + size <= len(data):
            return data[0], data[at : at + size], data[at + size :]
    raise malformed("a descriptor in 'esds' is cut off")


def _mp4a_codec(kind: str, config: Box) -> str:
    """RFC 6381, 3.3: the object type, and for MPEG-4 audio the audio object type behind it."""
    tag, stream, _ = _descriptor(config.body[4:])
    if tag != 3 or len(stream) < 3 or stream[2] & 0xE0:
        # Flags would say that optional fields follow, which MP4 files do not use (14496-14, 3.1.2)
        raise malformed("'esds' has no elementary stream")
    tag, decoder, _ = _descriptor(stream[3:])
    if tag != 4 or len(decoder) < 13:
        raise malformed("'esds' has no decoder configuration")
    object_type = decoder[0]
    if object_type != 0x40:
        return f"{kind}.{object_type:02X}"
    tag, specific, _ = _descriptor(decoder[13:])
    if tag != 5 or len(specific) < 2:
        raise malformed("'esds' has no audio configuration")
    (word,) = struct.unpack_from(">H", specific)
    audio = word >> 11
    if audio == 31:
        audio = 32 + (word >> 5 & 0x3F)
    return f"{kind}.40.{audio}"


def _unwrapped(entry: SampleEntry) -> tuple[SampleEntry, Encryption | None]:
    """The sample entry of what is encrypted, and how it is; of what is clear itself."""
    if entry.kind not in ENTRIES.values():
        return entry, None
    wrapper = entry.find("sinf")
    if wrapper is None:
        raise malformed(f"sample entry {entry.kind!r} has no 'sinf'")
    kind, encryption = read_sinf(wrapper)
    inner = tuple(item for item in entry.boxes if item.kind != "sinf")
    return replace(entry, kind=kind, boxes=inner), encryption


def _codec(entry: SampleEntry) -> tuple[str, Box, Parameters]:
    """The RFC 6381 codec string of a sample entry, its configuration box, and what that holds."""
    coding = CODINGS.get(entry.kind)
    if coding is None and entry.kind != _SOUND_ENTRY:
        raise malformed(f"sample entry {entry.kind!r} has no CMAF codec string here")
    name = _SOUND_CONFIG if coding is None else coding.config
    config = entry.find(name)
    if config is None:
        raise malformed(f"sample entry {entry.kind!r} has no {name!r}")
    if coding is None:
        return _mp4a_codec(entry.kind, config), config, Parameters()
    return coding.codec(entry, config), config, coding.parameters(config)


# -- init segments ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Parts:
    """The pieces of an init segment that reading and writing both need."""

    track: Track
    entry: SampleEntry
    raw_language: int
    display_size: bytes  # tkhd's width and height, 16.16 pixels with SAR applied
    matrix: bytes


def _language(word: int) -> str:
    letters = [word >> shift & 0x1F for shift in (10, 5, 0)]
    return "".join(chr(0x60 + n) for n in letters) if all(1 <= n <= 26 for n in letters) else "und"


def _edit_offset(trak: Box) -> int:
    """media_time of a single edit at normal speed that lasts to the end, 0 without one."""
    edits = trak.find("edts")
    if edits is None:
        return 0
    elst = edits.child("elst")
    version, _ = elst.full()
    (count,) = elst.numbers("I", 4)
    if count != 1:
        raise malformed(f"an edit list with {count} entries; CMAF allows one")
    duration, media_time, rate = elst.numbers("QqI" if version else "IiI", 8)
    if duration or media_time < 0 or rate != 0x10000:
        raise malformed("an edit list that is more than an offset")
    return media_time


def _parts(data: bytes | memoryview) -> _Parts:
    moovs = [item for item in boxes(memoryview(data)) if item.kind == "moov"]
    if len(moovs) != 1:
        raise malformed(f"an init segment with {len(moovs)} 'moov' boxes")
    moov = moovs[0]
    traks = [item for item in moov.children() if item.kind == "trak"]
    if len(traks) != 1:
        raise malformed(f"an init segment with {len(traks)} tracks; CMAF has one")
    trak = traks[0]
    tkhd = trak.child("tkhd")
    long_times = tkhd.full()[0] == 1
    (track_id,) = tkhd.numbers("I", 20 if long_times else 12)
    rest = 52 if long_times else 40  # tkhd's matrix, width and height stand at its end
    tkhd.numbers("11I", rest)  # long enough
    mdia = trak.child("mdia")
    mdhd = mdia.child("mdhd")
    long_times = mdhd.full()[0] == 1
    (timescale,) = mdhd.numbers("I", 20 if long_times else 12)
    (language,) = mdhd.numbers("H", 32 if long_times else 20)
    if timescale == 0:
        raise malformed("a timescale of 0")
    handler = bytes(struct.pack(">I", *mdia.child("hdlr").numbers("I", 8))).decode("latin-1")
    if handler not in ("vide", "soun"):
        raise malformed(f"a track of kind {handler!r}")
    stsd = mdia.child("minf").child("stbl").child("stsd")
    (count,) = stsd.numbers("I", 4)
    entries = list(boxes(stsd.body[8:]))
    if count != 1 or len(entries) != 1:
        raise malformed(f"{count} sample entries; a CMAF track has one")
    entry, encryption = _unwrapped(sample_entry(entries[0], handler))
    codec, config, parameters = _codec(entry)
    trex = moov.child("mvex").child("trex")
    of_track, _, duration, size, flags = trex.numbers("5I", 4)
    if of_track != track_id:
        raise malformed(f"'trex' is of track {of_track}, the track is {track_id}")
    track = Track(
        track_id=track_id,
        handler=handler,
        timescale=timescale,
        codec=codec,
        language=_language(language),
        edit_offset_ticks=_edit_offset(trak),
        width=entry.width,
        height=entry.height,
        sar=entry.sar,
        transfer=color[1] if (color := nclx(entry)) is not None else None,
        light=_light(entry),
        channels=entry.channels,
        sample_rate=entry.sample_rate,
        config=bytes(config.body),
        nal_length_size=parameters.length_size,
        parameter_sets=parameters.sets,
        default_duration=duration,
        default_size=size,
        default_flags=flags,
        encryption=encryption,
    )
    return _Parts(
        track,
        entry,
        language,
        bytes(tkhd.body[rest + 36 : rest + 44]),
        bytes(tkhd.body[rest : rest + 36]),
    )


def read_init(data: bytes | memoryview) -> Track:
    """What an init segment says.

    Raises:
        StepFailed: it is malformed, has not exactly one picture or sound track with one sample
            entry of a codec that we know, or an edit list that is more than an offset.
    """
    return _parts(data).track


# Boxes of a sample entry that are not copied: btrt repeats the encoder's bitrates and so differs
# from chunk to chunk; light is the plan's to say, as a chunk may begin where the source is silent.
_NOT_COPIED = ("btrt", "mdcv", "clli")


def _light(entry: SampleEntry) -> Light | None:
    mastering, content = entry.find("mdcv"), entry.find("clli")
    if mastering is None and content is None:
        return None
    return Light(
        () if mastering is None else tuple(mastering.numbers("8H2I", 0)),
        () if content is None else tuple(content.numbers("2H", 0)),
    )


def _light_boxes(light: Light | None) -> list[bytes]:
    """mdcv and clli (14496-12, 12.1.6 and 12.1.7, in the units of `Light`)."""
    found = []
    if light is not None and light.mastering:
        found.append(box("mdcv", struct.pack(">8H2I", *light.mastering)))
    if light is not None and light.content:
        found.append(box("clli", struct.pack(">2H", *light.content)))
    return found


def _sample_entry_bytes(
    entry: SampleEntry, handler: str, inner: list[bytes], encryption: Encryption | None
) -> bytes:
    # The compressor's name is left empty: it names the muxer's version.
    kind = entry.kind
    if encryption is not None:
        kind, inner = ENTRIES[handler], [*inner, sinf(entry.kind, encryption)]
    reference = struct.pack(">6xH", 1)
    if entry.width:
        size = struct.pack(">16xHHIIIH", entry.width, entry.height, 0x480000, 0x480000, 0, 1)
        return box(kind, reference, size, bytes(32), struct.pack(">Hh", 24, -1), *inner)
    sound = struct.pack(">8xHHIHH", entry.channels, 16, 0, entry.sample_rate, 0)
    return box(kind, reference, sound, *inner)


def write_init(
    init: bytes,
    *,
    edit_offset_ticks: int,
    light: Light | None = None,
    encryption: Encryption | None = None,
) -> bytes:
    """The canonical init segment for the track of an init segment that a muxer wrote, with the
    `light` of an HDR picture and, where its samples are encrypted, how they are.

    One byte string for one coded format and offset: no times, no bitrates, no names of tools.

    Raises:
        StepFailed: the given one cannot be read (see `read_init`), turns the picture, which a
            rung never does, or already has an edit list.
    """
    parts = _parts(init)
    if parts.matrix != _IDENTITY:
        raise malformed("a rung with a rotation matrix")
    if parts.track.edit_offset_ticks:
        raise malformed("an init segment that already has an edit list")
    # Every box but those is the coded format itself.
    kept = [item for item in parts.entry.boxes if item.kind not in _NOT_COPIED]
    inner = [box(item.kind, item.body) for item in kept]
    return _init(parts, edit_offset_ticks, inner + _light_boxes(light), encryption)


def clear_init(init: bytes) -> bytes:
    """The init segment of what an init segment of ours says is encrypted, once it no longer is.

    Raises:
        StepFailed: the given one cannot be read (see `read_init`).
    """
    parts = _parts(init)
    inner = [box(item.kind, item.body) for item in parts.entry.boxes]
    return _init(parts, parts.track.edit_offset_ticks, inner, None)


def _init(
    parts: _Parts, edit_offset_ticks: int, inner: list[bytes], encryption: Encryption | None
) -> bytes:
    track = parts.track
    video = track.handler == "vide"
    mvhd = struct.pack(">IIIIIH10x", 0, 0, track.timescale, 0, 0x10000, 0x100)
    # Enabled, in the movie; sound has full volume.
    volume = 0 if video else 0x100
    tkhd = struct.pack(">IIIII8xHHHH", 0, 0, 1, 0, 0, 0, 0, volume, 0)
    mdhd = struct.pack(">IIIIHH", 0, 0, track.timescale, 0, parts.raw_language, 0)
    name = b"VideoHandler\0" if video else b"SoundHandler\0"
    hdlr = struct.pack(">I4s12x", 0, track.handler.encode()) + name
    media_header = full_box("vmhd", 0, 1, bytes(8)) if video else full_box("smhd", 0, 0, bytes(4))
    data_here = full_box("dref", 0, 0, struct.pack(">I", 1), full_box("url ", 0, 1))
    entry = _sample_entry_bytes(parts.entry, track.handler, inner, encryption)
    tables = [
        full_box("stsd", 0, 0, struct.pack(">I", 1), entry),
        full_box("stts", 0, 0, bytes(4)),
        full_box("stsc", 0, 0, bytes(4)),
        full_box("stsz", 0, 0, bytes(8)),
        full_box("stco", 0, 0, bytes(4)),
    ]
    edit = struct.pack(">IIiI", 1, 0, edit_offset_ticks, 0x10000)
    edits = [box("edts", full_box("elst", 0, 0, edit))] if edit_offset_ticks else []
    mdia = box(
        "mdia",
        full_box("mdhd", 0, 0, mdhd),
        full_box("hdlr", 0, 0, hdlr),
        box("minf", media_header, box("dinf", data_here), box("stbl", *tables)),
    )
    moov = box(
        "moov",
        full_box("mvhd", 0, 0, mvhd, _IDENTITY, bytes(24), struct.pack(">I", 2)),
        box("trak", full_box("tkhd", 0, 3, tkhd, _IDENTITY, parts.display_size), *edits, mdia),
        box("mvex", full_box("trex", 0, 0, struct.pack(">5I", 1, 1, 0, 0, 0))),
        *(() if encryption is None else (pssh(encryption.key_id),)),
    )
    return box("ftyp", b"cmfc", bytes(4), b"cmfc", b"iso6") + moov


# -- fragments -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Run:
    """One trun, its columns taken apart."""

    data_offset: int | None
    durations: Sequence[int]
    sizes: Sequence[int]
    flags: Sequence[int]
    offsets: Sequence[int]


def _run(trun: Box, duration: int, size: int, sample_flags: int, *, most: int) -> _Run:
    """At most `most` samples of a trun; the other arguments are the defaults of tfhd or trex."""
    version, flags = trun.full()
    (count,) = trun.numbers("I", 4)
    at = 8
    data_offset = None
    if flags & 0x1:
        (data_offset,) = trun.numbers("i", at)
        at += 4
    first_flags = None
    if flags & 0x4:
        (first_flags,) = trun.numbers("I", at)
        at += 4
    columns = [bit for bit in (0x100, 0x200, 0x400, 0x800) if flags & bit]
    if count > most:
        raise malformed(f"'trun' claims {count} samples")
    words = trun.numbers(f"{count * len(columns)}I", at)
    column = {bit: words[n :: len(columns)] for n, bit in enumerate(columns)}
    all_flags = list(column.get(0x400, [sample_flags] * count))
    if first_flags is not None and all_flags:
        all_flags[0] = first_flags
    offsets: Sequence[int] = column.get(0x800, [0] * count)
    if version:
        offsets = [offset - (offset >> 31 << 32) for offset in offsets]
    return _Run(
        data_offset,
        column.get(0x100, [duration] * count),
        column.get(0x200, [size] * count),
        all_flags,
        offsets,
    )


def _fragment(track: Track, moof: memoryview, mdat: memoryview, offset: int) -> Fragment:
    """Whole moof and mdat boxes, header included, that stand one behind the other."""
    (outer,) = boxes(moof)
    trafs = [item for item in outer.children() if item.kind == "traf"]
    if len(trafs) != 1:
        raise malformed(f"a fragment of {len(trafs)} tracks; CMAF has one")
    traf = trafs[0]
    tfhd = traf.child("tfhd")
    _, flags = tfhd.full()
    (track_id,) = tfhd.numbers("I", 4)
    if track_id != track.track_id:
        raise malformed(f"a fragment of track {track_id}, the track is {track.track_id}")
    at = 8
    base = offset
    if flags & 0x1:
        (base,) = tfhd.numbers("Q", at)
        at += 8
    if flags & 0x2:
        at += 4
    defaults = [track.default_duration, track.default_size, track.default_flags]
    for n, bit in enumerate((0x8, 0x10, 0x20)):
        if flags & bit:
            (defaults[n],) = tfhd.numbers("I", at)
            at += 4
    tfdt = traf.child("tfdt")
    (decode_ticks,) = tfdt.numbers("Q" if tfdt.full()[0] else "I", 4)
    if decode_ticks >= 1 << 62:
        raise malformed(f"a decode time of {decode_ticks}")
    (sequence,) = outer.child("mfhd").numbers("I", 4)

    samples: list[Sample] = []
    dts = decode_ticks
    position = None
    first_sample_end = 0
    for trun in traf.children():
        if trun.kind != "trun":
            continue
        run = _run(trun, *defaults, most=MAX_SAMPLES - len(samples))
        # A run without an offset follows the one before it (14496-12, 8.8.8.1).
        if run.data_offset is not None:
            position = base + run.data_offset - offset - len(moof)
        elif position is None:
            raise malformed("'trun' without a data offset")
        for duration, size, sample_flags, composition in zip(
            run.durations, run.sizes, run.flags, run.offsets, strict=True
        ):
            if position < 8 or position + size > len(mdat):
                raise malformed("a sample lies outside of its fragment's 'mdat'")
            samples.append(
                Sample(
                    pts=dts + composition - track.edit_offset_ticks,
                    duration=duration,
                    data=mdat[position : position + size],
                    sync=not sample_flags & _NON_SYNC_BIT,
                )
            )
            position += size
            dts += duration
            first_sample_end = first_sample_end or offset + len(moof) + position
    if not samples:
        raise malformed("a fragment without samples")
    if track.encryption is not None:
        told = read_senc(traf, len(samples))
        samples = [replace(s, subsamples=one) for s, one in zip(samples, told, strict=True)]
        if any(s.subsamples and sum(map(sum, s.subsamples)) != len(s.data) for s in samples):
            raise malformed("'senc' tells of other bytes than its samples have")
    return Fragment(
        sequence=sequence,
        decode_ticks=decode_ticks,
        samples=tuple(samples),
        offset=offset,
        size_bytes=len(moof) + len(mdat),
        first_sample_end=first_sample_end,
    )


class FragmentReader:
    """Takes a fragmented MP4 stream apart as it arrives, from a pipe or a file.

    Give `track` when the init segment is read elsewhere (a segment file). Holds no more than one
    fragment; a box above `max_box_bytes` is refused before it is stored.
    """

    def __init__(self, track: Track | None = None, *, max_box_bytes: int = MAX_BOX_BYTES) -> None:
        self._track = track
        self._max = max_box_bytes
        self._buffer = bytearray()
        self._offset = 0  # of the buffer's first byte in the stream
        self._ftyp = b""
        self._moof = b""

    def feed(self, data: bytes | memoryview) -> list[Init | Fragment]:
        """Take the next bytes; give what became whole with them.

        Raises:
            StepFailed: the stream is malformed. The reader is of no further use then.
        """
        self._buffer += data
        whole: list[Init | Fragment] = []
        while (head := header(self._buffer)) is not None:
            kind, _, size = head
            if size > self._max:
                raise malformed(f"box {kind!r} of {size} bytes; the limit is {self._max}")
            if size > len(self._buffer):
                break
            taken = bytes(memoryview(self._buffer)[:size])
            del self._buffer[:size]
            item = self._take(kind, taken)
            self._offset += size
            if item is not None:
                whole.append(item)
        return whole

    def finish(self) -> None:
        """The stream has ended.

        Raises:
            StepFailed: it ended inside a box or between a moof and its mdat: what wrote it was
                cut off.
        """
        if self._buffer or self._moof:
            raise malformed("the stream ends inside a fragment")

    def _take(self, kind: str, data: bytes) -> Init | Fragment | None:
        if self._moof and kind != "mdat":
            raise malformed(f"'moof' is followed by {kind!r}")
        if kind == "ftyp":
            self._ftyp = data
        elif kind == "moov":
            if self._track is not None:
                raise malformed("a second 'moov'")
            self._track = read_init(data)
            return Init(self._ftyp + data, self._track)
        elif kind == "moof":
            self._moof = data
        elif kind == "mdat":
            if self._track is None or not self._moof:
                raise malformed("'mdat' without 'moov' and 'moof' before it")
            moof, self._moof = memoryview(self._moof), b""
            return _fragment(self._track, moof, memoryview(data), self._offset - len(moof))
        return None


def read_segment(data: bytes | memoryview, track: Track) -> list[Fragment]:
    """The fragments of a segment file; `offset` in each counts from the file's start.

    Raises:
        StepFailed: it is malformed or cut off, or holds something else than fragments of `track`.
    """
    reader = FragmentReader(track, max_box_bytes=max(len(data), 8))
    fragments = [item for item in reader.feed(data) if isinstance(item, Fragment)]
    reader.finish()
    return fragments


def reorder_ticks(pts: Iterable[int]) -> int:
    """The smallest `edit_offset_ticks` that leaves no negative composition offset, for a closed
    run of presentation times in decode order."""
    times = list(pts)
    return max((dts - time for dts, time in zip(sorted(times), times, strict=True)), default=0)


def _timing_error(what: str) -> StepFailed:
    return StepFailed(f"fragment timing: {what}", code="fragment_timing")


def write_fragment(
    samples: Sequence[Sample],
    *,
    sequence: int,
    base_ticks: int,
    end_ticks: int,
    edit_offset_ticks: int,
) -> bytes:
    """moof and mdat of a closed run of samples in decode order, in canonical form.

    The samples' own durations are not used: decode times and durations are made from the
    presentation times, the first picture is shown at `base_ticks`, the last one until `end_ticks`.

    Raises:
        StepFailed: (code `fragment_timing`) the run does not start exactly at `base_ticks`, shows
            two samples at one time, reaches `end_ticks`, or reorders by more than
            `edit_offset_ticks`.
    """
    if not samples:
        raise _timing_error("no samples")
    shown = sorted(sample.pts for sample in samples)
    if shown[0] != base_ticks or base_ticks < 0:
        raise _timing_error(f"starts at {shown[0]}, expected {base_ticks}")
    durations = [
        after - before for before, after in zip(shown, [*shown[1:], end_ticks], strict=True)
    ]
    if min(durations) <= 0:
        at = shown[durations.index(min(durations))]
        raise _timing_error(f"the sample at {at} ends at {at + min(durations)}")
    offsets = [
        sample.pts - dts + edit_offset_ticks for sample, dts in zip(samples, shown, strict=True)
    ]
    if min(offsets) < 0:
        raise _timing_error(
            f"reorders by {edit_offset_ticks - min(offsets)} ticks, expected {edit_offset_ticks}"
        )
    syncs = [sample.sync for sample in samples]

    # trun: data offset and sizes always; the other columns only where a default does not say it.
    # tfhd: default-base-is-moof and default flags always; one duration where all are alike.
    run_flags, head_flags = 0x201, 0x020020
    head = struct.pack(">I", 1)
    columns: list[Sequence[int]] = []
    if len(set(durations)) == 1:
        head_flags |= 0x8
        head += struct.pack(">I", durations[0])
    else:
        run_flags |= 0x100
        columns.append(durations)
    columns.append([len(sample.data) for sample in samples])
    head += struct.pack(">I", _SYNC if all(syncs) else _NOT_SYNC)
    first = b""
    if any(syncs[1:]) and not all(syncs):
        run_flags |= 0x400
        columns.append([_SYNC if sync else _NOT_SYNC for sync in syncs])
    elif syncs[0] and not all(syncs):
        run_flags |= 0x4
        first = struct.pack(">I", _SYNC)
    if any(offsets):
        run_flags |= 0x800
        columns.append(offsets)
    words = [word for row in zip(*columns, strict=True) for word in row]
    table = first + struct.pack(f">{len(words)}I", *words)

    def moof(data_offset: int) -> bytes:
        counts = struct.pack(">Ii", len(samples), data_offset)
        number = full_box("mfhd", 0, 0, struct.pack(">I", sequence))
        traf = (
            full_box("tfhd", 0, head_flags, head),
            full_box("tfdt", 1, 0, struct.pack(">Q", base_ticks)),
            full_box("trun", 0, run_flags, counts, table),
        )
        before = 16 + len(number) + sum(map(len, traf))  # with the heads of moof and traf
        told = [s.subsamples for s in samples if s.subsamples is not None]
        sealed = sample_boxes(told, before) if told else b""
        return box("moof", number, box("traf", *traf, sealed))

    # Our mdat header is 8 bytes, so the samples start 8 bytes behind the moof.
    return moof(len(moof(0)) + 8) + box("mdat", *(sample.data for sample in samples))


# -- encryption ------------------------------------------------------------------------------


def sealed(
    samples: Iterable[Sample], track: Track, encryption: Encryption, key: bytes
) -> list[Sample]:
    """These samples, encrypted.

    Raises:
        StepFailed: (code `malformed_media`) one cannot be: see `coding.subsamples`.
    """
    found = []
    for sample in samples:
        told = subsamples_in(sample, track)
        data = seal(key, encryption, bytes(sample.data), told)
        found.append(replace(sample, data=data, subsamples=told))
    return found


def subsamples_in(sample: Sample, track: Track) -> Subsamples:
    """What of a sample is, or is to be, encrypted, by what stays readable in it; nothing is said of
    sound, of which all is."""
    coding = CODINGS.get(track.codec[:4])
    if coding is None:
        return ()
    return subsamples(coding, sample.data, Parameters(track.nal_length_size, track.parameter_sets))


def clear_segment(data: bytes | memoryview, track: Track, key: bytes) -> bytes:
    """The segment file that was encrypted sample by sample, as it was before: the same bytes.

    Raises:
        StepFailed: as `read_segment` does.
    """
    assert track.encryption is not None
    parts = [SEGMENT_TYPE]
    for fragment in read_segment(data, track):
        samples = [
            replace(
                sample,
                data=unseal(key, track.encryption, bytes(sample.data), sample.subsamples or ()),
                subsamples=None,
            )
            for sample in fragment.samples
        ]
        parts.append(
            write_fragment(
                samples,
                sequence=fragment.sequence,
                base_ticks=fragment.decode_ticks,
                end_ticks=fragment.end_ticks,
                edit_offset_ticks=track.edit_offset_ticks,
            )
        )
    return b"".join(parts)


def without_captions(sample: Sample, track: Track) -> Sample:
    """A picture without its closed captions: the same one where it has none, or is not H.264."""
    if not track.codec.startswith("avc"):
        return sample
    data = bytes(sample.data)
    if SEI_MARK not in data:
        return sample
    return replace(sample, data=avc_without_captions(data, track.nal_length_size))


def starts_gop(sample: Sample, track: Track) -> bool:
    """Whether a player may start with this picture: nothing after it refers to before it. It has to
    say so itself, by what is in it, and by the flag that players read.

    Raises:
        StepFailed: what is in the sample does not fill it.
    """
    coding = CODINGS.get(track.codec[:4])
    if coding is None:
        return sample.sync
    return coding.key(sample.data, track.nal_length_size) and sample.sync
