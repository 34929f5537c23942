"""What `telecine image` does.

The short forms are translated into the operations that jobs and URLs have, in the order in which
they stand on the command line; what follows is the engine's.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from telecine.engine.disk import write_whole
from telecine.engine.errors import Interrupted, MediaError, UsageError
from telecine.engine.images import formats, grammar
from telecine.engine.images.operations import Operation
from telecine.engine.images.pool import ImageWorkers
from telecine.engine.images.transform import inspect, transform
from telecine.engine.images.values import ImageInfo, ImageLimits, Made, Wanted
from telecine.engine.serial import to_plain
from telecine.engine.tools import Tools
from telecine.printable import printable

STANDARD_OUTPUT = "-"

Plain = dict[str, Any]  # an operation as JSON has it: {"op": "resize", "w": 800}
Step = tuple[str, str]  # an option and its value


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command line asks for, checked as far as that goes without opening a picture."""

    sources: tuple[Path, ...]
    out: str | None  # a file, a folder or `-`; None: only say what the pictures are
    operations: tuple[Operation, ...]
    refs: Mapping[str, Path]  # pictures that the operations name
    format: str | None
    svg: bool
    force: bool
    json: bool
    ffmpeg: Path | None


# --- what is asked for -------------------------------------------------------------------------

_SIZE = re.compile(r"([0-9]*)x([0-9]*)")
_AREA = re.compile(r"([0-9]+)x([0-9]+)(?:\+([0-9]+)\+([0-9]+))?")
_COUNT = re.compile(r"([0-9]{1,12})([kKM]?)")
_UNITS = {"": 1, "k": 1_000, "K": 1_000, "M": 1_000_000}


def size_words(option: str, text: str) -> Plain:
    """`800x600` → both sides; `800x` and `x600` → one. Raises `UsageError` (`usage`)."""
    found = _SIZE.fullmatch(text)
    given = zip("wh", found.groups(), strict=True) if found else ()
    sides = {name: int(side) for name, side in given if side}
    if not sides:
        raise UsageError(f"{option} takes a size such as 800x600, not {text!r}", code="usage")
    return sides


def area_words(text: str) -> Plain:
    """`100x80+10+20` → a part of the picture. Raises `UsageError` (`usage`)."""
    found = _AREA.fullmatch(text)
    if found is None:
        raise UsageError(f"--crop takes a part such as 100x80+10+20, not {text!r}", code="usage")
    return {
        name: int(number)
        for name, number in zip("whxy", found.groups(), strict=True)
        if number is not None
    }


def byte_count(text: str) -> int:
    """`200k` → 200,000. Raises `UsageError` (`usage`)."""
    found = _COUNT.fullmatch(text)
    if found is None:
        raise UsageError(f"--max-bytes takes a size such as 200k, not {text!r}", code="usage")
    return int(found[1]) * _UNITS[found[2]]


def _number(option: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise UsageError(f"{option} takes a number, not {text!r}", code="usage") from None
    return int(number) if number.is_integer() else number


class _Translated:
    def __init__(self, refs: Mapping[str, Path]) -> None:
        self.operations: list[Plain] = []
        self.refs = dict(refs)

    def ref(self, path: Path) -> str:
        """A name of the command's own for a picture; the same one for the same file."""
        for name, known in self.refs.items():
            if known == path:
                return name
        taken = self.refs.keys()
        name = next(n for n in (f"w{i}" for i in range(1, len(taken) + 2)) if n not in taken)
        self.refs[name] = path
        return name


def translate(
    steps: Sequence[Step], refs: Mapping[str, Path], read: Callable[[Path], str]
) -> tuple[list[Plain], dict[str, Path]]:
    """Options in their order → operations as JSON has them, and the pictures that they name.

    `read` gives the text of a `--ops` file. Raises `UsageError` (`usage`, and what the grammar
    says of `--op`); whether each operation is what it should be, the grammar says of the whole.
    """
    made = _Translated(refs)
    for option, value in steps:
        made.operations.extend(_translated(option, value, made, read))
    return made.operations, made.refs


def _translated(
    option: str, value: str, made: _Translated, read: Callable[[Path], str]
) -> list[Plain]:
    match option:
        case "--op":
            return grammar.to_json(grammar.parse_text(value))
        case "--ops":
            return _listed(value, read(Path(value)))
        case "--resize":
            return [{"op": "resize", **size_words(option, value)}]
        case "--thumbnail":
            return [{"op": "thumbnail", **size_words(option, value)}]
        case "--crop":
            return [{"op": "crop", **area_words(value)}]
        case "--rotate":
            return [{"op": "rotate", "angle": _number(option, value)}]
        case "--flip":
            return [{"op": "flip"}]
        case "--watermark":
            return [{"op": "watermark", "image": made.ref(Path(value))}]
        case "--watermark-text":
            return [{"op": "watermark", "text": value}]
    raise ValueError(option)


def _listed(name: str, text: str) -> list[Plain]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} is no JSON: {error}", code="usage") from None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise UsageError(f"{name} holds no JSON list of operations", code="usage")
    return found


def conversion(found: argparse.Namespace) -> list[Plain]:
    """How the result is written, as the operation at the end; none where nothing is said."""
    said: Plain = {}
    if found.quality is not None:
        quality = found.quality
        said["quality"] = quality if quality == "auto" else _number("--quality", quality)
    if found.max_bytes is not None:
        said["max_bytes"] = byte_count(found.max_bytes)
    if found.keep is not None:
        said["keep"] = found.keep.split("+")
    if found.first_frame:
        said["frames"] = "first"
    return [{"op": "convert", **said}] if said else []


def named_files(words: Sequence[str]) -> dict[str, Path]:
    """`logo=logo.png` → what an operation calls it, and where it lies. Raises `UsageError`."""
    refs: dict[str, Path] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not (name and equals and path) or name in refs:
            raise UsageError(f"--ref takes NAME=FILE, each name once, not {word!r}", code="usage")
        refs[name] = Path(path)
    return refs


def read_asked(found: argparse.Namespace) -> Asked:
    """A parsed command line → what it asks for. Reads the files of `--ops` and nothing else.

    Raises `UsageError` (`usage`, `format_unknown`, and what the grammar of operations raises).
    """
    operations, refs = translate(found.steps, named_files(found.ref), _read_text)
    closing = conversion(found)
    if closing and any(operation.get("op") == "convert" for operation in operations):
        raise UsageError(
            "how the result is written is said twice: by --quality, --max-bytes, --keep or "
            "--first-frame, and by a convert among the operations",
            code="usage",
        )
    if found.info and (operations or closing or found.format):
        raise UsageError("--info makes no picture: it takes no operations", code="usage")
    if found.json and found.out == STANDARD_OUTPUT:
        raise UsageError("-o - and --json would both write to standard output", code="usage")
    return Asked(
        sources=tuple(found.sources),
        out=None if found.info else found.out,
        operations=tuple(grammar.parse_json([*operations, *closing])),
        refs=refs,
        format=None if found.format is None else formats.written(found.format).name,
        svg=found.svg,
        force=found.force,
        json=found.json,
        ffmpeg=found.ffmpeg,
    )


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no text", code="usage") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", code="usage") from None


# --- formats and places -----------------------------------------------------------------------


def place_of(source: Path, out: str, format: str | None, *, folder: bool) -> tuple[Path, str]:
    """Where the picture made of `source` goes, and its format. Pure.

    Into a folder it goes under its own name, with the ending of its format. Raises `UsageError`
    (`format_unknown`).
    """
    named = source if folder else Path(out)
    found = formats.by_extension(named.suffix) if format is None else formats.written(format)
    if found is None or not found.written:
        raise UsageError(
            f"{named.name!r} does not end in a format that can be written: name one with --format",
            code="format_unknown",
        )
    if folder:
        return Path(out) / f"{source.stem}.{found.extensions[0]}", found.name
    return Path(out), found.name


def _places(asked: Asked, out: str) -> list[tuple[Path, str]]:
    """Where each picture goes, checked before any is made.

    Raises `UsageError` (`usage`, `format_unknown`, `output_twice`, `output_exists`,
    `output_is_source`, `output_unwritable`).
    """
    if out == STANDARD_OUTPUT:
        return [_standard_output(asked)]
    folder = out.endswith(os.sep) or Path(out).is_dir()
    if len(asked.sources) > 1 and not folder:
        raise UsageError(f"several pictures go into a folder: -o {out}/", code="usage")
    places = [place_of(source, out, asked.format, folder=folder) for source in asked.sources]
    read = {path.resolve() for path in (*asked.sources, *asked.refs.values())}
    seen: set[Path] = set()
    for place, _ in places:
        if place in seen:
            raise UsageError(f"two pictures would be written to {place}", code="output_twice")
        seen.add(place)
        if place.resolve() in read:
            raise UsageError(
                f"{place} is read: choose another name for what is made", code="output_is_source"
            )
        if os.path.lexists(place) and not (asked.force and place.is_file()):
            what = "choose another name, or --force to replace it"
            what = what if place.is_file() else "it is no file, and stays"
            raise UsageError(f"{place} is there already: {what}", code="output_exists")
    parent = Path(out) if folder else Path(out).parent
    if folder:
        _make_folder(parent)
    elif not parent.is_dir():
        raise UsageError(f"no such folder: {parent}", code="output_unwritable")
    return places


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot write to {folder}: {error.strerror}", code="output_unwritable"
        ) from None


def _standard_output(asked: Asked) -> tuple[Path, str]:
    if len(asked.sources) > 1:
        raise UsageError("-o - takes one picture", code="usage")
    if sys.stdout.isatty():
        raise UsageError("a picture is not written to a terminal", code="usage")
    if asked.format is None:
        raise UsageError("-o - has no name that says the format: --format", code="format_unknown")
    return Path(STANDARD_OUTPUT), asked.format


# --- acts -------------------------------------------------------------------------------------


def run(found: argparse.Namespace, find_tools: Callable[[], Tools]) -> int:
    """Run a parsed command line; the exit code. Of several pictures those that fail are told of
    in a line each, the others are made, and the code is the highest.

    Raises what `read_asked`, the places and the engine raise. A file is whole or not there.
    """
    asked = read_asked(found)
    places = [] if asked.out is None else _places(asked, asked.out)
    codes = []
    with ImageWorkers(find_tools(), count=1, limits=ImageLimits(svg=asked.svg)) as workers:
        for n, source in enumerate(asked.sources):
            try:
                if places:
                    _make(asked, workers, source, *places[n])
                else:
                    _inform(asked, workers, source)
            except Interrupted:
                raise
            except MediaError as error:
                if len(asked.sources) == 1:
                    raise
                codes.append(_tell(error, source, json=asked.json))
    return max(codes, default=0)


def _make(asked: Asked, workers: ImageWorkers, source: Path, place: Path, format: str) -> None:
    made = transform(workers, source, Wanted(asked.operations, format), refs=asked.refs)
    if asked.out == STANDARD_OUTPUT:
        sys.stdout.buffer.write(made.data)
        sys.stdout.flush()
    else:
        write_whole(place, made.data, durable=True)
    _warn(made.warnings, source, asked)
    if asked.json:
        _print_json({"source": str(source), "file": str(place), **_plain(made)})
    elif sys.stderr.isatty():
        _say(summary(place, made))


def _plain(made: Made) -> dict[str, Any]:
    return {
        "format": made.format,
        "content_type": made.content_type,
        "width": made.width,
        "height": made.height,
        "frames": made.frames,
        "size_bytes": len(made.data),
        "warnings": list(made.warnings),
        "report": to_plain(dict(made.report)),
    }


def _inform(asked: Asked, workers: ImageWorkers, source: Path) -> None:
    info = inspect(workers, source)
    if asked.json:
        _print_json({"source": str(source), **to_plain(info)})
        return
    if len(asked.sources) > 1:
        print(printable(f"{source}:"))
    for line in describe(info):
        print(printable(line))
    sys.stdout.flush()
    _warn(info.warnings, source, asked)


# --- saying -----------------------------------------------------------------------------------


def summary(place: Path, made: Made) -> str:
    """What was made, in one line."""
    frames = f", {made.frames} frames" if made.frames > 1 else ""
    size = f"{len(made.data) / 1000:,.1f} kB"
    return f"{place}: {made.format}, {made.width} × {made.height}{frames}, {size}"


def describe(info: ImageInfo) -> Iterator[str]:
    """A picture in plain words."""
    alpha = ", transparency" if info.alpha else ""
    bits = f", {info.depth} bits a channel"
    yield f"{info.format}, {info.width} × {info.height}, {info.color}{alpha}{bits}"
    if info.frames > 1:
        lasting = "" if info.duration_s is None else f", {info.duration_s:.2f} s"
        yield f"{info.frames} frames{lasting}"
    if info.icc is not None:
        yield f"colour profile: {info.icc}"
    if info.orientation != 1:
        yield f"EXIF orientation {info.orientation}: the size is that of the upright picture"
    if info.gps:
        yield "it says where it was taken (GPS)"
    for name, value in info.exif.items():
        yield f"{name}: {value}"
    yield f"dominant colours: {', '.join(info.dominant_colors)}"
    yield f"ThumbHash: {info.thumbhash}"
    yield f"BlurHash: {info.blurhash}"


def _warn(warnings: Sequence[str], source: Path, asked: Asked) -> None:
    if not asked.json:  # there they stand in the object
        for warning in warnings:
            _say(f"warning: {source}: {warning}")


def _tell(error: MediaError, source: Path, *, json: bool) -> int:
    _say(f"error[{error.code}]: {source}: {error.message}")
    if json:
        failed = {"event": "failed", "source": str(source)}
        _print_json({**failed, "code": error.code, "message": error.message})
    return error.exit_code


def _say(text: str) -> None:
    print(f"telecine: {printable(text)}", file=sys.stderr, flush=True)


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False), flush=True)
