"""What a command line of `telecine image` means: operations in order, places, refusals."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from telecine.cli import main, parser
from telecine.engine.errors import UsageError
from telecine.engine.images.operations import (
    Convert,
    CropTo,
    Flip,
    Operation,
    Resize,
    Rotate,
    Sepia,
    Thumbnail,
    Watermark,
)
from telecine.imaging import Asked, place_of, read_asked


def asked(words: str) -> Asked:
    return read_asked(parser().parse_args(["image", *shlex.split(words)]))


@pytest.mark.parametrize(
    ("words", "operation"),
    [
        ("--resize 800x600", Resize(w=800, h=600)),
        ("--resize 800x", Resize(w=800)),
        ("--resize x600", Resize(h=600)),
        ("--thumbnail 200x100", Thumbnail(w=200, h=100)),
        ("--crop 100x80+10+20", CropTo(w=100, h=80, x=10, y=20)),
        ("--crop 100x80", CropTo(w=100, h=80)),
        ("--rotate 90", Rotate(angle=90)),
        ("--rotate -12.5", Rotate(angle=347.5)),
        ("--flip", Flip()),
        ("--watermark-text '© me, 100 %; or you!'", Watermark(text="© me, 100 %; or you!")),
        ("--op resize:w=8,h=6,fit=cover", Resize(w=8, h=6, fit="cover")),
        ("--quality 80", Convert(quality=80)),
        ("--quality auto", Convert(quality="auto")),
        ("--max-bytes 200k", Convert(max_bytes=200_000)),
        ("--max-bytes 3M", Convert(max_bytes=3_000_000)),
        ("--max-bytes 54321", Convert(max_bytes=54_321)),
        ("--keep exif+icc", Convert(keep=("icc", "exif"))),
        ("--first-frame", Convert(frames="first")),
        ("--quality 7 --keep xmp --first-frame", Convert(quality=7, keep=("xmp",), frames="first")),
    ],
)
def test_a_short_form_is_an_operation(words: str, operation: Operation) -> None:
    assert asked(f"in.jpg -o out.webp {words}").operations == (operation,)


def test_operations_stand_in_the_order_of_the_command_line() -> None:
    turned_first = asked("in.jpg -o o.jpg --rotate 90 --resize 800x600").operations
    assert turned_first == (Rotate(angle=90), Resize(w=800, h=600))
    resized_first = asked("--resize 800x600 in.jpg --rotate 90 -o o.jpg").operations
    assert resized_first == (Resize(w=800, h=600), Rotate(angle=90))
    mixed = asked("in.jpg --quality 5 --op 'flip;sepia:amount=0.5' --crop 1x1 --op flip -o o.jpg")
    assert mixed.operations == (Flip(), Sepia(amount=0.5), CropTo(w=1, h=1), Flip(),
                                Convert(quality=5))  # fmt: skip


def test_a_file_of_operations_stands_where_it_was_named(tmp_path: Path) -> None:
    file = tmp_path / "ops.json"
    file.write_text(json.dumps([{"op": "sepia"}, {"op": "crop", "w": 9, "h": 8}]))
    made = asked(f"in.jpg -o o.jpg --flip --ops {file} --rotate 180").operations
    assert made == (Flip(), Sepia(), CropTo(w=9, h=8), Rotate(angle=180))


def test_pictures_that_operations_name_are_bound_to_files() -> None:
    found = asked(
        "in.jpg -o o.jpg --watermark a/logo.png --watermark other.png --watermark a/logo.png "
        "--op watermark:image=mine,tile=1 --ref mine=third.png"
    )
    marks = [op for op in found.operations if isinstance(op, Watermark)]
    files = [found.refs[mark.image or ""] for mark in marks]
    assert files == [Path(n) for n in ("a/logo.png", "other.png", "a/logo.png", "third.png")]
    assert len(found.refs) == 3


def test_a_name_of_the_users_is_not_taken_for_a_file_of_a_short_form() -> None:
    found = asked("in.jpg -o o.jpg --watermark logo.png --ref w1=mine.png")
    (mark,) = (op for op in found.operations if isinstance(op, Watermark))
    assert found.refs == {"w1": Path("mine.png"), mark.image: Path("logo.png")}


@pytest.mark.parametrize(
    ("source", "out", "format", "folder", "place", "name"),
    [
        ("a.png", "b.webp", None, False, "b.webp", "webp"),
        ("a.png", "b.JPG", None, False, "b.JPG", "jpeg"),
        ("a.png", "d/b.tif", None, False, "d/b.tif", "tiff"),
        ("a.png", "b.data", "avif", False, "b.data", "avif"),
        ("x/a.b.png", "d/", None, True, "d/a.b.png", "png"),
        ("x/a.jpeg", "d", None, True, "d/a.jpg", "jpeg"),
        ("x/a.heic", "d", "webp", True, "d/a.webp", "webp"),
    ],
)
def test_the_name_says_the_format_unless_it_is_named(
    source: str, out: str, format: str | None, folder: bool, place: str, name: str
) -> None:
    assert place_of(Path(source), out, format, folder=folder) == (Path(place), name)


@pytest.mark.parametrize(("source", "out", "folder"), [("a.png", "b.txt", False),
                                                       ("a.png", "b", False),
                                                       ("a.heic", "d", True)])  # fmt: skip
def test_a_format_that_nothing_says_is_asked_for(source: str, out: str, folder: bool) -> None:
    with pytest.raises(UsageError, match="--format") as raised:
        place_of(Path(source), out, None, folder=folder)
    assert raised.value.code == "format_unknown"


WRONG = [
    ("", "usage", "IN"),
    ("a.jpg", "usage", "-o --info"),
    ("a.jpg -o o.jpg --info", "usage", "not allowed with"),
    ("a.jpg --info --flip", "usage", "--info"),
    ("a.jpg --info --format png", "usage", "--info"),
    ("a.jpg -o o.jpg --resize 800", "usage", "'800'"),
    ("a.jpg -o o.jpg --resize x", "usage", "'x'"),
    ("a.jpg -o o.jpg --resize ٣x٣", "usage", "'٣x٣'"),
    ("a.jpg -o o.jpg --resize 0x5", "operation_invalid", "1 to 16384"),
    ("a.jpg -o o.jpg --thumbnail 20x", "operation_invalid", "h is missing"),
    ("a.jpg -o o.jpg --crop 1x1+2", "usage", "100x80+10+20"),
    ("a.jpg -o o.jpg --rotate left", "usage", "'left'"),
    ("a.jpg -o o.jpg --rotate nan", "operation_invalid", "angle"),
    ("a.jpg -o o.jpg --max-bytes 2G", "usage", "'2G'"),
    ("a.jpg -o o.jpg --quality 0", "operation_invalid", "1 to 100"),
    ("a.jpg -o o.jpg --quality best", "usage", "'best'"),
    ("a.jpg -o o.jpg --keep all", "operation_invalid", "icc, exif, gps, xmp"),
    ("a.jpg -o o.jpg --quality 5 --op convert:quality=6", "usage", "twice"),
    ("a.jpg -o o.jpg --op convert:quality=6 --flip", "convert_not_last", "convert"),
    ("a.jpg -o o.jpg --op blurr:sigma=2", "operation_unknown", "did you mean blur"),
    ("a.jpg -o o.jpg --ops nowhere.json", "usage", "nowhere.json: No such file"),
    ("a.jpg -o o.jpg --ref logo", "usage", "NAME=FILE"),
    ("a.jpg -o o.jpg --ref l=a --ref l=b", "usage", "each name once"),
    ("a.jpg -o o.jpg --format bmp", "format_unknown", "'bmp'"),
    ("a.jpg -o o.txt", "format_unknown", "'o.txt'"),
    ("a.jpg -o -", "format_unknown", "--format"),
    ("a.jpg b.jpg -o - --format png", "usage", "one picture"),
    ("a.jpg b.jpg -o o.jpg", "usage", "-o o.jpg/"),
    ("a.jpg x/a.jpeg -o . --format webp", "output_twice", "a.webp"),
    ("a.jpg -o nowhere/o.jpg", "output_unwritable", "no such folder: nowhere"),
    ("a.jpg -o a.jpg", "output_is_source", "a.jpg is read"),
    ("a.jpg -o a.jpg --force", "output_is_source", "a.jpg is read"),
    ("a.jpg -o l.png --watermark ./l.png --force", "output_is_source", "l.png is read"),
    ("a.jpg -o there.png", "output_exists", "--force"),
    ("a.jpg -o pipe.png --force", "output_exists", "no file"),
]


@pytest.mark.parametrize(("words", "code", "named"), WRONG, ids=[words for words, *_ in WRONG])
def test_what_cannot_be_done_is_one_line_and_exit_2(
    words: str,
    code: str,
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.png").write_bytes(b"mine")
    os.mkfifo("pipe.png")
    before = sorted(tmp_path.iterdir())
    assert main(["image", *shlex.split(words)]) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert re.fullmatch(rf"telecine: error\[{code}\]: [^\n]+\n", said.err)
    assert named in said.err
    assert sorted(tmp_path.iterdir()) == before
    assert Path("there.png").read_bytes() == b"mine"


@pytest.mark.parametrize("text", ["{", '{"op": "flip"}', "[1]", b"\xff", "[" * 100_000])
def test_a_file_that_holds_no_operations_is_told_apart(text: Any, tmp_path: Path) -> None:
    file = tmp_path / "ops.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=r"ops\.json"):
        asked(f"in.jpg -o o.jpg --ops {file}")


def test_standard_output_takes_the_picture_or_json() -> None:
    with pytest.raises(UsageError, match="both write to standard output"):
        asked("a.jpg -o - --format png --json")
