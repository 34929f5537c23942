"""Bytes → upright sRGB pixels: orientation, colours, damage, limits, animations.

Files come from Pillow or are made by hand; what they should look like comes from Pillow and from
the formulas of the standards.
"""

from __future__ import annotations

import io
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from tests import pngs
from tests.media.images.making import (
    BT2020,
    P3,
    Pixels,
    between,
    cicp,
    iccp,
    made,
    one_worker,
    opened,
    photo,
    pixels,
    png,
    pq_nits,
    profile,
    read_png16,
    saved,
    scene,
    srgb_code,
    srgb_light,
)

from telecine.engine.errors import InputRefused
from telecine.engine.images.pool import ImageWorkers


def far(a: Pixels, b: Pixels) -> float:
    """The largest difference of a channel."""
    return float(np.abs(a.astype(float) - b.astype(float)).max())


def mean_off(a: Pixels, b: Pixels) -> float:
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


# --- orientation ----------------------------------------------------------------------------------

# What a camera has done to the upright picture that it tags so (EXIF 2.32, 4.6.4 A, tag 274).
HELD = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def tagged(orientation: int, format: str, upright: Pixels, **options: object) -> bytes:
    image = Image.fromarray(upright)
    turn = HELD[orientation]
    image = image if turn is None else image.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(image, format, exif=exif.tobytes(), **options)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_a_picture_stands_upright_whatever_its_orientation(
    workers: ImageWorkers, tmp_path: Path, orientation: int, format: str
) -> None:
    upright = scene(90, 60)
    options = {"lossless": True} if format == "WEBP" else {}
    result = made(workers, tmp_path, tagged(orientation, format, upright, **options))
    assert far(pixels(result), upright) == 0
    assert opened(result).getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("operations", ["", "resize:w=45"])
def test_a_jpeg_stands_upright_also_when_it_is_shrunk_while_it_loads(
    workers: ImageWorkers, tmp_path: Path, orientation: int, operations: str
) -> None:
    upright = photo(720, 480)
    result = made(workers, tmp_path, tagged(orientation, "JPEG", upright, quality=95), operations)
    wanted = Image.fromarray(upright)
    if operations:
        wanted = wanted.resize((45, 30), Image.Resampling.LANCZOS)
    assert mean_off(pixels(result), np.asarray(wanted)) < 2
    assert (result.width, result.height) == wanted.size


# --- colours --------------------------------------------------------------------------------------


def test_a_colour_profile_is_followed_and_dropped(workers: ImageWorkers, tmp_path: Path) -> None:
    codes = scene(64, 48)
    gamma = 563 / 256  # Adobe RGB's
    data = png(codes, iccp(profile(P3, gamma)))
    result = made(workers, tmp_path, data)
    wanted = srgb_code(between((codes / 255) ** gamma, P3)) * 255
    assert mean_off(pixels(result), wanted) < 0.6
    assert far(pixels(result), wanted) <= 4  # lcms reckons with 16-bit tables
    assert "icc_profile" not in opened(result).info
    assert result.report["metadata_removed"] == ["icc"]


def test_a_kept_profile_leaves_the_pixels_alone(workers: ImageWorkers, tmp_path: Path) -> None:
    codes, icc = scene(64, 48), profile(P3, 2.2)
    result = made(workers, tmp_path, png(codes, iccp(icc)), "convert:keep=icc")
    assert far(pixels(result), codes) == 0
    assert opened(result).info["icc_profile"] == icc
    assert result.report["metadata_removed"] == []


def test_an_unusable_profile_is_told(workers: ImageWorkers, tmp_path: Path) -> None:
    codes = scene(20, 20)
    result = made(workers, tmp_path, png(codes, iccp(b"no profile" * 30)))
    assert far(pixels(result), codes) == 0
    assert opened(result).info.get("icc_profile") is None


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_display_p3_by_code_points(workers: ImageWorkers, tmp_path: Path, dtype: type) -> None:
    codes: Pixels = scene(64, 48).astype(dtype)
    if dtype is np.uint16:
        codes *= 257
    result = made(workers, tmp_path, png(codes, cicp(12, 13)))
    most = np.iinfo(dtype).max
    wanted = srgb_code(between(srgb_light(codes / most), P3)) * 255
    assert far(pixels(result), wanted) <= 1
    assert result.warnings == ()


def test_srgb_by_code_points_stays(workers: ImageWorkers, tmp_path: Path) -> None:
    codes = scene(64, 48)
    for coding in ((1, 13), (1, 1), (2, 2)):
        assert far(pixels(made(workers, tmp_path, png(codes, cicp(*coding)))), codes) == 0


def test_avif_in_display_p3_by_its_colour_box(workers: ImageWorkers, tmp_path: Path) -> None:
    flat = np.zeros((64, 64, 3), np.uint8)
    flat[:] = (60, 170, 90)
    avif = bytearray(saved(Image.fromarray(flat), "AVIF", quality=100, subsampling="4:4:4"))
    at = avif.index(b"colrnclx") + 8
    assert struct.unpack_from(">2H", avif, at) == (1, 13)
    struct.pack_into(">2H", avif, at, 12, 13)
    result = made(workers, tmp_path, bytes(avif))
    wanted = srgb_code(between(srgb_light(flat / 255), P3)) * 255
    assert far(pixels(result), wanted) <= 3  # the encoder's own loss
    assert far(wanted, flat) > 20


def test_hdr_becomes_sdr_and_is_told(workers: ImageWorkers, tmp_path: Path) -> None:
    """Below the knee of BT.2390 (its 1.5 × white - 0.5, here about 90 cd/m²) light stays as it is
    against a white of 203 cd/m²; above, brighter is brighter up to white."""
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)
    codes = np.repeat(np.repeat(ramp[None, :, None], 8, 0), 3, 2)
    result = made(workers, tmp_path, png(codes, cicp(9, 16)))
    shown = pixels(result)[4]
    nits = pq_nits(ramp / 65535)
    dark = nits < 85
    assert far(shown[dark, 0], srgb_code(nits[dark] / 203) * 255) <= 1
    assert far(shown, shown[:, :1]) == 0  # grey stays grey
    assert (np.diff(shown[:, 0].astype(int)) >= 0).all()
    assert shown[nits >= 1000, 0].min() == 255
    assert 175 < shown[np.argmin(abs(nits - 203)), 0] < 240
    assert any("HDR" in warning for warning in result.warnings)


def test_hdr_colours_keep_their_hue(workers: ImageWorkers, tmp_path: Path) -> None:
    """A dark colour of BT.2020 that sRGB can show comes out as the formulas say."""
    codes = np.zeros((8, 8, 3), np.uint16)
    codes[:] = [round(65535 * v) for v in (0.36, 0.42, 0.39)]
    result = made(workers, tmp_path, png(codes, cicp(9, 16)))
    light = pq_nits(codes / 65535) / 203
    wanted = srgb_code(between(light, BT2020)) * 255
    assert far(pixels(result), wanted) <= 1


def test_hlg_becomes_sdr(workers: ImageWorkers, tmp_path: Path) -> None:
    """BT.2408, table 1: the code 0.75 is the white of 203 cd/m²; 0.5 is 50.4 cd/m² (1/12 of the
    scene's light on a screen of 1,000 cd/m²), which is below the knee."""
    codes = np.zeros((8, 8, 3), np.uint16)
    codes[:] = round(65535 * 0.5)
    shown = pixels(made(workers, tmp_path, png(codes, cicp(9, 18))))
    nits = 1000 * (1 / 12) ** 1.2
    assert far(shown, srgb_code(np.full(shown.shape, nits / 203)) * 255) <= 1


def test_cmyk_without_a_profile(workers: ImageWorkers, tmp_path: Path) -> None:
    """No ink is white, all black ink nearly black, and each ink darkens the light it is for."""
    inks = np.zeros((16, 80, 4), np.uint8)
    for n, ink in enumerate([(0, 0, 0, 0), (0, 0, 0, 255), (255, 0, 0, 0), (0, 255, 0, 0),
                             (0, 0, 255, 0)]):  # fmt: skip
        inks[:, 16 * n : 16 * n + 16] = ink
    data = saved(Image.fromarray(inks, "CMYK"), "JPEG", quality=98)
    shown = pixels(made(workers, tmp_path, data))
    white, black, cyan, magenta, yellow = (shown[8, 16 * n + 8].astype(int) for n in range(5))
    assert white.min() >= 250
    assert black.max() <= 60
    assert cyan[0] < 60 < 150 < cyan[2]
    assert magenta[1] < 60 < 150 < magenta[0]
    assert yellow[2] < 60 < 200 < yellow[0]


def test_cmyk_with_a_profile(workers: ImageWorkers, tmp_path: Path, corpus: Path) -> None:
    data = (corpus / "image/sharp/Channel_digital_image_CMYK_color.jpg").read_bytes()
    image = Image.open(io.BytesIO(data))
    wanted = ImageCms.profileToProfile(
        image,
        ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"])),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.PERCEPTUAL,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert wanted is not None
    assert mean_off(pixels(made(workers, tmp_path, data)), np.asarray(wanted)) < 1.5


def test_sixteen_bits(workers: ImageWorkers, tmp_path: Path) -> None:
    codes = np.random.default_rng(1).integers(0, 65536, (20, 30, 3)).astype(np.uint16)
    assert far(pixels(made(workers, tmp_path, png(codes))), codes >> 8) == 0
    deep = made(workers, tmp_path, png(codes), "convert:depth=16")
    assert far(read_png16(deep.data), codes) == 0


def test_eight_bits_in_sixteen_keep_white_white(workers: ImageWorkers, tmp_path: Path) -> None:
    codes = scene(20, 20)
    deep = made(workers, tmp_path, png(codes), "convert:depth=16")
    assert far(read_png16(deep.data), codes.astype(np.uint16) * 257) == 0


def test_grey_alpha_palette_and_bits(workers: ImageWorkers, tmp_path: Path) -> None:
    """Whatever a file stores, its picture is the one that Pillow shows."""
    rgb = scene(40, 30)
    grey = Image.fromarray(rgb).convert("L")
    alpha = Image.fromarray(np.tile(np.linspace(0, 255, 40).astype(np.uint8), (30, 1)))
    palette = Image.fromarray(rgb).quantize(16)
    clear = palette.copy()
    clear.info["transparency"] = 3
    cases = {
        "grey": (saved(grey, "PNG"), grey),
        "grey and alpha": (saved(Image.merge("LA", (grey, alpha)), "PNG"), None),
        "palette": (saved(palette, "PNG"), palette),
        "palette with a hole": (saved(clear, "PNG", transparency=3), None),
        "one bit": (saved(grey.convert("1"), "TIFF", compression="group4"), grey.convert("1")),
        "grey TIFF": (saved(grey, "TIFF"), grey),
        "RGBA TIFF": (saved(Image.merge("RGBA", (*palette.convert("RGB").split(), alpha)), "TIFF"),
                      None),
    }  # fmt: skip
    for name, (data, image) in cases.items():
        wanted = (image or Image.open(io.BytesIO(data))).convert("RGBA")
        shown, seen = pixels(made(workers, tmp_path, data), "RGBA"), np.asarray(wanted)
        assert far(shown[..., 3], seen[..., 3]) == 0, name
        visible = seen[..., 3] > 0
        assert far(shown[visible], seen[visible]) == 0, name


@pytest.mark.parametrize("colour", ["grey", "rgb"])
def test_floating_point_pixels_are_light(
    workers: ImageWorkers, tmp_path: Path, colour: str
) -> None:
    light = np.linspace(0, 1, 64, dtype=np.float32)[None].repeat(8, 0)
    data = float_tiff(light if colour == "grey" else np.stack([light, light**2, light * 0], 2))
    result = made(workers, tmp_path, data)
    bands = [light] * 3 if colour == "grey" else [light, light**2, light * 0]
    assert far(pixels(result), srgb_code(np.stack(bands, 2)) * 255) <= 1
    assert any("floating-point" in warning for warning in result.warnings)


def float_tiff(values: Pixels) -> bytes:
    """TIFF 6.0, sections 8 and 20: 32-bit IEEE samples in one strip."""
    height, width, bands = (*values.shape, 1)[:3]
    return tiff_of(width, height, bands, values.astype("<f4").tobytes(), kind=3, bits=32)


def tiff_of(width: int, height: int, bands: int, data: bytes, *, kind: int, bits: int) -> bytes:
    entries = (
        (256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1),
        (262, 3, 2 if bands == 3 else 1), (273, 4, 8), (277, 3, bands), (278, 4, height),
        (279, 4, len(data)), (339, 3, kind),
    )  # fmt: skip
    shorts = 8 + len(data) + 2 + 12 * len(entries) + 4  # of three bands the values lie behind
    directory = struct.pack("<H", len(entries))
    for tag, number, value in entries:
        listed = tag in (258, 339) and bands == 3
        directory += struct.pack("<HHI", tag, number, bands if listed else 1)
        directory += struct.pack("<I", shorts + (6 if tag == 339 else 0) if listed else value)
    lists = struct.pack("<6H", *[bits] * 3, *[kind] * 3) if bands == 3 else b""
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + directory + bytes(4) + lists


# SampleFormat (TIFF 6.0, section 19): 1 unsigned, 2 signed.
@pytest.mark.parametrize(("kind", "bits"), [(2, 8), (2, 16), (2, 32), (1, 32)])
def test_numbers_of_which_none_is_white_are_refused(
    workers: ImageWorkers, tmp_path: Path, kind: int, bits: int
) -> None:
    data = tiff_of(8, 8, 1, bytes(8 * bits), kind=kind, bits=bits)
    with pytest.raises(InputRefused, match="white") as caught:
        made(workers, tmp_path, data)
    assert caught.value.code == "image_format_refused"


def test_a_grey_jpeg_becomes_rgb(workers: ImageWorkers, tmp_path: Path) -> None:
    grey = Image.fromarray(scene(64, 64)).convert("L")
    result = made(workers, tmp_path, saved(grey, "JPEG", quality=95), "", "jpeg")
    assert opened(result).mode == "RGB"
    assert mean_off(pixels(result), np.asarray(grey.convert("RGB"))) < 3


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("operations", ["", "resize:w=90", "resize:w=20"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_cut_jpeg_shows_what_is_there(
    workers: ImageWorkers, tmp_path: Path, progressive: bool, operations: str
) -> None:
    whole = photo(320, 320)
    data = saved(Image.fromarray(whole), "JPEG", quality=95, progressive=progressive)
    result = made(workers, tmp_path, data[: len(data) * 6 // 10], operations)
    small = np.asarray(Image.fromarray(whole).resize((result.width, result.height)))
    fifth = result.height // 5
    assert mean_off(pixels(result)[:fifth], small[:fifth]) < (20 if progressive else 3)
    assert any("cut off" in warning for warning in result.warnings)
    assert made(workers, tmp_path, data, operations).warnings == ()


def test_a_cut_png_shows_what_is_there(workers: ImageWorkers, tmp_path: Path) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (100, 100, 3)).astype(np.uint8)
    data = png(noise)
    result = made(workers, tmp_path, data[: len(data) // 2])
    assert far(pixels(result)[:20], noise[:20]) == 0  # libpng reads some kilobytes ahead
    assert any("cut off" in warning for warning in result.warnings)


def test_damage_within_a_jpeg_is_told(workers: ImageWorkers, tmp_path: Path) -> None:
    data = bytearray(saved(Image.fromarray(scene(320, 320)), "JPEG", quality=95))
    middle = len(data) // 2
    data[middle : middle + 64] = b"\xff\xd0" * 32
    result = made(workers, tmp_path, bytes(data))
    assert any("damaged" in warning for warning in result.warnings)


def test_a_jfif_of_a_version_that_nobody_knows_is_no_damage(
    workers: ImageWorkers, tmp_path: Path
) -> None:
    data = bytearray(saved(Image.fromarray(photo(64, 48)), "JPEG"))
    data[data.index(b"JFIF\0") + 5] = 2  # the major version; ITU-T T.871, 10.1: 1
    result = made(workers, tmp_path, bytes(data))
    assert far(pixels(result), np.asarray(Image.open(io.BytesIO(data)))) <= 3
    assert result.warnings == ()


def test_what_cannot_be_read_is_refused(workers: ImageWorkers, tmp_path: Path) -> None:
    jpeg = saved(Image.fromarray(scene(64, 64)), "JPEG")
    webp = saved(Image.fromarray(scene(64, 64)), "WEBP")
    for data in (jpeg[:60], webp[: len(webp) // 2], png(scene(9, 9))[:40]):
        with pytest.raises(InputRefused) as refused:
            made(workers, tmp_path, data)
        assert refused.value.code == "image_damaged"
        assert "\n" not in str(refused.value)


def test_the_cut_and_the_broken_of_the_corpus(
    workers: ImageWorkers, tmp_path: Path, corpus: Path
) -> None:
    for name in ("truncated.jpg", "truncated.gif"):
        result = made(workers, tmp_path, (corpus / "bad/vips" / name).read_bytes())
        assert any("cut off" in warning for warning in result.warnings), name
    for name in ("sharp/corrupt-header.jpg", "filetype/fixture-corrupt.png"):
        with pytest.raises(InputRefused) as refused:
            made(workers, tmp_path, (corpus / "bad" / name).read_bytes())
        assert refused.value.code == "image_damaged"


# --- limits ---------------------------------------------------------------------------------------


def huge(width: int, height: int) -> bytes:
    """A PNG that is as large as its header says, and packs well."""
    return pngs.png(width, height, pngs.chunk(b"IDAT", zlib.compress(bytes(1 << 20))))


def test_too_many_pixels_cost_nothing(workers: ImageWorkers, tmp_path: Path) -> None:
    made(workers, tmp_path, png(scene(9, 9)))  # the worker is warm
    start = time.monotonic()
    with pytest.raises(InputRefused) as refused:
        made(workers, tmp_path, huge(65535, 65535), "resize:w=10")
    assert refused.value.code == "too_many_pixels"
    assert time.monotonic() - start < 1


def test_pixels_count_over_all_frames(tmp_path: Path) -> None:
    frames = [Image.new("L", (100, 100), n) for n in range(0, 250, 10)]
    gif = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with one_worker(pixels=200_000) as few:
        with pytest.raises(InputRefused) as refused:
            made(few, tmp_path, gif, "", "gif")
        assert refused.value.code == "too_many_pixels"
        assert made(few, tmp_path, gif, "convert:frames=first").frames == 1


def test_too_many_frames(workers: ImageWorkers, tmp_path: Path) -> None:
    frames = [Image.new("L", (2, 2), n % 256) for n in range(301)]
    gif = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(InputRefused) as refused:
        made(workers, tmp_path, gif, "", "gif")
    assert refused.value.code == "too_many_frames"


# --- animations, pages ----------------------------------------------------------------------------


def moving(format: str) -> tuple[bytes, list[Pixels]]:
    frames = []
    for n in range(4):
        frame = np.zeros((30, 40, 3), np.uint8)
        frame[5:15, 5 + 8 * n : 12 + 8 * n] = (250, 200, 10)
        frames.append(frame)
    images = [Image.fromarray(frame) for frame in frames]
    options = {"lossless": True} if format == "WEBP" else {}
    data = saved(
        images[0], format, save_all=True, append_images=images[1:], duration=[40, 80, 120, 300],
        loop=3, **options,
    )  # fmt: skip
    return data, frames


@pytest.mark.parametrize("source", ["GIF", "WEBP"])
@pytest.mark.parametrize("output", ["gif", "webp"])
def test_every_frame_and_its_time_survive(
    workers: ImageWorkers, tmp_path: Path, source: str, output: str
) -> None:
    data, frames = moving(source)
    operations = "convert:lossless=1" if output == "webp" else ""
    result = made(workers, tmp_path, data, operations, output)
    image = opened(result)
    assert result.frames == 4
    assert getattr(image, "n_frames") == 4  # noqa: B009  # only some of Pillow's classes have it
    # GIF counts how often it is shown again, WebP how often it is shown.
    shown = 4 if source == "GIF" else 3
    assert image.info["loop"] == (shown - 1 if output == "gif" else shown)
    for n, wanted in enumerate(frames):
        image.seek(n)
        image.load()
        assert image.info["duration"] == [40, 80, 120, 300][n]
        assert far(np.asarray(image.convert("RGB")), wanted) <= 2


def test_an_animation_is_no_still_by_accident(workers: ImageWorkers, tmp_path: Path) -> None:
    data, frames = moving("GIF")
    with pytest.raises(InputRefused) as refused:
        made(workers, tmp_path, data)
    assert refused.value.code == "animation_lost"
    assert far(pixels(made(workers, tmp_path, data, "convert:frames=first")), frames[0]) == 0


def test_the_first_page_of_several(workers: ImageWorkers, tmp_path: Path) -> None:
    pages = [Image.new("RGB", (20, 20), color) for color in ("red", "green", "blue")]
    data = saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    result = made(workers, tmp_path, data)
    assert far(pixels(result), np.asarray(pages[0])) == 0
    assert any("3 pages" in warning for warning in result.warnings)


# --- smaller from the decoder ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operations", "size"),
    [
        ("resize:w=200", (200, 150)),
        ("resize:w=201,h=90", (120, 90)),
        ("resize:w=100,h=100,fit=cover", (100, 100)),
        ("resize:w=100,h=100,fit=fill", (100, 100)),
        ("resize:w=100,h=100,fit=pad,background=000000", (100, 100)),
        ("thumbnail:w=120,h=60,crop=center", (120, 60)),
    ],
)
@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_shrinking_while_loading_gives_the_same_picture(
    workers: ImageWorkers, tmp_path: Path, format: str, operations: str, size: tuple[int, int]
) -> None:
    """Beside a PNG of the same pixels, which no decoder shrinks."""
    data = saved(Image.fromarray(photo(800, 600)), format, quality=95)
    plain = saved(Image.open(io.BytesIO(data)).convert("RGB"), "PNG")
    shrunk, whole = (pixels(made(workers, tmp_path, each, operations)) for each in (data, plain))
    assert shrunk.shape == whole.shape == (size[1], size[0], 3)
    assert mean_off(shrunk, whole) < 1
