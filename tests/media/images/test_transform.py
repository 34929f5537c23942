"""`engine.images.transform` and `decoding` from end to end: what FFmpeg decodes for libvips, beside
other programs' pictures of the same file; sizes; and workers that lie.

Operations, formats and colours have tests of their own (test_pixels, test_image_corpus)."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image, ImageDraw

from telecine.engine.errors import InputRefused, Interrupted, MediaError, StepFailed, UsageError
from telecine.engine.images.decoding import DEMUXERS, choose, decode, pngs
from telecine.engine.images.grammar import parse_text
from telecine.engine.images.pool import ImageWorkers
from telecine.engine.images.transform import inspect, transform
from telecine.engine.images.values import ImageLimits, Made, Wanted
from telecine.engine.process import Cancel
from telecine.engine.tools import Tools

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


@pytest.fixture(scope="module")
def workers(tools: Tools) -> Iterator[ImageWorkers]:
    with ImageWorkers(tools, count=1, limits=ImageLimits()) as workers:
        yield workers


def limited(workers: ImageWorkers, **limits: Any) -> ImageWorkers:
    """Workers of their own, with other limits."""
    return ImageWorkers(workers.tools, count=1, limits=replace(ImageLimits(), **limits))


def make(
    workers: ImageWorkers, source: Path, operations: str = "", format: str = "png", **more: Any
) -> Made:
    return transform(workers, source, Wanted(parse_text(operations), format), **more)


def pixels(data: bytes, mode: str = "RGB") -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(data)).convert(mode), dtype=np.int16)


def run(*argv: str | Path) -> None:
    done = subprocess.run([*map(str, argv)], capture_output=True)
    assert done.returncode == 0, done.stderr


def picture(path: Path, *, size: tuple[int, int] = (90, 60), mode: str = "RGB") -> Path:
    """A colour in each corner, and a bar, so that every turn and mirroring shows; with `mode` RGBA
    the right half is clear to a quarter."""
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    width, height = size
    for x, y, color in ((0, 0, "red"), (1, 0, "lime"), (0, 1, "blue"), (1, 1, "black")):
        left, top = x * width * 2 // 3, y * height * 2 // 3
        draw.rectangle((left, top, left + width // 3, top + height // 3), fill=color)
    draw.rectangle((width // 2, 0, width // 2 + 5, height // 2), fill="orange")
    if mode == "RGBA":
        alpha = Image.new("L", size, 255)
        alpha.paste(64, (width // 2, 0, width, height))
        image.putalpha(alpha)
    image.save(path)
    return path


# ---- what FFmpeg decodes for libvips -------------------------------------------------------------


@pytest.mark.parametrize("ending", ["bmp", "ico", "apng", "jp2"])
def test_what_pillow_writes_is_read_to_the_pixel(
    workers: ImageWorkers, tmp_path: Path, ending: str
) -> None:
    mode = "RGB" if ending == "bmp" else "RGBA"
    original = Image.open(picture(tmp_path / "in.png", size=(90, 60), mode=mode))
    source = tmp_path / "in.file"  # the name says nothing
    more: dict[str, Any] = {"irreversible": False} if ending == "jp2" else {}
    if ending == "ico":
        more = {"sizes": [(45, 30), (90, 60)], "bitmap_format": "bmp"}
    if ending == "apng":
        more = {"save_all": True, "append_images": [original.rotate(180)], "duration": 50}
    format = {"jp2": "JPEG2000", "apng": "PNG"}.get(ending, ending.upper())
    original.save(source, format=format, **more)
    made = make(workers, source, "convert:frames=first" if ending == "apng" else "")
    assert np.array_equal(pixels(made.data, mode), np.asarray(original.convert(mode)))
    assert made.warnings == ()
    info = inspect(workers, source)
    assert (info.width, info.height, info.alpha) == (90, 60, mode == "RGBA")


@pytest.mark.needs("cjxl")
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "I;16"])
def test_a_jpeg_xl_without_loss_is_read_to_the_pixel(
    workers: ImageWorkers, tmp_path: Path, mode: str
) -> None:
    if mode == "I;16":
        gray = np.arange(60 * 90, dtype=np.uint16).reshape(60, 90) * 12
        Image.fromarray(gray).save(tmp_path / "in.png")
    else:
        picture(tmp_path / "in.png", mode=mode)
    run("cjxl", "-d", "0", tmp_path / "in.png", tmp_path / "in.jxl")
    made = make(workers, tmp_path / "in.jxl", "convert:depth=16" if mode == "I;16" else "")
    if mode == "I;16":
        (got,) = _sixteen(made.data, tmp_path)
        assert np.array_equal(got, gray)
    else:
        want = np.asarray(Image.open(tmp_path / "in.png"))
        assert np.array_equal(pixels(made.data, mode), want)


def _sixteen(data: bytes, folder: Path) -> list[np.ndarray[Any, Any]]:
    """The first channel's 16 bits, by FFmpeg: Pillow reads eight of them."""
    (folder / "out.png").write_bytes(data)
    argv = [FFMPEG, "-v", "error", "-i", folder / "out.png", "-f", "rawvideo"]
    argv += ["-pix_fmt", "rgb48le", "-"]
    raw = subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout
    width, height = Image.open(io.BytesIO(data)).size
    return [np.frombuffer(raw, np.uint16).reshape(height, width, 3)[:, :, 0]]


@pytest.mark.needs("heif-enc")
@pytest.mark.needs("heif-convert")
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_heic_is_the_picture_that_libheif_makes(
    workers: ImageWorkers, tmp_path: Path, mode: str
) -> None:
    picture(tmp_path / "in.png", size=(256, 192), mode=mode)
    run("heif-enc", "-q", "90", "-o", tmp_path / "in.heic", tmp_path / "in.png")
    run("heif-convert", tmp_path / "in.heic", tmp_path / "reference.png")
    made = make(workers, tmp_path / "in.heic")
    want = np.asarray(Image.open(tmp_path / "reference.png").convert(mode), dtype=np.int16)
    got = pixels(made.data, mode)
    assert got.shape == want.shape
    assert np.abs(got - want).mean() < 2  # the chroma is enlarged by another filter
    if mode == "RGBA":
        assert np.array_equal(got[:, :, 3], want[:, :, 3])


@pytest.fixture(scope="module")
def heic(corpus: Path) -> Path:
    return corpus / "image/immich/IMG_2682.heic"


@pytest.fixture(scope="module")
def telephone(heic: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray[Any, Any]:
    """What libheif makes of a telephone's picture, an eighth as large."""
    reference = tmp_path_factory.mktemp("telephone") / "reference.jpg"
    run("heif-convert", "-q", "95", heic, reference)
    image = Image.open(reference).resize((504, 378), Image.Resampling.LANCZOS)
    return np.asarray(image, dtype=np.int16)


@pytest.mark.needs("heif-convert")
def test_a_telephones_picture_is_all_its_tiles(
    workers: ImageWorkers, heic: Path, telephone: np.ndarray[Any, Any]
) -> None:
    made = make(workers, heic, "resize:w=504;convert:keep=icc")
    assert (made.width, made.height) == (504, 378)
    assert np.abs(pixels(made.data) - telephone).mean() < 2
    # Its colour profile is in the header, which libvips reads.
    assert Image.open(io.BytesIO(made.data)).info["icc_profile"]
    info = inspect(workers, heic)
    assert (info.width, info.height, info.icc) == (4032, 3024, "Display P3")
    assert info.exif["Model"] == "iPhone 7"


@pytest.mark.needs("heif-convert")
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_heic_that_says_how_it_is_turned_is_upright(
    workers: ImageWorkers,
    heic: Path,
    telephone: np.ndarray[Any, Any],
    tmp_path: Path,
    quarters: int,
) -> None:
    """ISO/IEC 23008-12, 6.5.10: `irot`, whose angle counts quarter turns against the clock, as
    numpy's does. In the file it is 0."""
    data = bytearray(heic.read_bytes())
    data[data.index(b"irot") + 4] = quarters
    source = tmp_path / "in.heic"
    source.write_bytes(data)
    want = np.rot90(telephone, quarters)
    height, width = want.shape[:2]
    made = make(workers, source, f"resize:w={width},h={height};convert:keep=icc")
    assert (made.width, made.height) == (width, height)
    assert np.abs(pixels(made.data) - want).mean() < 2


@pytest.mark.needs("djxl")
@pytest.mark.needs("opj_decompress")
@pytest.mark.parametrize("name", ["image/immich/8bit-sRGB.jxl", "image/sharp/relax.jp2"])
def test_real_files_are_what_their_own_decoders_make(
    workers: ImageWorkers, corpus: Path, tmp_path: Path, name: str
) -> None:
    source = corpus / name
    reference = tmp_path / "reference.png"
    if name.endswith("jxl"):
        run("djxl", source, reference)
    else:
        (tmp_path / "in.j2k").write_bytes(source.read_bytes())
        codestream = source.read_bytes().startswith(b"\xff\x4f")
        given = tmp_path / "in.j2k" if codestream else source
        run("opj_decompress", "-i", given, "-o", reference)
    want = np.asarray(Image.open(reference).convert("RGB"), dtype=np.int16)
    difference = np.abs(pixels(make(workers, source).data) - want)
    assert difference.max() <= 2
    assert difference.mean() < 0.5


@pytest.mark.needs("convert")
@pytest.mark.parametrize("name", ["image/filetype/fixture.psd", "image/vips/favicon.ico"])
def test_real_files_are_what_imagemagick_makes(
    workers: ImageWorkers, corpus: Path, tmp_path: Path, name: str
) -> None:
    source = corpus / name
    part = "[0]" if name.endswith("psd") else "[2]"  # all layers; the largest icon
    reference = tmp_path / "reference.png"
    run("convert", f"{source}{part}", "-background", "white", "-flatten", reference)
    want = np.asarray(Image.open(reference).convert("RGB"), dtype=np.int16)
    got = pixels(make(workers, source, "background:color=ffffff").data)
    assert got.shape == want.shape
    assert np.abs(got - want).mean() < 1


def test_an_apng_keeps_frames_times_and_how_often(workers: ImageWorkers, tmp_path: Path) -> None:
    colors = ["red", "lime", "blue", "white"]
    frames = [Image.new("RGB", (40, 30), color) for color in colors]
    delays = [50, 120, 40, 1000]
    source = tmp_path / "in.apng"
    more: dict[str, Any] = {"append_images": frames[1:], "duration": delays, "loop": 3}
    frames[0].save(source, format="PNG", save_all=True, **more)
    made = make(workers, source, "resize:w=20", "webp")
    moving = Image.open(io.BytesIO(made.data))
    got = []
    for number in range(moving.n_frames):  # type: ignore[attr-defined]
        moving.seek(number)
        moving.load()
        got.append((np.asarray(moving.convert("RGB"), np.int16)[9, 9], moving.info["duration"]))
    assert [duration for _, duration in got] == delays
    for (color, _), frame in zip(got, frames, strict=True):
        assert np.abs(color - np.asarray(frame)[0, 0]).max() < 12
    assert moving.info["loop"] == 3
    assert made.frames == 4
    info = inspect(workers, source)
    assert (info.frames, info.duration_s) == (4, 1.21)


def test_a_sequence_is_its_track_with_its_times(workers: ImageWorkers, tmp_path: Path) -> None:
    source = tmp_path / "in.avif"
    argv = [FFMPEG, "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=64x48:r=10:d=0.7"]
    run(*argv, "-pix_fmt", "yuv420p", "-c:v", "libsvtav1", "-f", "avif", source)
    assert source.read_bytes()[8:12] == b"avis"
    made = make(workers, source, "", "gif")
    moving = Image.open(io.BytesIO(made.data))
    assert (moving.n_frames, moving.size) == (7, (64, 48))  # type: ignore[attr-defined]
    moving.seek(3)
    moving.load()
    assert moving.info["duration"] == 100


def test_an_animation_into_a_still_needs_to_be_asked_for(
    workers: ImageWorkers, tmp_path: Path
) -> None:
    source = tmp_path / "in.apng"
    frames = [Image.new("RGB", (40, 30), color) for color in ("red", "lime")]
    frames[0].save(source, format="PNG", save_all=True, append_images=frames[1:], duration=100)
    with pytest.raises(InputRefused) as caught:
        make(workers, source, "resize:w=20", "jpeg")
    assert caught.value.code == "animation_lost"
    made = make(workers, source, "resize:w=20;convert:frames=first", "jpeg")
    assert made.frames == 1
    assert np.abs(pixels(made.data) - [255, 0, 0]).max() < 12


@pytest.mark.parametrize("ending", ["jp2", "bmp"])
def test_what_is_cut_off_is_shown_with_a_warning_or_refused(
    workers: ImageWorkers, tmp_path: Path, ending: str
) -> None:
    noise = np.random.default_rng(4).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    whole = io.BytesIO()
    Image.fromarray(noise).save(whole, format={"jp2": "JPEG2000"}.get(ending, ending.upper()))
    source = tmp_path / "in.bin"
    source.write_bytes(whole.getvalue()[: len(whole.getvalue()) * 3 // 4])
    try:
        made = make(workers, source)
    except InputRefused as error:
        assert error.code == "image_damaged"  # noqa: PT017  # one of two is right, never silence
    else:
        assert (made.width, made.height) == (300, 200)
        assert re.search("cut off|damaged", made.warnings[0])
    source.write_bytes(whole.getvalue()[:200])
    with pytest.raises(InputRefused) as caught:
        make(workers, source)
    assert caught.value.code == "image_damaged"


def test_every_format_that_libvips_lacks_has_its_demuxer() -> None:
    from telecine.engine.images.formats import FORMATS

    lacking = {name for name, format in FORMATS.items() if format.reader == "ffmpeg"}
    assert lacking == set(DEMUXERS)
    said = subprocess.run([FFMPEG, "-v", "quiet", "-demuxers"], stdout=subprocess.PIPE, check=True)
    known = set(re.findall(r"^ D.. +(\S+)", said.stdout.decode(), re.M))
    used = {name for names in DEMUXERS.values() for name in names}
    assert used <= known
    assert not used & {"image2", "image2pipe", "lavfi", "concat", "hls", "dash"}


def test_decoding_stops_when_its_switch_is_set(tools: Tools, tmp_path: Path) -> None:
    source = tmp_path / "in.bmp"
    Image.new("RGB", (3000, 3000)).save(source)
    cancel = Cancel()
    cancel.set()
    with pytest.raises(Interrupted):
        decode(source, "bmp", tools, ImageLimits(), cancel=cancel)


GRID = """
  Stream group #0:0[0x31]: Tile Grid: hevc (Main Still Picture) (hvc1 / 0x3), yuvj420p(pc), 4032x3024 (default)
  Stream group #0:1[0x32]: Tile Grid: hevc (Rext) (hvc1 / 0x3), gray(pc), 4032x3024
  Stream #0:48[0x32]: Video: hevc (Main Still Picture) (hvc1 / 0x31637668), yuvj420p(pc), 320x240, 1 fps, 1 tbr, 1 tbn
"""  # noqa: E501  # as FFmpeg 9 writes it
TRACK = """
  Stream #0:0[0x1]: Video: av1 (libdav1d) (Main) (av01 / 0x31307661), yuv420p(tv), 800x450, 1 fps, 1 tbr, 1 tbn (default)
  Stream #0:1[0x1](und): Video: av1 (libdav1d) (Main) (av01 / 0x3), yuv420p(tv, progressive), 800x450 [SAR 1:1 DAR 16:9], 293 kb/s, 25 fps, 25 tbr, 12800 tbn (default)
"""  # noqa: E501
STILL = """
  Stream #0:0[0x1]: Video: hevc (Main Still Picture) (hvc1 / 0x3), yuvj420p(pc), 320x240, 1 fps, 1 tbr, 1 tbn
  Stream #0:1[0x2]: Video: hevc (Main Still Picture) (hvc1 / 0x3), yuvj420p(pc, smpte170m/unknown/unknown), 1280x960, 1 fps, 1 tbr, 1 tbn (default)
  Stream #0:2[0x3]: Video: hevc (Rext) (hvc1 / 0x31637668), gray(pc), 1280x960, 1 fps, 1 tbr, 1 tbn
  Stream #0:3[0x4]: Video: hevc (Rext) (hvc1 / 0x31637668), gray(pc), 640x480, 1 fps, 1 tbr, 1 tbn
"""  # noqa: E501


@pytest.mark.parametrize(
    ("said", "format", "has_alpha", "names"),
    [
        (GRID, "heic", False, ("0:g:0", None)),
        (GRID, "heic", True, ("0:g:0", "0:g:1")),
        (TRACK, "avif-sequence", False, ("0:1", None)),
        (STILL, "heic", False, ("0:1", None)),  # a gain map is no transparency
        (STILL, "heic", True, ("0:1", "0:2")),
        (STILL.replace(" (default)", ""), "heic", False, ("0:1", None)),
    ],
)
def test_the_picture_of_a_heif_file_is_the_primary_one(
    said: str, format: str, has_alpha: bool, names: tuple[str, str | None]
) -> None:
    chosen = choose(said.splitlines(), format, has_alpha=has_alpha)
    assert (chosen.picture, chosen.alpha) == names


def test_a_heif_file_without_a_picture_is_refused() -> None:
    with pytest.raises(InputRefused, match="no picture"):
        choose(["  Duration: N/A"], "heic", has_alpha=False)


def test_pngs_in_a_row_are_told_apart(tmp_path: Path) -> None:
    one, two = (
        picture(tmp_path / "a.png").read_bytes(),
        picture(tmp_path / "b.png", size=(30, 30)),
    )
    data = one + two.read_bytes() + one[:-5]
    assert [bytes(each) for each in pngs(data)] == [one, two.read_bytes()]
    assert pngs(b"") == []


# ---- sizes, limits and what is no picture --------------------------------------------------------


def test_what_is_no_picture_is_said(workers: ImageWorkers, tmp_path: Path) -> None:
    text, empty, drawing = (tmp_path / name for name in ("a.jpg", "b.jpg", "c.png"))
    text.write_text("no picture")
    empty.write_bytes(b"")
    drawing.write_text("<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>")
    for path, code in (
        (text, "not_an_image"),
        (empty, "empty_file"),
        (drawing, "svg_refused"),
        (tmp_path, "source_missing"),
        (tmp_path / "none", "source_missing"),
        (Path("/dev/zero"), "source_missing"),
    ):
        with pytest.raises(InputRefused) as caught:
            inspect(workers, path)
        assert caught.value.code == code


def test_a_named_pipe_is_not_waited_for(workers: ImageWorkers, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # nobody will ever write to it
    with pytest.raises(InputRefused, match="not a file"):
        make(workers, tmp_path / "pipe")


def test_a_file_is_read_up_to_a_limit(workers: ImageWorkers, tmp_path: Path) -> None:
    source = picture(tmp_path / "in.png")
    size = source.stat().st_size
    with limited(workers, source_bytes=size) as enough:
        assert make(enough, source).width == 90
    with limited(workers, source_bytes=size - 1) as few, pytest.raises(InputRefused) as caught:
        make(few, source)
    assert caught.value.code == "too_many_bytes"


@pytest.mark.parametrize("ending", ["png", "bmp", "jp2", "apng"])
def test_pixels_are_counted_before_they_are_decoded(
    workers: ImageWorkers, tmp_path: Path, ending: str
) -> None:
    source = tmp_path / "in.bin"
    format = {"jp2": "JPEG2000", "apng": "PNG"}.get(ending, ending.upper())
    more: dict[str, Any] = {}
    if ending == "apng":  # two frames: of each half
        more = {"save_all": True, "append_images": [Image.new("RGB", (50, 40), "red")]}
    Image.new("RGB", (50, 40)).save(source, format=format, **more)
    count = 50 * 40 * (2 if ending == "apng" else 1)
    with limited(workers, pixels=count) as enough:
        assert make(enough, source, "", "webp").width == 50
    with limited(workers, pixels=count - 1) as few, pytest.raises(InputRefused) as caught:
        make(few, source, "", "webp")
    assert caught.value.code == "too_many_pixels"


def test_frames_are_counted(workers: ImageWorkers, tmp_path: Path) -> None:
    colors = ("red", "lime", "blue")
    frames = [Image.new("RGB", (40, 30), color) for color in colors]
    for name, format in (("in.gif", "GIF"), ("in.apng", "PNG")):
        source = tmp_path / name
        frames[0].save(source, format=format, save_all=True, append_images=frames[1:])
        with limited(workers, frames=3) as enough:
            assert make(enough, source, "", "webp").frames == 3
        with limited(workers, frames=2) as few:
            with pytest.raises(InputRefused) as caught:
                make(few, source, "", "webp")
            assert caught.value.code == "too_many_frames"
            assert make(few, source, "convert:frames=first", "webp").frames == 1


@pytest.mark.parametrize(
    ("operations", "code"),
    [
        ("resize:w=16000,h=16000,fit=fill", "result_too_large"),
        ("crop:w=91,h=10", "crop_outside"),
        ("watermark:image=logo", "watermark_missing"),
        ("convert:lossless=1", "option_not_of_format"),
    ],
)
def test_what_cannot_be_made_is_refused(
    workers: ImageWorkers, tmp_path: Path, operations: str, code: str
) -> None:
    with pytest.raises(UsageError) as caught:
        make(workers, picture(tmp_path / "in.png"), operations, "jpeg")
    assert caught.value.code == code


def test_a_watermark_may_be_of_any_kind(workers: ImageWorkers, tmp_path: Path) -> None:
    mark = tmp_path / "mark.bmp"
    Image.new("RGB", (10, 10), "red").save(mark)
    source = tmp_path / "in.png"
    Image.new("RGB", (100, 100), "white").save(source)
    operations = "watermark:image=logo,scale=0.5,position=top-left"
    made = make(workers, source, operations, refs={"logo": mark})
    got = pixels(made.data)
    assert got[25, 25].tolist() == [255, 0, 0]
    assert got[75, 75].tolist() == [255, 255, 255]


# ---- workers that lie ----------------------------------------------------------------------------

LIAR = """
import json, os, sys
from telecine.engine.images.wire import Answer, Incoming, decode_request, encode_answer
change = json.loads(sys.argv[1])
while True:
    incoming = Incoming(1 << 26)
    while not incoming.done:
        count = os.readv(3, [incoming.room()])
        if not count: sys.exit()
        incoming.took(count)
    request, blobs = decode_request(incoming.message())
    facts = {"width": 45, "height": 30, "frames": 1,
             "report": {"source": {"format": "png", "width": 90, "height": 60, "frames": 1}}}
    data = blobs[0] if change.pop("data", True) else b"<script>"
    for piece in encode_answer(Answer(facts | change, (), data)):
        left = memoryview(piece)
        while left: left = left[os.write(4, left):]
"""


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("{}", None),
        ('{"width": 46}', "image_size_wrong"),
        ('{"frames": 2}', "image_size_wrong"),
        ('{"width": "45"}', "image_failed"),
        ('{"height": true}', "image_failed"),
        ('{"report": []}', "image_failed"),
        ('{"report": {"source": {"width": 90, "height": 60}}}', "image_failed"),
        ('{"data": false}', "image_failed"),
    ],
)
def test_an_answer_is_held_against_what_was_asked(
    tools: Tools, tmp_path: Path, change: str, code: str | None
) -> None:
    source = picture(tmp_path / "in.png")
    argv = (sys.executable, "-I", "-c", LIAR, change)
    with ImageWorkers(tools, count=1, limits=ImageLimits(), argv=argv) as workers:
        if code is None:
            assert make(workers, source, "resize:w=45").width == 45
            return
        with pytest.raises(StepFailed) as caught:
            make(workers, source, "resize:w=45")
        assert caught.value.code == code
        assert not caught.value.retryable
        with pytest.raises(StepFailed, match="answer is none"):
            inspect(workers, source)


# ---- for long ------------------------------------------------------------------------------------


def resident_bytes(pid: int) -> int:
    """Of a worker: of the innermost process, where bubblewrap stands round it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    if children:
        return resident_bytes(int(children[0]))
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.thorough
def test_memory_is_flat_over_five_hundred_pictures(tools: Tools, tmp_path: Path) -> None:
    waves = np.add.outer(np.arange(450), np.arange(600)) % 251
    original = Image.fromarray(waves.astype(np.uint8)).convert("RGB")
    sources = [tmp_path / name for name in ("in.jpg", "in.png", "in.webp", "half.jpg")]
    for source in sources:
        original.save(source)
    half = sources[-1].read_bytes()
    sources[-1].write_bytes(half[: len(half) // 2])  # errors must not leak either
    acts: list[Callable[[ImageWorkers, Path], object]] = [
        lambda workers, source: make(workers, source, "resize:w=200", "webp"),
        lambda workers, source: make(workers, source, "rotate:angle=30;blur:sigma=2", "jpeg"),
        lambda workers, source: inspect(workers, source),
    ]
    with ImageWorkers(tools, count=1, limits=ImageLimits(), images_each=1000) as workers:
        at = []
        for turn in range(480):
            try:
                acts[turn % 3](workers, sources[turn % 4])
            except MediaError as error:
                assert error.code == "image_damaged"  # noqa: PT017
            at.append(resident_bytes(workers.pids[0]))
    # Of each of the twelve combinations the same share: what differs is what stays, and that is
    # less than 28 kB a picture, each of which has 810 kB. The heap itself may take a step of 4 MB.
    assert median(at[-60:]) < median(at[60:120]) + 10_000_000
    assert max(at) < 150_000_000
