"""`telecine image` as its user runs it: real pictures in, files out, looked at with Pillow."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.media.running import TELECINE, Done, telecine
from tests.processes import alive, tree
from tests.terminal import on_terminal
from tests.waiting import until

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 160, 0), (0, 0, 255), (255, 255, 255)
MAKER, GPS, GPS_LATITUDE = 0x010F, 0x8825, 2


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def corners(width: int = 400, height: int = 300) -> Image.Image:
    """Red, green / blue, white."""
    picture = Image.new("RGB", (width, height), WHITE)
    half = (width // 2, height // 2)
    for color, at in ((RED, (0, 0)), (GREEN, (half[0], 0)), (BLUE, (0, half[1]))):
        picture.paste(color, (*at, at[0] + half[0], at[1] + half[1]))
    return picture


def seen(path: Path | BytesIO) -> tuple[tuple[int, int], list[str]]:
    """The size, and the colours of the corners from the upper left, line by line."""
    with Image.open(path) as opened:
        size, rgb = opened.size, opened.convert("RGB")
    inside = [(x, y) for y in (9, size[1] - 10) for x in (9, size[0] - 10)]
    names = {RED: "red", GREEN: "green", BLUE: "blue", WHITE: "white"}

    def nearest(found: Any) -> str:
        near = min(names, key=lambda c: sum((a - b) ** 2 for a, b in zip(c, found, strict=True)))
        return names[near]

    return size, [nearest(rgb.getpixel(at)) for at in inside]


def run(words: str, cwd: Path) -> Done:
    return telecine("image", *shlex.split(words), cwd=cwd)


def made(words: str, cwd: Path) -> None:
    """Runs well, and says nothing."""
    done = run(words, cwd)
    assert (done.code, done.out, done.err) == (0, "", "")


# --- what is made -------------------------------------------------------------------------------


def test_operations_are_done_in_the_order_of_the_command_line(here: Path) -> None:
    corners().save("in.png")
    made("in.png -o turned-first.png --rotate 90 --resize 200x", here)
    turned = ["blue", "red", "white", "green"]
    assert seen(here / "turned-first.png") == ((200, 267), turned)
    made("in.png -o resized-first.webp --resize 200x --rotate 90", here)
    assert seen(here / "resized-first.webp") == ((150, 200), turned)


@pytest.mark.parametrize(
    ("words", "size", "shown"),
    [
        ("--flip", (400, 300), ["green", "red", "white", "blue"]),
        ("--op flip:axis=vertical", (400, 300), ["blue", "white", "red", "green"]),
        ("--crop 150x100+220+20", (150, 100), ["green"] * 4),
        ("--crop 200x100", (200, 100), ["red", "green", "blue", "white"]),
        ("--resize 100x100", (100, 75), ["red", "green", "blue", "white"]),
        ("--thumbnail 64x64", (64, 64), None),
        ("--op resize:w=90,h=90,fit=fill", (90, 90), ["red", "green", "blue", "white"]),
        ("--ops ops.json", (300, 400), ["white", "green", "blue", "red"]),
    ],
)
def test_each_form_makes_what_it_says(
    words: str, size: tuple[int, int], shown: list[str] | None, here: Path
) -> None:
    corners().save("in.png")
    ops = [{"op": "rotate", "angle": 90}, {"op": "flip", "axis": "vertical"}]
    Path("ops.json").write_text(json.dumps(ops))
    made(f"in.png -o out.png {words}", here)
    found = seen(here / "out.png")
    assert found[0] == size
    assert shown is None or found[1] == shown


@pytest.mark.parametrize(
    ("name", "format"),
    [("o.jpg", "JPEG"), ("o.png", "PNG"), ("o.WEBP", "WEBP"), ("o.avif", "AVIF"), ("o.gif", "GIF"),
     ("o.tiff", "TIFF")],
)  # fmt: skip
def test_the_name_says_the_format(name: str, format: str, here: Path) -> None:
    corners().save("in.png")
    made(f"in.png -o {name}", here)
    with Image.open(name) as opened:
        assert opened.format == format
    assert seen(here / name) == ((400, 300), ["red", "green", "blue", "white"])


def test_a_picture_is_turned_upright_first(here: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    corners().save("in.jpg", exif=exif)
    made("in.jpg -o out.jpg --crop 80x80+0+0", here)
    size, (upper_left, *_) = seen(here / "out.jpg")
    assert (size, upper_left) == ((80, 80), "blue")


def test_watermarks_lie_at_the_lower_right(here: Path) -> None:
    Image.new("RGB", (400, 300), BLUE).save("in.png")
    Image.new("RGB", (50, 50), RED).save("logo.png")
    Image.new("RGB", (50, 50), GREEN).save("other.png")
    words = "--op watermark:image=mine,position=top-left --ref mine=other.png"
    made(f"in.png -o out.png --watermark logo.png {words}", here)
    assert seen(here / "out.png")[1] == ["green", "blue", "blue", "red"]


def test_a_text_is_written_on_it(here: Path) -> None:
    Image.new("RGB", (400, 300), BLUE).save("in.png")
    made("in.png -o out.png --watermark-text '© me; 100 %, or'", here)
    with Image.open("out.png") as opened:
        light = opened.convert("L").point(lambda value: 255 if value > 128 else 0).getbbox()
    assert light is not None
    assert light[0] > 200  # all of it at the lower right
    assert light[1] > 200


def test_a_drawing_is_taken_where_it_is_asked_for(here: Path) -> None:
    drawn = '<rect width="9" height="9" fill="#ff0000"/><rect x="9" width="9" height="9"/>'
    size = 'width="18" height="9"'
    Path("in.svg").write_text(f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{drawn}</svg>')
    made("in.svg -o out.png --svg --op resize:w=180,enlarge=1", here)
    with Image.open("out.png") as opened:
        rgb = opened.convert("RGB")
    assert (rgb.size, rgb.getpixel((40, 40)), rgb.getpixel((140, 40))) == (
        (180, 90),
        RED,
        (0, 0, 0),
    )


def test_a_file_is_as_small_as_it_was_asked_to_be(here: Path) -> None:
    Image.effect_noise((640, 480), 60).convert("RGB").save("in.png")
    made("in.png -o large.jpg --quality 90", here)
    made("in.png -o small.jpg --max-bytes 20k", here)
    assert Path("small.jpg").stat().st_size <= 20_000 < Path("large.jpg").stat().st_size


def test_metadata_goes_unless_it_is_kept(here: Path) -> None:
    exif = Image.Exif()
    exif[MAKER] = "A maker"
    exif.get_ifd(GPS)[GPS_LATITUDE] = (48.0, 51.0, 30.0)
    corners().save("in.jpg", exif=exif)
    made("in.jpg -o none.jpg", here)
    made("in.jpg -o some.jpg --keep exif", here)
    made("in.jpg -o all.jpg --keep exif+gps", here)
    found = {}
    for name in ("none", "some", "all"):
        with Image.open(f"{name}.jpg") as opened:
            tags = opened.getexif()
            found[name] = (tags.get(MAKER), bool(tags.get_ifd(GPS)))
    assert found == {"none": (None, False), "some": ("A maker", False), "all": ("A maker", True)}


def test_an_animation_keeps_its_frames_or_is_refused(here: Path) -> None:
    frames = [Image.new("RGB", (60, 40), color) for color in (RED, GREEN, BLUE)]
    frames[0].save("in.gif", save_all=True, append_images=frames[1:], duration=[100, 200, 300])
    made("in.gif -o out.webp --resize 30x", here)
    with Image.open("out.webp") as opened:
        assert (opened.size, getattr(opened, "n_frames", 1)) == ((30, 20), 3)
    done = run("in.gif -o out.jpg", here)
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert done.err.startswith("telecine: error[animation_lost]: ")
    assert not Path("out.jpg").exists()
    made("in.gif -o out.jpg --first-frame", here)
    assert seen(here / "out.jpg") == ((60, 40), ["red"] * 4)


# --- where it goes ------------------------------------------------------------------------------


def test_several_pictures_go_into_a_folder_and_a_broken_one_stops_no_other(here: Path) -> None:
    corners().save("a.png")
    Path("broken.png").write_text("no picture")
    corners().save("b.jpg")
    done = run("a.png broken.png nowhere.png b.jpg -o new/folder/ --resize 40x --format webp", here)
    assert done.code == 3
    assert re.fullmatch(
        r"telecine: error\[not_an_image\]: broken\.png: [^\n]+\n"
        r"telecine: error\[source_missing\]: nowhere\.png: [^\n]+\n",
        done.err,
    )
    assert sorted(path.name for path in Path("new/folder").iterdir()) == ["a.webp", "b.webp"]
    assert seen(here / "new/folder/b.webp")[0] == (40, 30)


def test_a_picture_goes_to_standard_output(here: Path) -> None:
    corners().save("in.png")
    argv = [TELECINE, "image", "in.png", "-o", "-", "--format", "png", "--flip"]
    done = subprocess.run(argv, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert seen(BytesIO(done.stdout)) == ((400, 300), ["green", "red", "white", "blue"])


def test_a_terminal_gets_no_picture_but_one_line_of_what_was_made(here: Path) -> None:
    corners().save("in.png")
    code, said = on_terminal([TELECINE, "image", "in.png", "-o", "-", "--format", "png"])
    assert code == 2
    assert re.fullmatch(r"telecine: error\[usage\]: .*terminal.*\r\n", said)
    code, said = on_terminal([TELECINE, *["image", "in.png", "-o", "out.webp", "--resize", "200x"]])
    size = Path("out.webp").stat().st_size
    assert (code, said) == (0, f"telecine: out.webp: webp, 200 × 150, {size / 1000:,.1f} kB\r\n")


def test_a_file_that_is_there_stays_without_force(here: Path) -> None:
    corners().save("in.png")
    Path("out.png").write_bytes(b"mine")
    done = run("in.png -o out.png", here)
    assert (done.code, Path("out.png").read_bytes()) == (2, b"mine")
    assert done.err.startswith("telecine: error[output_exists]: ")
    made("in.png -o out.png --force", here)
    assert seen(here / "out.png")[0] == (400, 300)


def test_what_the_disk_does_not_take_leaves_nothing(here: Path) -> None:
    """A file-size limit stands for a full disk. The old file stays as it was, whole."""
    Image.effect_noise((900, 900), 60).save("in.png")
    Path("out.png").write_bytes(b"mine")
    limited = f"ulimit -f 100; exec {shlex.quote(TELECINE)} image in.png -o out.png --force"
    done = subprocess.run(["sh", "-c", limited], capture_output=True, text=True, timeout=60)
    assert done.returncode == 4
    assert done.stderr.startswith("telecine: error[system_error]: ")
    assert sorted(path.name for path in here.iterdir()) == ["in.png", "out.png"]
    assert Path("out.png").read_bytes() == b"mine"


def test_interrupted_it_leaves_nothing(here: Path) -> None:
    Image.effect_noise((6000, 6000), 60).save("in.png", compress_level=1)
    words = ["image", "in.png", "-o", "out.avif", "--op", "blur:sigma=200", "--json"]
    with subprocess.Popen(
        [TELECINE, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        until(lambda: tree(process.pid)[1:], 30)
        time.sleep(1)  # by then it works
        children = tree(process.pid)[1:]
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said == "telecine: error[interrupted]: interrupted\n"
    assert children
    until(lambda: not any(map(alive, children)), 5)
    assert [path.name for path in here.iterdir()] == ["in.png"]


# --- what is said -------------------------------------------------------------------------------


def test_json_says_what_was_made(here: Path) -> None:
    corners().save("in.png")
    done = run("in.png -o out.jpg --quality 70 --resize 100x --json", here)
    assert (done.code, done.err, done.out.count("\n")) == (0, "", 1)
    told = json.loads(done.out)
    report = told.pop("report")
    assert told == {
        "source": "in.png",
        "file": "out.jpg",
        "format": "jpeg",
        "content_type": "image/jpeg",
        "width": 100,
        "height": 75,
        "frames": 1,
        "size_bytes": Path("out.jpg").stat().st_size,
        "warnings": [],
    }
    assert report["quality"] == 70


def test_json_says_what_failed(here: Path) -> None:
    corners().save("a.png")
    Path("b.png").write_text("no picture")
    done = run("a.png b.png -o out/ --format jpg --json", here)
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == 3
    assert [line["source"] for line in lines] == ["a.png", "b.png"]
    assert (lines[1]["event"], lines[1]["code"]) == ("failed", "not_an_image")


def test_info_says_what_it_is(here: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    exif[MAKER] = "A maker"
    exif.get_ifd(GPS)[GPS_LATITUDE] = (48.0, 51.0, 30.0)
    corners().save("in.jpg", exif=exif)
    done = run("in.jpg --info", here)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith("jpeg, 300 × 400, ")  # upright
    assert "EXIF orientation 8: the size is that of the upright picture" in lines
    assert "it says where it was taken (GPS)" in lines
    assert "Make: A maker" in lines
    assert any(line.startswith("ThumbHash: ") for line in lines)
    told = json.loads(run("in.jpg --info --json", here).out)
    found = (told["format"], told["width"], told["height"], told["frames"], told["gps"])
    assert found == ("jpeg", 300, 400, 1, True)
    assert told["exif"]["Make"] == "A maker"
    assert [path.name for path in here.iterdir()] == ["in.jpg"]


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        ("text.png -o out.png", "not_an_image", 3),
        ("empty.png -o out.png", "empty_file", 3),
        ("nowhere.png -o out.png", "source_missing", 3),
        ("half.png -o out.png --crop 500x10+0+0", "crop_outside", 2),
        ("in.png -o out.png --quality 50", "option_not_of_format", 2),
        ("in.png -o out.png --op watermark:image=logo", "watermark_missing", 2),
        ("in.png -o out.png --watermark text.png", "not_an_image", 3),
        ("in.svg -o out.png", "svg_refused", 3),
        ("in.png --ffmpeg nowhere -o out.png", "ffmpeg_missing", 4),
        ("noise.png -o out.jpg --max-bytes 1k", "max_bytes_unreachable", 3),
    ],
)
def test_a_refusal_is_one_line_with_its_cause(
    words: str, code: str, exit_code: int, here: Path
) -> None:
    corners().save("in.png")
    corners(40, 30).save("half.png")
    Image.effect_noise((2000, 2000), 90).save("noise.png")
    Path("text.png").write_text("no picture")
    Path("empty.png").touch()
    Path("in.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    before = sorted(here.iterdir())
    done = run(words, here)
    assert (done.code, done.out) == (exit_code, "")
    assert re.fullmatch(rf"telecine: error\[{code}\]: [^\n]+\n", done.err)
    assert sorted(here.iterdir()) == before
