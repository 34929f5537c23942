"""What is told of a picture, against what was painted and written into it."""

from __future__ import annotations

import base64
import math
from pathlib import Path

import blurhash
import numpy as np
import pytest
import thumbhash
from PIL import Image
from PIL.TiffImagePlugin import IFDRational
from tests.media.images.making import P3, cicp, iccp, photo, png, profile, saved

from telecine.engine.images.pool import ImageWorkers
from telecine.engine.images.transform import inspect
from telecine.engine.images.values import ImageInfo


def told(workers: ImageWorkers, folder: Path, data: bytes) -> ImageInfo:
    source = folder / "source"
    source.write_bytes(data)
    return inspect(workers, source)


def test_size_depth_and_alpha(workers: ImageWorkers, tmp_path: Path) -> None:
    deep = told(workers, tmp_path, png(np.zeros((30, 40, 4), np.uint16)))
    assert (deep.format, deep.content_type) == ("png", "image/png")
    assert (deep.width, deep.height, deep.frames, deep.duration_s) == (40, 30, 1, None)
    assert (deep.alpha, deep.depth, deep.color, deep.icc) == (True, 16, "sRGB", None)
    flat = told(workers, tmp_path, saved(Image.new("L", (9, 7)), "JPEG"))
    assert (flat.format, flat.alpha, flat.depth, flat.color) == ("jpeg", False, 8, "grey")


def test_the_size_is_that_of_the_upright_picture(workers: ImageWorkers, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.fromarray(photo(60, 40)), "JPEG", exif=exif.tobytes())
    info = told(workers, tmp_path, data)
    assert (info.width, info.height, info.orientation) == (40, 60, 6)


def test_colours_in_words(workers: ImageWorkers, tmp_path: Path) -> None:
    codes = photo(20, 20)
    by_profile = told(workers, tmp_path, png(codes, iccp(profile(P3, 2.2))))
    assert (by_profile.color, by_profile.icc) == ("hand-made", "hand-made")
    assert told(workers, tmp_path, png(codes, cicp(12, 13))).color == "Display P3"
    assert told(workers, tmp_path, png(codes, cicp(9, 16))).color == "BT.2020 PQ (HDR)"
    inks = saved(Image.new("CMYK", (8, 8)), "JPEG")
    assert told(workers, tmp_path, inks).color == "CMYK"


@pytest.mark.parametrize("format", ["GIF", "WEBP"])
def test_all_frames_are_counted(workers: ImageWorkers, tmp_path: Path, format: str) -> None:
    frames = [Image.fromarray(np.roll(photo(20, 20), 3 * n, axis=1)) for n in range(5)]
    data = saved(
        frames[0], format, save_all=True, append_images=frames[1:],
        duration=[100, 200, 300, 400, 500],
    )  # fmt: skip
    info = told(workers, tmp_path, data)
    assert (info.frames, info.duration_s) == (5, 1.5)


def test_exif_in_words(workers: ImageWorkers, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.update({0x010F: "Maker", 0x0110: "Model 3", 0x0132: "2024:01:02 03:04:05"})
    exif.get_ifd(0x8769).update(
        {
            0x829A: IFDRational(1, 250), 0x829D: IFDRational(28, 10), 0x8827: 400,
            0x9003: "2024:01:02 03:04:05", 0x9204: IFDRational(-1, 3), 0x9209: 16,
            0x920A: IFDRational(35), 0xA405: 52, 0x8822: 3, 0xA434: "Lens 35",
            0x9011: "+02:00",
        }
    )  # fmt: skip
    data = saved(Image.fromarray(photo(20, 20)), "JPEG", exif=exif.tobytes())
    info = told(workers, tmp_path, data)
    assert info.exif == {
        "Make": "Maker",
        "Model": "Model 3",
        "DateTime": "2024:01:02 03:04:05",
        "ExposureTime": "1/250 s",
        "FNumber": "f/2.8",
        "ExposureProgram": "aperture priority",
        "ISOSpeed": "400",
        "DateTimeOriginal": "2024:01:02 03:04:05",
        "OffsetTimeOriginal": "+02:00",
        "ExposureBiasValue": "-0.33 EV",
        "Flash": "did not fire",
        "FocalLength": "35 mm",
        "FocalLengthIn35mmFilm": "52 mm",
        "LensModel": "Lens 35",
    }
    assert not info.gps


def test_of_the_place_is_told_only_that_there_is_one(workers: ImageWorkers, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0)})
    data = saved(Image.fromarray(photo(20, 20)), "JPEG", exif=exif.tobytes())
    info = told(workers, tmp_path, data)
    assert info.gps
    assert info.exif == {}


def test_dominant_colours_by_area(workers: ImageWorkers, tmp_path: Path) -> None:
    rgba = np.zeros((200, 400, 4), np.uint8)
    rgba[:, :200] = (10, 20, 200, 255)
    rgba[:, 200:320] = (220, 30, 30, 255)
    rgba[:, 320:372] = (240, 240, 240, 255)
    rgba[:, 372:] = (0, 255, 0, 0)  # nobody sees it
    info = told(workers, tmp_path, png(rgba))
    assert len(info.dominant_colors) == 3
    for color, wanted in zip(
        info.dominant_colors, [(10, 20, 200), (220, 30, 30), (240, 240, 240)], strict=True
    ):
        shown = tuple(bytes.fromhex(color.removeprefix("#")))
        assert math.dist(shown, wanted) < 12


def test_thumbhash_is_what_its_own_decoder_reads(workers: ImageWorkers, tmp_path: Path) -> None:
    array = photo(80, 50)
    info = told(workers, tmp_path, png(array))
    coded = list(base64.b64decode(info.thumbhash))
    flat = np.dstack([array, np.full((50, 80), 255, np.uint8)]).reshape(-1).tolist()
    assert coded == thumbhash.rgba_to_thumb_hash(80, 50, flat)
    mean = thumbhash.thumb_hash_to_average_rgba(coded)
    assert np.abs(np.array(mean[:3]) * 255 - array.reshape(-1, 3).mean(0)).max() < 8


def test_thumbhash_shows_what_is_transparent(workers: ImageWorkers, tmp_path: Path) -> None:
    """The package cannot read alpha, so its waves are read here as evanw.github.io/thumbhash says:
    after five bytes, a nibble for its mean and one for its scale; after the waves of the other
    channels, its own, of a 5 × 5 triangle."""
    rgba = np.dstack([photo(60, 60), np.zeros((60, 60), np.uint8)])
    rgba[:, :30, 3] = 255
    coded = base64.b64decode(told(workers, tmp_path, png(rgba)).thumbhash)
    assert coded[2] & 0x80
    nibbles = [n for byte in coded[6:] for n in (byte & 15, byte >> 4)]
    before = 14 + 5 + 5  # a square's luminance has 5 × 5 waves too, the differences 3 × 3 each
    waves = iter((n / 7.5 - 1) * (coded[5] >> 4) / 15 for n in nibbles[before:])
    x = (np.arange(30) + 0.5) / 30
    alpha = np.full((30, 30), (coded[5] & 15) / 15)
    for cy in range(5):
        for cx in range(1 if cy == 0 else 0, 5 - cy):
            across, down = np.cos(np.pi * cx * x), np.cos(np.pi * cy * x)
            alpha += 2 * next(waves) * np.outer(down, across)
    assert alpha[:, :10].mean() > 0.75
    assert alpha[:, -10:].mean() < 0.25


def test_blurhash_is_what_its_own_decoder_reads(workers: ImageWorkers, tmp_path: Path) -> None:
    array = photo(64, 48)
    info = told(workers, tmp_path, png(array))
    assert blurhash.components(info.blurhash) == (4, 3)
    shown = np.array(blurhash.decode(info.blurhash, 32, 24))
    small = np.asarray(Image.fromarray(array).resize((32, 24), Image.Resampling.BOX))
    flat = small.reshape(-1, 3).mean(0)
    assert np.abs(shown - small).mean() < np.abs(small - flat).mean() / 2


def test_a_cut_picture_is_told(workers: ImageWorkers, tmp_path: Path) -> None:
    data = saved(Image.fromarray(photo(320, 320)), "JPEG", quality=95)
    info = told(workers, tmp_path, data[: len(data) // 2])
    assert (info.width, info.height) == (320, 320)
    assert any("cut off" in warning for warning in info.warnings)


@pytest.mark.thorough
def test_photos_of_the_corpus(workers: ImageWorkers, tmp_path: Path, corpus: Path) -> None:
    """By hand, from what exiftool and an eye say of them."""
    phone = inspect(workers, corpus / "image/vips/avif-orientation-6.avif")
    assert (phone.width, phone.height, phone.icc, phone.gps) == (3024, 4032, "Display P3", True)
    assert phone.exif["Model"] == "iPhone XS"
    assert phone.exif["ExposureTime"] == "1/121 s"
    hdr = inspect(workers, corpus / "image/immich/10bit-HDR-P3-nclx.avif")
    assert (hdr.color, hdr.depth) == ("Display P3 PQ (HDR)", 16)
