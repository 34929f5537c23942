"""A file and operations in, a finished picture out. START HERE.

What the file is its first bytes say; who reads it `formats` does: libvips in a worker, or FFmpeg in
the sandbox before (`decoding`). A worker (`pool`) does all that touches pixels; its answer is then
held against what the operations come to (`geometry`). No foreign byte is decoded in this process.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from telecine.engine.errors import InputRefused, StepFailed, UsageError
from telecine.engine.images import geometry, grammar
from telecine.engine.images.decoding import decode
from telecine.engine.images.formats import FORMATS
from telecine.engine.images.geometry import Size
from telecine.engine.images.operations import Operation
from telecine.engine.images.pool import ImageWorkers
from telecine.engine.images.sniff import HEAD_BYTES, sniff
from telecine.engine.images.values import ImageInfo, ImageLimits, Made, Wanted
from telecine.engine.images.wire import Answer, Bytes, Request, Source
from telecine.engine.process import Cancel
from telecine.engine.serial import from_plain


def transform(
    workers: ImageWorkers,
    source: Path,
    wanted: Wanted,
    *,
    refs: Mapping[str, Path] | None = None,
    cancel: Cancel | None = None,
    tenant: str = "",
    on_move: Callable[[], object] = lambda: None,
) -> Made:
    """Make `wanted` of the picture in `source`. `refs`: the files of the pictures that operations
    name; `tenant`: for whom, see `ImageWorkers`. `on_move` is called after each picture that was
    read: what lies between two calls, the limits' `wall_s` bounds. Nothing is written.

    Raises UsageError for what cannot be asked of this picture, InputRefused for a file that is no
    picture, is damaged beyond showing, or beyond the limits, StepFailed when a worker fails (see
    `ImageWorkers.ask`) or makes another picture than it should, Interrupted.
    """
    operations = wanted.operations
    grammar.check_format(operations, wanted.format)
    first_only = grammar.conversion(operations).frames == "first"
    marks = _marks(operations, refs or {})
    still = not FORMATS[wanted.format].animated
    picture, blobs = read(
        source, workers, first_only=first_only, still=still, cancel=cancel, tenant=tenant
    )
    on_move()
    laid = []
    for path in marks.values():
        laid.append(read(path, workers, first_only=True, cancel=cancel, tenant=tenant))
        on_move()
    request = Request(
        do="transform",
        source=picture,
        limits=workers.limits,
        operations=grammar.to_text(operations),
        output=wanted.format,
        names=tuple(marks),
        refs=tuple(mark for mark, _ in laid),
    )
    for _, more in laid:
        blobs.extend(more)
    answer = workers.ask(request, blobs, cancel=cancel, tenant=tenant)
    return _made(answer, picture, operations, wanted.format, first_only)


def inspect(
    workers: ImageWorkers, source: Path, *, cancel: Cancel | None = None, tenant: str = ""
) -> ImageInfo:
    """What the picture in `source` is. Raises as `transform` does."""
    picture, blobs = read(source, workers, cancel=cancel, tenant=tenant)
    request = Request("inspect", picture, workers.limits)
    answer = workers.ask(request, blobs, cancel=cancel, tenant=tenant)
    warnings = [*picture.warnings, *answer.warnings]
    try:
        return from_plain(ImageInfo, {**answer.facts, "warnings": warnings})
    except ValueError as error:
        raise StepFailed(f"a worker's answer is none: {error}", code="image_failed") from None


# --- what goes in ---------------------------------------------------------------------------------


def read(
    source: Path,
    workers: ImageWorkers,
    *,
    first_only: bool = False,
    still: bool = False,
    cancel: Cancel | None = None,
    tenant: str = "",
) -> tuple[Source, list[Bytes]]:
    """The bytes of a picture as a worker takes them, decoded by FFmpeg where libvips cannot.

    Raises InputRefused: `source_missing`, `empty_file`, `too_many_bytes`, `not_an_image`,
    `svg_refused`; and as `decode` does.
    """
    data = _bytes(source, workers.limits)
    format = sniff(data[:HEAD_BYTES])
    if format is None:
        raise InputRefused("the file is no picture of a kind that is read", code="not_an_image")
    if format == "svg" and not workers.limits.svg:
        raise InputRefused("drawings (SVG) are not taken here", code="svg_refused")
    if FORMATS[format].reader != "ffmpeg":
        return Source(format), [data]
    with workers.place(cancel, tenant):
        picture, frames = decode(
            source,
            format,
            workers.tools,
            workers.limits,
            first_only=first_only,
            still=still,
            cancel=cancel,
        )
    if format != "heic":
        return picture, frames
    # libvips reads the head of a HEIC: ICC profile, EXIF.
    return replace(picture, blobs=picture.blobs + 1, header=True), [*frames, data]


def _bytes(source: Path, limits: ImageLimits) -> bytes:
    try:
        if not stat.S_ISREG(source.stat().st_mode):  # a named pipe may never be opened
            raise InputRefused(f"{source.name} is not a file", code="source_missing")
        with source.open("rb") as file:
            data = file.read(limits.source_bytes + 1)
    except OSError as error:
        raise InputRefused(
            f"{source.name} cannot be read: {error.strerror}", code="source_missing"
        ) from None
    if not data:
        raise InputRefused("the file has 0 bytes", code="empty_file")
    if len(data) > limits.source_bytes:
        raise InputRefused(
            f"the file has more than {limits.source_bytes:,} bytes", code="too_many_bytes"
        )
    return data


def _marks(operations: Sequence[Operation], refs: Mapping[str, Path]) -> dict[str, Path]:
    names = grammar.refs(operations)
    missing = [name for name in names if name not in refs]
    if missing:
        raise UsageError(
            f"there is no picture called {missing[0]!r} to lay over this one",
            code="watermark_missing",
        )
    return {name: refs[name] for name in names}


# --- what comes out -------------------------------------------------------------------------------


def _made(
    answer: Answer,
    picture: Source,
    operations: Sequence[Operation],
    format: str,
    first_only: bool,
) -> Made:
    """The answer, if it is what it should be: a picture of the format and the size that were asked
    for. A worker that errs, or was taken over, does not decide what we hand out as what."""
    data = bytes(answer.data)
    facts = answer.facts
    try:
        width, height, frames = (_whole(facts, name) for name in ("width", "height", "frames"))
        report = _table(facts, "report")
        was = _table(report, "source")
        size = Size(_whole(was, "width"), _whole(was, "height"))
        most = 1 if first_only else _whole(was, "frames")
    except ValueError as error:
        raise StepFailed(f"a worker's answer is none: {error}", code="image_failed") from None
    if sniff(data[:HEAD_BYTES]) != format:
        raise StepFailed(f"a worker's answer is no {format}", code="image_failed")
    expected = (size, *geometry.sizes(size, operations))[-1]
    fits = (width, height) == (expected.width, expected.height)
    if not expected.exact:
        fits = width <= expected.width and height <= expected.height
    joined = format == "webp" and frames < most  # neighbours that are alike: see `saving.frames_of`
    if not fits or (frames != most and not joined):
        raise StepFailed(
            f"a picture of {width} × {height} in {frames} frames was made, and should have been "
            f"{expected.width} × {expected.height} in {most}",
            code="image_size_wrong",
        )
    return Made(
        data=data,
        format=format,
        content_type=FORMATS[format].content_type,
        width=width,
        height=height,
        frames=frames,
        warnings=(*picture.warnings, *answer.warnings),
        report=report,
    )


def _whole(table: Mapping[str, Any], name: str) -> int:
    value = table.get(name)
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} is {value!r}")
    return value


def _table(table: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = table.get(name)
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {value!r}")
    return value
