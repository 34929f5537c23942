"""Pixels → files: what each format is given, quality, size, metadata.

Files are read back by Pillow and numpy; likeness is computed from the paper beside it.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from tests.media.images import likeness
from tests.media.images.making import (
    P3,
    Pixels,
    iccp,
    made,
    one_worker,
    opened,
    photo,
    pixels,
    png,
    profile,
    saved,
    scene,
)

from telecine.engine.errors import InputRefused, StepFailed
from telecine.engine.images.pool import ImageWorkers


def natural(width: int, height: int) -> Pixels:
    """Detail of every size, as photos have, from noise."""
    random = np.random.default_rng(width + height)
    total = np.zeros((height, width, 3))
    for cell in (2, 4, 8, 16, 32, 64):
        coarse = random.integers(0, 256, (height // cell + 2, width // cell + 2, 3))
        grown = Image.fromarray(coarse.astype(np.uint8)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        total += np.asarray(grown) * cell**0.7
    total -= total.min()
    scaled: Pixels = (total / total.max() * 255).astype(np.uint8)
    return scaled


# --- SSIM -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", ["blur", "noise", "jpeg", "brighter", "none"])
def test_ssim_is_that_of_the_paper(harm: str) -> None:
    grey = Image.fromarray(natural(120, 90)).convert("L")
    random = np.random.default_rng(5)
    array = np.asarray(grey).astype(float)
    changed = {
        "blur": np.asarray(grey.filter(ImageFilter.GaussianBlur(1.2))),
        "noise": (array + random.normal(0, 12, array.shape)).clip(0, 255),
        "jpeg": np.asarray(Image.open(io.BytesIO(saved(grey, "JPEG", quality=20)))),
        "brighter": (array + 20).clip(0, 255),
        "none": array,
    }[harm].astype(np.uint8)
    plain = np.asarray(grey)
    assert likeness.ours(plain, changed) == pytest.approx(
        likeness.by_the_paper(plain, changed), abs=1e-4
    )


# --- quality=auto ---------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["jpeg", "webp", "avif"])
def test_auto_is_the_smallest_file_that_is_alike(
    workers: ImageWorkers, tmp_path: Path, output: str
) -> None:
    source = natural(400, 300)
    result = made(workers, tmp_path, png(source), "convert:quality=auto", output)
    alike = likeness.by_the_paper(likeness.luma(source), likeness.luma(pixels(result)))
    assert alike >= 0.979
    assert result.report["ssim"] == pytest.approx(alike, abs=0.003)
    assert result.report["encodes"] <= 6
    quality = result.report["quality"]
    lower = made(workers, tmp_path, png(source), f"convert:quality={quality - 2}", output)
    assert len(lower.data) < len(result.data)
    assert likeness.by_the_paper(likeness.luma(source), likeness.luma(pixels(lower))) < 0.9805


@pytest.mark.thorough
def test_auto_of_a_large_picture_holds_for_all_of_it(workers: ImageWorkers, tmp_path: Path) -> None:
    """Nine parts decide; the whole is as much alike."""
    source = natural(2400, 1800)
    result = made(workers, tmp_path, png(source), "convert:quality=auto", "avif")
    alike = likeness.by_the_paper(
        likeness.luma(source)[::2, :900], likeness.luma(pixels(result))[::2, :900]
    )
    assert alike > 0.97
    assert result.report["ssim"] >= 0.98


# --- max_bytes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["jpeg", "webp", "avif"])
def test_a_file_is_made_as_small_as_was_asked(
    workers: ImageWorkers, tmp_path: Path, output: str
) -> None:
    source = png(natural(300, 200))
    free = made(workers, tmp_path, source, "", output)
    most = len(free.data) * 2 // 3
    result = made(workers, tmp_path, source, f"convert:max_bytes={most}", output)
    assert most // 2 < len(result.data) <= most
    roomy = made(workers, tmp_path, source, "convert:max_bytes=1000000", output)
    assert roomy.report["quality"] == free.report["quality"]


def test_what_cannot_be_made_so_small_is_refused(workers: ImageWorkers, tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="lowest quality") as refused:
        made(workers, tmp_path, png(natural(400, 300)), "convert:max_bytes=1000", "webp")
    assert refused.value.code == "max_bytes_unreachable"


# --- formats --------------------------------------------------------------------------------------


def test_jpeg_is_progressive_unless_it_must_not_be(workers: ImageWorkers, tmp_path: Path) -> None:
    source = png(photo(60, 40))
    assert opened(made(workers, tmp_path, source, "", "jpeg")).info.get("progressive")
    plain = made(workers, tmp_path, source, "convert:progressive=0", "jpeg")
    assert not opened(plain).info.get("progressive")


@pytest.mark.parametrize("output", ["png", "tiff", "webp", "avif"])
def test_formats_without_loss_lose_nothing(
    workers: ImageWorkers, tmp_path: Path, output: str
) -> None:
    source = scene(50, 40)
    operations = "convert:lossless=1" if output in ("webp", "avif") else ""
    result = made(workers, tmp_path, png(source), operations, output)
    worst = np.abs(pixels(result).astype(int) - source).max()
    assert worst <= (3 if output == "avif" else 0)  # AVIF's own Y'CbCr of 8 bits


def test_transparency_is_kept_or_becomes_white(workers: ImageWorkers, tmp_path: Path) -> None:
    rgba = np.dstack([photo(60, 40), np.full((40, 60), 255, np.uint8)])
    rgba[:, :30, 3] = 0
    for output in ("png", "webp", "avif", "tiff", "gif"):
        alpha = pixels(made(workers, tmp_path, png(rgba), "", output), "RGBA")[..., 3]
        assert alpha[:, :28].max() <= 2, output
        assert alpha[:, 32:].min() >= 253, output
    flat = pixels(made(workers, tmp_path, png(rgba), "", "jpeg"))
    assert flat[:, :14].min() >= 250  # the block beside the edge rings


def test_half_transparency_goes_over_white_by_its_share(
    workers: ImageWorkers, tmp_path: Path
) -> None:
    rgba = np.zeros((32, 32, 4), np.uint8)
    rgba[:] = (200, 40, 0, 128)
    flat = pixels(made(workers, tmp_path, png(rgba), "convert:quality=100", "jpeg"))
    share = 128 / 255
    wanted = np.array([200, 40, 0]) * share + 255 * (1 - share)
    assert np.abs(flat.astype(float) - wanted).max() <= 3


# --- metadata -------------------------------------------------------------------------------------

MAKE, ORIENTATION, GPS, EXIF_IFD = 0x010F, 0x0112, 0x8825, 0x8769
TAKEN, MAKER_NOTE, WIDTH = 0x9003, 0x927C, 0xA002
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
    b'syntax-ns#"><rdf:Description rdf:about="" xmlns:exif="http://ns.adobe.com/exif/1.0/" '
    b'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
    b'exif:GPSLatitude="52,31.2N" tiff:Orientation="6" dc:format="kept word">'
    b"<exif:GPSLongitude>13,24.6E</exif:GPSLongitude></rdf:Description></rdf:RDF></x:xmpmeta>"
)


def full_of_metadata(order: str = "<") -> bytes:
    """A JPEG with EXIF (with a place, a maker's note and a thumbnail), XMP and a profile."""
    exif = Image.Exif()
    exif.endian = order
    exif[MAKE] = "Camera of the test"
    exif[ORIENTATION] = 1
    exif.get_ifd(EXIF_IFD).update({
        TAKEN: "2024:05:06 07:08:09", MAKER_NOTE: b"secret place 52.5", WIDTH: 64,
    })  # fmt: skip
    exif.get_ifd(GPS).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 36.0)})
    image = Image.fromarray(photo(64, 48))
    return saved(image, "JPEG", exif=exif.tobytes(), xmp=XMP, icc_profile=profile(P3, 2.2))


@pytest.mark.parametrize("output", ["jpeg", "png", "webp", "avif", "tiff"])
def test_nothing_stays_unless_it_was_asked_for(
    workers: ImageWorkers, tmp_path: Path, output: str
) -> None:
    result = made(workers, tmp_path, full_of_metadata(), "resize:w=32", output)
    image = opened(result)
    tags = {tag for tag in image.getexif() if output != "tiff"}  # TIFF's own are no metadata
    assert not tags & {MAKE, GPS, EXIF_IFD}
    for word in (b"Camera of the test", b"secret", b"kept word", b"52,31", b"hand-made"):
        assert word not in result.data
    assert image.info.get("icc_profile") is None
    assert result.report["metadata_removed"] == ["icc", "exif", "gps", "xmp"]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("output", ["jpeg", "png", "webp", "avif"])
def test_exif_stays_without_the_place(
    workers: ImageWorkers, tmp_path: Path, output: str, order: str
) -> None:
    result = made(workers, tmp_path, full_of_metadata(order), "convert:keep=exif", output)
    exif = opened(result).getexif()
    assert exif[MAKE] == "Camera of the test"
    assert exif.get_ifd(EXIF_IFD)[TAKEN] == "2024:05:06 07:08:09"
    assert MAKER_NOTE not in exif.get_ifd(EXIF_IFD)
    assert not exif.get_ifd(GPS)
    assert exif.get(ORIENTATION, 1) == 1
    assert b"secret" not in result.data
    assert result.report["metadata_removed"] == ["icc", "gps", "xmp"]


def tiff_full_of_metadata() -> bytes:
    """The same EXIF in a TIFF: in directories of the file itself."""
    exif = Image.open(io.BytesIO(full_of_metadata())).getexif()
    return saved(Image.fromarray(photo(64, 48)), "TIFF", exif=exif)


@pytest.mark.parametrize("output", ["jpeg", "png", "webp", "avif"])
def test_the_exif_of_a_tiff_stays_too(workers: ImageWorkers, tmp_path: Path, output: str) -> None:
    result = made(workers, tmp_path, tiff_full_of_metadata(), "convert:keep=exif", output)
    exif = opened(result).getexif()
    assert exif[MAKE] == "Camera of the test"
    assert exif.get_ifd(EXIF_IFD)[TAKEN] == "2024:05:06 07:08:09"
    assert not exif.get_ifd(GPS)
    assert b"secret" not in result.data
    assert result.report["metadata_removed"] == ["gps"]


def test_the_place_of_a_tiff_stays_or_is_told(workers: ImageWorkers, tmp_path: Path) -> None:
    kept = made(workers, tmp_path, tiff_full_of_metadata(), "convert:keep=exif+gps", "jpeg")
    assert opened(kept).getexif().get_ifd(GPS)[2] == (52.0, 31.0, 12.0)
    gone = made(workers, tmp_path, tiff_full_of_metadata(), "", "jpeg")
    assert not opened(gone).getexif()
    assert gone.report["metadata_removed"] == ["exif", "gps"]


def test_the_place_stays_when_it_was_asked_for(workers: ImageWorkers, tmp_path: Path) -> None:
    result = made(workers, tmp_path, full_of_metadata(), "convert:keep=exif+gps+xmp", "jpeg")
    assert opened(result).getexif().get_ifd(GPS)[2] == (52.0, 31.0, 12.0)
    assert b"GPSLatitude" in result.data
    assert b"kept word" in result.data
    assert result.report["metadata_removed"] == ["icc"]


def test_a_place_that_went_with_its_exif_is_told(workers: ImageWorkers, tmp_path: Path) -> None:
    """`gps` keeps it in what stays: the XMP here, and not the EXIF."""
    result = made(workers, tmp_path, full_of_metadata(), "convert:keep=gps+xmp", "jpeg")
    assert not opened(result).getexif().get_ifd(GPS)
    assert b"GPSLatitude" in result.data
    assert result.report["metadata_removed"] == ["icc", "exif", "gps"]


@pytest.mark.parametrize("output", ["jpeg", "png", "webp", "avif", "tiff"])
def test_xmp_stays_without_the_place(workers: ImageWorkers, tmp_path: Path, output: str) -> None:
    result = made(workers, tmp_path, full_of_metadata(), "convert:keep=xmp", output)
    info = opened(result).info
    xmp = info["xmp"] if "xmp" in info else info["XML:com.adobe.xmp"]
    text = xmp if isinstance(xmp, bytes) else xmp.encode()
    assert b"kept word" in text
    for gone in (b"GPS", b"52,31", b"13,24", b"Orientation"):
        assert gone not in text
    assert "gps" in result.report["metadata_removed"]


def test_the_orientation_goes_with_the_turn(workers: ImageWorkers, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION], exif[MAKE] = 6, "Camera of the test"
    data = saved(Image.fromarray(photo(60, 40)), "JPEG", exif=exif.tobytes())
    result = made(workers, tmp_path, data, "convert:keep=exif", "jpeg")
    assert (result.width, result.height) == (40, 60)
    assert opened(result).getexif().get(ORIENTATION, 1) == 1
    assert opened(result).getexif()[MAKE] == "Camera of the test"


def test_the_thumbnail_inside_goes(workers: ImageWorkers, tmp_path: Path, corpus: Path) -> None:
    data = (corpus / "image/sharp/Channel_digital_image_CMYK_color.jpg").read_bytes()
    soi = b"\xff\xd8\xff"  # how a JPEG begins
    assert data.count(soi) > 1
    result = made(workers, tmp_path, data, "convert:keep=exif", "jpeg")
    kept = opened(result).getexif()
    assert kept[0x0110] == "Canon EOS 300D DIGITAL"
    assert result.data.count(soi) == 1


@pytest.mark.parametrize("output", ["jpeg", "png", "webp", "avif", "tiff"])
def test_a_profile_stays_when_it_was_asked_for(
    workers: ImageWorkers, tmp_path: Path, output: str
) -> None:
    icc = profile(P3, 2.2)
    source = png(photo(40, 40), iccp(icc))
    result = made(workers, tmp_path, source, "convert:keep=icc", output)
    assert opened(result).info["icc_profile"] == icc
    assert np.abs(pixels(result).astype(int) - photo(40, 40)).mean() < 3


@pytest.mark.parametrize("megabytes", [400, 600])
def test_an_encoder_short_of_memory_is_no_damage(tmp_path: Path, megabytes: int) -> None:
    """AV1's says so in different words, by where it runs short."""
    data = saved(Image.fromarray(photo(500, 400)).resize((5000, 4000)), "JPEG")
    with (
        one_worker(memory_bytes=megabytes << 20) as short,
        pytest.raises(StepFailed, match="memory") as caught,
    ):
        made(short, tmp_path, data, "convert:lossless=1", "avif")
    assert caught.value.code == "image_limit"
