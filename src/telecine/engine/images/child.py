"""The program of an image worker: requests on one descriptor, answers on another, until the end.

Run by `pool` only, in the sandbox: `python -I -m telecine.engine.images.child`. It has no file, no
network and no memory of the picture before. Whatever goes wrong with a picture becomes an answer of
one clear line with a code; what goes wrong with the worker (killed, out of memory in C) ends it,
and `pool` starts another.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

# Before libvips starts: only decoders that are fuzzed may run, one thread a picture (the workers
# are the parallelism), and no picture is ever spilt to a file.
os.environ["VIPS_BLOCK_UNTRUSTED"] = "1"  # noqa: TID251  # its own process's, not the user's
os.environ["VIPS_CONCURRENCY"] = "1"  # noqa: TID251
os.environ["VIPS_DISC_THRESHOLD"] = "64g"  # noqa: TID251

import pyvips

from telecine.engine.errors import InputRefused, MediaError, StepFailed
from telecine.engine.images import facts, geometry, grammar, loading, pixels, saving
from telecine.engine.images.formats import FORMATS
from telecine.engine.images.loading import Header
from telecine.engine.images.operations import Convert, Operation, Resize, Thumbnail
from telecine.engine.images.picture import Picture
from telecine.engine.images.wire import (
    Answer,
    Bytes,
    Incoming,
    Request,
    Source,
    decode_request,
    encode_answer,
    encode_error,
)
from telecine.engine.sandbox import ANSWER_FD, REQUEST_FD

M_ARENA_MAX = -8  # <malloc.h>


def main() -> None:
    pyvips.cache_set_max(0)  # nothing of one picture for another
    # One heap for all threads, of which one is at work: what a picture leaves, the next one takes.
    # With a heap each a worker held a quarter more, and went up and down by a third of that.
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):  # glibc
        libc.mallopt(M_ARENA_MAX, 1)
    while (message := _receive()) is not None:
        for piece in respond(message):
            _send(piece)


def respond(message: Any) -> list[Bytes]:
    """The answer's bytes, whatever happens."""
    pyvips.vips_lib.vips_error_clear()  # what was said of the picture before
    try:
        request, blobs = decode_request(message)
        return encode_answer(_answer(request, blobs))
    except MediaError as error:
        return encode_error(error)
    except MemoryError:
        return encode_error(_out_of_memory())
    except pyvips.Error as error:
        if _is_memory(error):
            return encode_error(_out_of_memory())
        text = f"libvips: {loading.reason(error)}"
        return encode_error(InputRefused(text, code="image_damaged"))
    except Exception as error:  # a fault of ours: told by its name, and the worker goes on
        text = f"the image worker failed: {type(error).__name__}: {error}"
        return encode_error(StepFailed(text, code="image_failed"))


def _answer(request: Request, blobs: Sequence[Bytes]) -> Answer:
    source, rest = _take(request.source, blobs)
    if request.do == "inspect":
        return _inspect(request, source)
    refs = {}
    for name, each in zip(request.names, request.refs, strict=True):
        taken, rest = _take(each, rest)
        refs[name] = (each, taken)
    return _transform(request, source, refs)


def _take(source: Source, blobs: Sequence[Bytes]) -> tuple[Sequence[Bytes], Sequence[Bytes]]:
    return blobs[: source.blobs], blobs[source.blobs :]


# --- transform ------------------------------------------------------------------------------------


def _transform(
    request: Request,
    blobs: Sequence[Bytes],
    refs: Mapping[str, tuple[Source, Sequence[Bytes]]],
) -> Answer:
    operations = grammar.parse_text(request.operations)
    convert = grammar.conversion(operations)
    first_only = convert.frames == "first"
    header = loading.read_header(request.source, blobs, request.limits, first_only=first_only)
    frames = 1 if first_only else header.frames
    if frames > 1 and not FORMATS[request.output].animated:
        raise InputRefused(
            f"the picture moves ({frames} frames) and {request.output} holds stills: write WebP or "
            "GIF, or ask for its first frame",
            code="animation_lost",
        )
    geometry.sizes(header.size, operations, frames=frames, pixels=request.limits.pixels)
    marks = {name: _watermark(source, taken, request) for name, (source, taken) in refs.items()}

    def attempt(strict: bool) -> Answer:
        return _make(request, header, operations, convert, marks, strict=strict)

    return _strictly_first(attempt)


def _strictly_first(attempt: Callable[[bool], Answer]) -> Answer:
    """The picture as it is; or what can be read of a damaged one, with a warning."""
    try:
        return attempt(True)
    except pyvips.Error as error:
        if _is_memory(error):
            raise
        why = loading.reason(error)
    pyvips.vips_lib.vips_error_clear()
    answer = attempt(False)
    return replace(answer, warnings=(*_damage(why), *answer.warnings))


def _make(
    request: Request,
    header: Header,
    operations: Sequence[Operation],
    convert: Convert,
    marks: Mapping[str, Picture],
    *,
    strict: bool,
) -> Answer:
    loaded = loading.load(
        header,
        target=_target(header, operations),
        keep=convert.keep,
        depth=convert.depth,
        first_only=convert.frames == "first",
        strict=strict,
    )
    picture = loaded.picture
    # The first sees the picture as it was before it was shrunk on loading; after a trim it is known
    # only now what the others may make.
    size = header.size
    for operation in operations:
        if not isinstance(operation, Convert):
            geometry.after(
                size, operation, frames=len(picture.frames), pixels=request.limits.pixels
            )
            picture = pixels.apply(picture, operation, marks, size=size)
            size = geometry.Size(picture.width, picture.height)
    geometry.writable(size, request.output)
    saved = saving.save(picture, request.output, convert)
    facts = {
        "width": picture.width,
        "height": picture.height,
        "frames": saving.frames_of(saved, request.output, len(picture.frames)),
        "report": {
            "source": {
                "format": header.format,
                "width": header.size.width,
                "height": header.size.height,
                "frames": header.frames,
            },
            "metadata_removed": list(loaded.removed),
            **saved.report,
        },
    }
    return Answer(facts, (*loaded.warnings, *saved.warnings), saved.data)


def _target(header: Header, operations: Sequence[Operation]) -> geometry.Size | None:
    """What the first operation scales the picture to, if it is one that does."""
    if operations and isinstance(operations[0], Resize | Thumbnail):
        return geometry.scaled(header.size, operations[0])
    return None


def _watermark(source: Source, blobs: Sequence[Bytes], request: Request) -> Picture:
    header = loading.read_header(source, blobs, request.limits, first_only=True)
    loaded = loading.load(header, first_only=True, strict=False)
    return loaded.picture.each(lambda frame: frame.copy_memory())  # it may be laid on twice


# Bytes between JPEG's segments, where nobody looks; a number that changes nothing in the pixels.
_HARMLESS = ("extraneous bytes", "unknown JFIF revision")


def _damage(why: str) -> tuple[str, ...]:
    """What to tell of a picture that only loads when its damage is overlooked."""
    if any(words in why for words in _HARMLESS):
        return ()
    return (f"the file is cut off or damaged: {why}; the result shows what could be read",)


# The encoders of AVIF and WebP have few words for it. What they write comes from us, so that
# nothing else makes them fail.
_MEMORY = re.compile(
    "out of memory|unable to allocate|failed to allocate|encoder plugin generated|mux error",
    re.IGNORECASE,
)


def _is_memory(error: pyvips.Error) -> bool:
    return _MEMORY.search(str(error)) is not None


def _out_of_memory() -> StepFailed:
    return StepFailed("the picture needs more memory than it may take", code="image_limit")


# --- inspect --------------------------------------------------------------------------------------


def _inspect(request: Request, blobs: Sequence[Bytes]) -> Answer:
    header = loading.read_header(request.source, blobs, request.limits, first_only=True)
    target = facts.small(header.size)

    def attempt(strict: bool) -> Answer:
        loaded = loading.load(header, target=target, first_only=True, strict=strict)
        return Answer(facts.describe(header, loaded.picture), loaded.warnings)

    return _strictly_first(attempt)


# --- the pipes ------------------------------------------------------------------------------------


def _receive() -> Any:
    """The next message; None at the end. `pool` sends no more than the limits allow."""
    incoming = Incoming(sys.maxsize)
    while not incoming.done:
        count = os.readv(REQUEST_FD, [incoming.room()])
        if not count:
            return None
        incoming.took(count)
    return incoming.message()


def _send(piece: Bytes) -> None:
    rest = memoryview(piece).cast("B")
    while rest:
        rest = rest[os.write(ANSWER_FD, rest) :]


if __name__ == "__main__":
    main()
