"""The messages between `pool` and `child`: a request, its answer, and how they lie in a pipe.

A message is eight bytes (the header's length, little-endian), the header (JSON; its `blobs` holds
the lengths of what follows) and the blobs, one after the other. Nothing else stands in the pipes.

The child may have been taken over by the picture it read. So lengths are bounded before anything is
allocated, and an answer is read as strictly as a stranger's: every field has its type, and an error
its known code. Whatever does not fit is `WireBroken`, for which a worker is thrown away.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from telecine.engine.errors import InputRefused, MediaError, StepFailed, UsageError
from telecine.engine.images.values import ImageLimits
from telecine.engine.serial import from_plain, to_plain

_PREFIX_BYTES = 8
_HEADER_BYTES = 1 << 20  # an answer's header with all EXIF texts takes some kilobytes

Bytes: TypeAlias = bytes | bytearray | memoryview

# What a child may refuse or fail with: its code, and the error that the caller then gets.
CODES: dict[str, type[MediaError]] = {
    "operation_invalid": UsageError,
    "option_not_of_format": UsageError,
    "crop_outside": UsageError,
    "result_too_large": UsageError,
    "watermark_missing": UsageError,
    "letters_missing": UsageError,
    "not_an_image": InputRefused,
    "image_format_refused": InputRefused,
    "too_many_pixels": InputRefused,
    "too_many_frames": InputRefused,
    "image_damaged": InputRefused,
    "animation_lost": InputRefused,
    "svg_refused": InputRefused,
    "max_bytes_unreachable": InputRefused,
    "image_limit": StepFailed,
    "image_failed": StepFailed,
}


class WireBroken(Exception):
    """Bytes that are no message of ours."""


@dataclass(frozen=True, slots=True)
class Source:
    """A picture in a request, its bytes beside it.

    `format` is what the bytes are. Where libvips cannot read those of the file, FFmpeg decoded them
    before: then there is one PNG a frame (ICC, alpha and 16 bits in it, already upright), `was`
    names the file's format, and `header` says that the file itself follows as the last blob, of
    which libvips can read the header alone (ICC, EXIF). `primaries` and `transfer` are then the
    pixels' colour as FFmpeg names it (ITU-T H.273: "bt709", "bt2020", "smpte432", "iec61966-2-1",
    "smpte2084" …; "unknown" where the file does not say), to be used where there is no ICC profile.
    """

    format: str
    blobs: int = 1  # of the request's, in order: all of this picture's
    was: str = ""
    header: bool = False
    primaries: str = "unknown"
    transfer: str = "unknown"
    delays_ms: tuple[int, ...] = ()  # one a frame of a decoded animation
    loop: int = 0  # how often that is shown; 0: for ever
    warnings: tuple[str, ...] = ()  # of the decoder, in plain words


@dataclass(frozen=True, slots=True)
class Request:
    """`operations` is their canonical text (`grammar.to_text`), `output` the format to write. The
    blobs are those of `source`, then those of each of `refs` (watermarks, in order of `names`)."""

    do: Literal["transform", "inspect"]
    source: Source
    limits: ImageLimits
    operations: str = ""
    output: str = ""
    names: tuple[str, ...] = ()
    refs: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the child made: `facts` are plain values by name (of a transform: `width`, `height`,
    `frames`, `report`; of an inspection all fields of `ImageInfo`), `data` the result's bytes."""

    facts: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    data: Bytes = field(default=b"", repr=False)


Message: TypeAlias = tuple[dict[str, Any], list[bytearray]]


def encode_request(request: Request, blobs: Sequence[Bytes]) -> list[Bytes]:
    """The pieces of a message, to be written in order. No blob is copied."""
    return _encode(to_plain(request), blobs)


def decode_request(message: Message) -> tuple[Request, list[bytearray]]:
    """Raises `WireBroken`."""
    header, blobs = message
    try:
        request = from_plain(Request, header)
    except ValueError as error:
        raise WireBroken(str(error)) from None
    pictures = (request.source, *request.refs)
    if sum(each.blobs for each in pictures) != len(blobs) or len(request.names) != len(
        request.refs
    ):
        raise WireBroken("the request's parts do not fit together")
    return request, blobs


def encode_answer(answer: Answer) -> list[Bytes]:
    header = {"facts": to_plain(answer.facts), "warnings": list(answer.warnings)}
    return _encode(header, [answer.data])


def encode_error(error: MediaError) -> list[Bytes]:
    """Of an error with one of `CODES`; any other code is told as `image_failed`."""
    code = error.code if error.code in CODES else "image_failed"
    return _encode({"code": code, "message": error.message}, [])


def decode_answer(message: Message) -> Answer:
    """The answer, or the error that the child told of, raised. Raises `WireBroken`."""
    header, blobs = message
    if header.keys() == {"code", "message"} and not blobs:
        code, text = header["code"], header["message"]
        if isinstance(code, str) and code in CODES and isinstance(text, str):
            raise CODES[code](_printable(text), code=code, retryable=False)
        raise WireBroken("an error that is none of ours")
    if header.keys() != {"facts", "warnings"} or len(blobs) != 1:
        raise WireBroken("neither an answer nor an error")
    facts, warnings = header["facts"], header["warnings"]
    if not isinstance(facts, dict) or not isinstance(warnings, list):
        raise WireBroken("an answer's fields are not what they should be")
    if not all(isinstance(each, str) for each in warnings):
        raise WireBroken("a warning that is no text")
    return Answer(facts, tuple(_printable(each) for each in warnings), blobs[0])


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\ufffd" for c in text)[:500]


def _encode(header: dict[str, Any], blobs: Sequence[Bytes]) -> list[Bytes]:
    lengths = [len(memoryview(blob).cast("B")) for blob in blobs]
    text = json.dumps({**header, "blobs": lengths}, separators=(",", ":")).encode()
    if len(text) > _HEADER_BYTES:
        raise WireBroken(f"a header of {len(text)} bytes")
    return [len(text).to_bytes(_PREFIX_BYTES, "little") + text, *blobs]


class Incoming:
    """A message on its way in: read into `room`, say how much came with `took`, until it is `done`.

    Blobs are read straight to where they stay. At most `most_bytes` are ever asked for.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._header: dict[str, Any] | None = None
        self._prefix = True
        self._waiting: list[bytearray] = [bytearray(_PREFIX_BYTES)]
        self._blobs: list[bytearray] = []
        self._room = memoryview(self._waiting[0])

    @property
    def done(self) -> bool:
        return not self._waiting

    def room(self) -> memoryview:
        """Where the next bytes go; never empty until `done`."""
        return self._room

    def took(self, count: int) -> None:
        """`count` bytes were put into `room`. Raises `WireBroken`."""
        self._room = self._room[count:]
        while not self._room and self._waiting:
            self._next(self._waiting.pop(0))
            self._room = memoryview(self._waiting[0]) if self._waiting else memoryview(b"")

    def message(self) -> Message:
        """Once `done`."""
        assert self._header is not None
        return self._header, self._blobs

    def _next(self, full: bytearray) -> None:
        if self._header is not None:
            return
        if self._prefix:
            length = int.from_bytes(full, "little")
            if not 2 <= length <= _HEADER_BYTES:
                raise WireBroken(f"a header of {length} bytes")
            self._prefix = False
            self._waiting = [bytearray(length)]
            return
        self._header, lengths = _header(full)
        if sum(lengths) > self._most:
            raise WireBroken(f"a message of {sum(lengths)} bytes, {self._most} are allowed")
        self._blobs = [bytearray(length) for length in lengths]
        self._waiting = list(self._blobs)


def _header(data: bytearray) -> tuple[dict[str, Any], list[int]]:
    try:
        header = json.loads(data)
    except (ValueError, RecursionError):
        raise WireBroken("a header that is no JSON") from None
    lengths = header.pop("blobs", None) if isinstance(header, dict) else None
    if not isinstance(lengths, list) or len(lengths) > 10_000:
        raise WireBroken("a header without lengths")
    if not all(type(length) is int and length >= 0 for length in lengths):
        raise WireBroken("a header with lengths that are none")
    return header, lengths
