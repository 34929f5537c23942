"""What clients say of an upload: names, types, digests, and the order that it carries."""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath

from telecine.service import orders
from telecine.service.domain import Invalid
from telecine.service.orders import Order

NAMELESS = "upload"

_TYPE = re.compile(r"(video|audio|image)/[A-Za-z0-9][A-Za-z0-9.+_-]{0,100}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


def clean_name(filename: str) -> str:
    """The last part of a path, without what does not print; it names nothing of ours."""
    name = PurePosixPath(_UNPRINTABLE.sub("", filename).replace("\\", "/")).name.strip()
    return name[-255:] if name.strip(".") else NAMELESS


def clean_title(title: str) -> str:
    return _UNPRINTABLE.sub(" ", title).strip()[:300]


def title_of(filename: str) -> str:
    """A file's name without its ending: what a title is when nobody gives one."""
    return PurePosixPath(filename).stem[:300] or filename[:300]


def clean_type(content_type: str) -> str:
    """The client's word, if it is a type of media; it is sent back with the source some day."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind if _TYPE.fullmatch(kind) else "application/octet-stream"


def read_wish(on_complete: str | None, preset: str | None) -> Order | None:
    """The order that a form's field or a tus header carries: JSON as of `create_upload`, or a
    preset's name. Raises as `orders.make_order`, and `Invalid` (`on_complete_invalid`)."""
    if not on_complete:
        return orders.make_order(preset=preset) if preset else None
    try:
        plain = json.loads(on_complete)
    except (ValueError, RecursionError):
        plain = None
    if not isinstance(plain, dict) or not plain.keys() <= _WISH.keys() or preset:
        raise _wish_invalid()
    if any(not isinstance(plain[name], _WISH[name]) for name in plain):
        raise _wish_invalid()
    if any(not isinstance(output, dict) for output in plain.get("outputs") or ()):
        raise _wish_invalid()
    return orders.make_order(**plain)


_WISH: dict[str, tuple[type, ...]] = {
    "preset": (str, type(None)),
    "outputs": (list, type(None)),
    "priority": (int,),
    "metadata": (dict, type(None)),
    "source_policy": (str,),
}


def _wish_invalid() -> Invalid:
    return Invalid(
        'on_complete: JSON such as {"preset": "stream"} or {"outputs": [{"type": "hls"}]}, and '
        "no preset beside it",
        code="on_complete_invalid",
    )


def check_digest(sha256: str | None) -> str | None:
    """A SHA-256 in hexadecimal, small letters. Raises `Invalid` (`sha256_invalid`)."""
    if sha256 is None or _DIGEST.fullmatch(sha256.lower()):
        return None if sha256 is None else sha256.lower()
    raise Invalid("sha256: 64 hexadecimal digits", code="sha256_invalid")
