"""What colours a picture's numbers mean, and the way from there to sRGB.

libvips follows ICC profiles and nothing else. AVIF and PNG may say it in three code points instead
(ITU-T H.273: `nclx` in AVIF, `cICP` in PNG), as do the pictures that FFmpeg decodes. Without them a
picture in Display P3 comes out pale and an HDR one as grey mud, so they are followed here.

HDR (PQ: SMPTE ST 2084; HLG: ITU-R BT.2100) becomes SDR as ITU-R BT.2390 (section 5.4.1) bends
brightness: everything up to a knee stays as it is against the reference white of 203 cd/m² (ITU-R
BT.2408), what is brighter bends towards white. The curve is read at the largest of red, green and
blue and all three are multiplied by what it says, so that hues stay.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from dataclasses import dataclass

import pyvips

from telecine.engine.errors import MediaError
from telecine.engine.formats.bmff import boxes
from telecine.engine.images.wire import Bytes

# Perceptual, as browsers and ImageMagick do: profiles with tables are made for it, and for matrix
# profiles it is relative colorimetric, which keeps each colour that sRGB can show.
# With black point compensation the dark parts of a print keep their detail.
_INTENT = {"intent": "perceptual", "black_point_compensation": True}

_WHITE_NITS = 203.0
_HLG_PEAK_NITS = 1000.0
_CURVE_STEPS = 1 << 16

_PQ, _HLG, _LINEAR = 16, 18, 8
_SRGB_PRIMARIES = {1, 2}
# BT.709 and its kin (1, 6, 14, 15) are the camera's curve; what screens show of it, and what
# browsers do with such pictures, is within a shade of the sRGB curve.
_SRGB_CURVES = {1, 2, 6, 13, 14, 15}

# Chromaticities (x, y) of red, green, blue and white: H.273, table 2.
_D65 = (0.3127, 0.3290)
_PRIMARIES = {
    1: (0.640, 0.330, 0.300, 0.600, 0.150, 0.060, *_D65),
    4: (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, 0.310, 0.316),
    5: (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, *_D65),
    6: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65),
    7: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *_D65),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *_D65),
}
# As FFmpeg names them (av_color_primaries_name, av_color_transfer_name).
PRIMARIES_BY_NAME = {
    "bt709": 1, "bt470m": 4, "bt470bg": 5, "smpte170m": 6, "smpte240m": 7, "bt2020": 9,
    "smpte431": 11, "smpte432": 12,
}  # fmt: skip
TRANSFERS_BY_NAME = {
    "bt709": 1, "gamma22": 4, "bt470m": 4, "gamma28": 5, "bt470bg": 5, "smpte170m": 6,
    "linear": 8, "iec61966-2-1": 13, "iec61966-2.1": 13, "bt2020-10": 14, "bt2020-12": 15,
    "smpte2084": 16, "arib-std-b67": 18,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Coding:
    """Code points of H.273: 2 is "unspecified", which is taken as sRGB."""

    primaries: int
    transfer: int

    @property
    def hdr(self) -> bool:
        return self.transfer in (_PQ, _HLG)

    @property
    def is_srgb(self) -> bool:
        return self._primaries in _SRGB_PRIMARIES and self._transfer in _SRGB_CURVES

    @property
    def _primaries(self) -> int:
        return self.primaries if self.primaries in _PRIMARIES else 2

    @property
    def _transfer(self) -> int:
        return self.transfer if self.transfer in (_PQ, _HLG, _LINEAR, 4, 5) else 13

    @property
    def words(self) -> str:
        names = {9: "BT.2020", 12: "Display P3", 11: "DCI-P3"}
        curve = {_PQ: "PQ", _HLG: "HLG", _LINEAR: "linear"}
        parts = (names.get(self._primaries, ""), curve.get(self._transfer, ""))
        return " ".join(part for part in parts if part) or "sRGB"


def from_names(primaries: str, transfer: str) -> Coding:
    """Of the names that FFmpeg has for them."""
    return Coding(PRIMARIES_BY_NAME.get(primaries, 2), TRANSFERS_BY_NAME.get(transfer, 2))


# --- where files say it ---------------------------------------------------------------------------


def of_png(data: Bytes) -> Coding | None:
    """The `cICP` chunk (PNG, third edition, 11.3.2.6), which goes before an ICC profile."""
    view, at = memoryview(data), 8
    while at + 8 <= len(view):
        length, kind = struct.unpack_from(">I4s", view, at)
        if kind == b"cICP" and length == 4 and at + 12 <= len(view):
            return Coding(view[at + 8], view[at + 9])
        if kind == b"IDAT":
            break
        at += 12 + length
    return None


def of_avif(data: Bytes) -> Coding | None:
    """The `nclx` colour box of the primary item (ISO/IEC 23008-12, 6.5.5), if it has one."""
    try:
        return _nclx(memoryview(data))
    except (MediaError, struct.error, IndexError):
        return None  # a broken header is the loader's to refuse


def _nclx(data: memoryview) -> Coding | None:
    meta = next((box for box in boxes(data) if box.kind == "meta"), None)
    if meta is None:
        return None
    inside = {box.kind: box for box in boxes(meta.body[4:])}
    pitm, iprp = inside["pitm"], inside["iprp"]
    primary = pitm.numbers("I" if pitm.full()[0] else "H", 4)[0]
    properties = iprp.child("ipco").children()
    for index in _associated(iprp.child("ipma").body, primary):
        if 0 < index <= len(properties):
            box = properties[index - 1]
            if box.kind == "colr" and bytes(box.body[:4]) == b"nclx":
                return Coding(*box.numbers("2H", 4))
    return None


def _associated(body: memoryview, item: int) -> list[int]:
    """The numbers of an item's properties, from an `ipma` box (23008-12, 9.3.1)."""
    version, wide = body[0], body[3] & 1
    (entries,) = struct.unpack_from(">I", body, 4)
    at = 8
    for _ in range(entries):
        (found,) = struct.unpack_from(">I" if version else ">H", body, at)
        at += 4 if version else 2
        count, at = body[at], at + 1
        step, layout, most = (2, "H", 0x7FFF) if wide else (1, "B", 0x7F)
        if found == item:
            return [n & most for n in struct.unpack_from(f">{count}{layout}", body, at)]
        at += step * count
    return []


# --- to sRGB --------------------------------------------------------------------------------------


def from_profile(image: pyvips.Image, depth: int, profile: str | None = None) -> pyvips.Image:
    """By the embedded ICC profile, or a named one. Raises `pyvips.Error` when it is unusable."""
    named = {"input_profile": profile} if profile else {"embedded": True}
    return image.icc_transform("srgb", depth=depth, **_INTENT, **named)


def from_coding(image: pyvips.Image, coding: Coding, depth: int) -> pyvips.Image:
    """From code points: RGB or RGBA of 8 or 16 bits → sRGB of `depth` bits."""
    alpha = image[3:] if image.bands > 3 else None
    codes = _words(image[0:3])
    light = codes.maplut(_light_table(coding._transfer))
    if coding._transfer == _HLG:
        light = light * _hlg_gain(light, coding._primaries)
    if coding.hdr:
        light = light * _tone_gain(light, coding)
    matrix = _to_bt709(coding._primaries)
    light = light.recomb(pyvips.Image.new_from_array([list(row) for row in matrix]))
    # scRGB's 1.0 is our white; what lies outside of sRGB is cut off.
    shown = light.cast("float").copy(interpretation="scrgb").scRGB2sRGB(depth=depth)
    if alpha is None:
        return shown
    joined = shown.bandjoin(_same_depth(alpha, depth))
    return joined.copy(interpretation=shown.interpretation)


def widened(image: pyvips.Image) -> pyvips.Image:
    """8 bits → 16: white stays white (libvips' own way makes 65,024 of 254)."""
    return (image * 257).cast("ushort").copy(interpretation="rgb16")


def _words(image: pyvips.Image) -> pyvips.Image:
    """Every code as 16 bits."""
    return widened(image) if image.format == "uchar" else image.cast("ushort")


def _same_depth(alpha: pyvips.Image, depth: int) -> pyvips.Image:
    if depth == 16:
        return _words(alpha)
    return alpha if alpha.format == "uchar" else alpha.cast("uchar", shift=True)


def _table(value: Callable[[float], float]) -> pyvips.Image:
    """A table of `value` over 0 to 1 in 65,536 steps."""
    steps = [value(n / (_CURVE_STEPS - 1)) for n in range(_CURVE_STEPS)]
    packed = struct.pack(f"={_CURVE_STEPS}f", *steps)
    return pyvips.Image.new_from_memory(packed, _CURVE_STEPS, 1, 1, "float")


@functools.cache
def _light_table(transfer: int) -> pyvips.Image:
    """Code → light; 1 is the reference white, of HLG the light of the scene (0 to 1)."""
    curves: dict[int, Callable[[float], float]] = {
        _PQ: lambda v: pq_nits(v) / _WHITE_NITS,
        _HLG: _hlg_scene,
        _LINEAR: lambda v: v,
        4: lambda v: v**2.2,
        5: lambda v: v**2.8,
    }
    return _table(curves.get(transfer, _srgb_light))


def _srgb_light(v: float) -> float:
    return v / 12.92 if v <= 0.04045 else float(((v + 0.055) / 1.055) ** 2.4)


_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def pq_nits(v: float) -> float:
    """ST 2084's EOTF: code 0 to 1 → cd/m²."""
    root = v ** (1 / _M2)
    return float(10_000 * (max(root - _C1, 0.0) / (_C2 - _C3 * root)) ** (1 / _M1))


def pq_code(nits: float) -> float:
    """Its inverse."""
    power = (max(nits, 0.0) / 10_000) ** _M1
    return float(((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2)


def _hlg_scene(v: float) -> float:
    """BT.2100, table 5: the inverse OETF."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return v * v / 3 if v <= 0.5 else float((2.718281828459045 ** ((v - c) / a) + b) / 12)


def _hlg_gain(scene: pyvips.Image, primaries: int) -> pyvips.Image:
    """BT.2100's OOTF of a screen of 1,000 cd/m² (γ = 1.2), in units of the reference white."""
    luma = _luminance(primaries if primaries in _PRIMARIES else 9)
    bright = scene.recomb(pyvips.Image.new_from_array([list(luma)]))
    return (bright**0.2) * (_HLG_PEAK_NITS / _WHITE_NITS)


def _tone_gain(light: pyvips.Image, coding: Coding) -> pyvips.Image:
    """What each pixel is multiplied by. The brightest channel is looked up by its fourth root, so
    that the table is fine where the eye is."""
    peak = (_HLG_PEAK_NITS if coding.transfer == _HLG else 10_000.0) / _WHITE_NITS
    brightest = light[0].maxpair(light[1]).maxpair(light[2])
    index = ((brightest / peak) ** 0.25 * (_CURVE_STEPS - 1)).rint().cast("ushort")
    return index.maplut(_gain_table(peak))


@functools.cache
def _gain_table(peak: float) -> pyvips.Image:
    def gain(root: float) -> float:
        light = root**4 * peak
        return bent(light, min(peak, 1000 / _WHITE_NITS)) / light if light else 1.0

    return _table(gain)


def bent(light: float, peak: float) -> float:
    """BT.2390's EETF: light against white (1), of a source as bright as `peak` → 0 to 1.

    The source's peak is taken as 1,000 cd/m², what such pictures are graded on; above is white.
    """
    top = pq_code(peak * _WHITE_NITS)
    code = min(pq_code(light * _WHITE_NITS) / top, 1.0)
    white = pq_code(_WHITE_NITS) / top
    knee = 1.5 * white - 0.5
    if code > knee:
        t = (code - knee) / (1 - knee)
        code = (
            (2 * t**3 - 3 * t**2 + 1) * knee
            + (t**3 - 2 * t**2 + t) * (1 - knee)
            + (-2 * t**3 + 3 * t**2) * white
        )
    return pq_nits(code * top) / _WHITE_NITS


# --- primaries ------------------------------------------------------------------------------------

Row = tuple[float, float, float]
Matrix = tuple[Row, Row, Row]


def _product(a: Matrix, b: Matrix) -> Matrix:
    rows = [tuple(sum(r[k] * b[k][c] for k in range(3)) for c in range(3)) for r in a]
    return rows[0], rows[1], rows[2]  # type: ignore[return-value]


def _inverse(m: Matrix) -> Matrix:
    (a, b, c), (d, e, f), (g, h, i) = m
    det = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    return (
        ((e * i - f * h) / det, (c * h - b * i) / det, (b * f - c * e) / det),
        ((f * g - d * i) / det, (a * i - c * g) / det, (c * d - a * f) / det),
        ((d * h - e * g) / det, (b * g - a * h) / det, (a * e - b * d) / det),
    )


def _xyz(primaries: int) -> Matrix:
    """RGB → XYZ (SMPTE RP 177)."""
    rx, ry, gx, gy, bx, by, wx, wy = _PRIMARIES[primaries]
    shape: Matrix = (
        (rx / ry, gx / gy, bx / by),
        (1.0, 1.0, 1.0),
        ((1 - rx - ry) / ry, (1 - gx - gy) / gy, (1 - bx - by) / by),
    )
    white = (wx / wy, 1.0, (1 - wx - wy) / wy)
    scale = [sum(row[k] * white[k] for k in range(3)) for row in _inverse(shape)]
    rows = [tuple(row[k] * scale[k] for k in range(3)) for row in shape]
    return rows[0], rows[1], rows[2]  # type: ignore[return-value]


def _luminance(primaries: int) -> Row:
    return _xyz(primaries)[1]


@functools.cache
def _to_bt709(primaries: int) -> Matrix:
    """Linear RGB of these primaries → of sRGB's; white stays white."""
    if primaries not in _PRIMARIES:
        primaries = 1
    matrix = _product(_inverse(_xyz(1)), _xyz(primaries))
    # White points that are not D65 (DCI, BT.470 M) are scaled to it, channel by channel.
    whites = [sum(row) for row in matrix]
    rows = [tuple(v / w for v in row) for row, w in zip(matrix, whites, strict=True)]
    return rows[0], rows[1], rows[2]  # type: ignore[return-value]
