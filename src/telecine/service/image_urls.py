"""What a signed URL of a picture says: `/i/{kid}.{expiry}.{signature}/{ops}/{asset}.{ext}`.

The signature is the base64url form, without padding, of HMAC-SHA256 over the text that follows
`/i/` in the URL less the signature and its point: `{kid}.{expiry}/{ops}/{asset}.{ext}`. The key of
the HMAC is the secret as it was shown, byte for byte. `expiry` is in seconds since 1970, or empty.
docs/howto/image-urls.md shows it in five languages.

Pure: whether there is such a key, and what its secret is, `image_keys` knows.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from itertools import product

from telecine.engine.images import formats

PIPELINE = 1  # +1 whenever the same operations give other bytes than before
NO_OPS = "-"  # in a URL: a path has no empty part
AUTO = "auto"
FORMATS = {formats.FORMATS[name].extensions[0]: name for name in formats.WRITTEN}

_LINK = re.compile(r"([0-9A-HJKMNP-TV-Z]{26})\.([0-9]{0,12})\.([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class ImageUrl:
    """The parts of a URL as they stand in it, percent-encoding undone. `ops`: the grammar's text
    form, or `-` for none."""

    key_id: str
    expiry: str
    signature: str
    ops: str
    asset_id: str
    extension: str

    @property
    def expires_at(self) -> int | None:
        return int(self.expiry) if self.expiry else None

    @property
    def signed(self) -> str:
        """The text that is signed."""
        return f"{self.key_id}.{self.expiry}/{self.ops}/{self.asset_id}.{self.extension}"


def read_url(link: str, ops: str, asset_id: str, extension: str) -> ImageUrl | None:
    """The URL, whose last three parts may be anything; None: its first part is no link of ours, or
    there is a NUL in the asset's id, which PostgreSQL takes in no text."""
    found = _LINK.fullmatch(link)
    if found is None or "\0" in asset_id:
        return None
    return ImageUrl(found[1], found[2], found[3], ops, asset_id, extension)


def sign(secret: str, text: str) -> str:
    """The signature of a URL's text."""
    mac = hmac.digest(secret.encode(), text.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(mac).decode().rstrip("=")


# --- what is asked, as a name ---------------------------------------------------------------------


@lru_cache(maxsize=512)
def choices(accept: str) -> str:
    """What an `Accept` header makes of `auto`, for a still or animated picture with or without
    transparency: headers that are answered alike give the same text."""
    return ".".join(
        formats.negotiate(accept, animated=animated, alpha=alpha)
        for animated, alpha in product((False, True), repeat=2)
    )


def choose(choices: str, *, animated: bool, alpha: bool) -> str:
    """The format of `auto` for a picture, of what `choices` gave."""
    return choices.split(".")[2 * animated + alpha]


def request_name(url: ImageUrl, accept: str) -> str:
    """What is asked of the asset: two URLs that ask the same of it have the same name, whoever
    signed them."""
    wanted = url.extension if url.extension != AUTO else f"{AUTO} {choices(accept)}"
    return _digest(_engine(), url.ops, wanted)


def content_name(
    user_id: str, sha256: str, ops: str, format: str, laid_over: Iterable[tuple[str, str]]
) -> str:
    """The name of a derivative: what it is made of and how. `laid_over`: the ids and SHA-256 of the
    pictures in its operations.

    The owner is part of it: one who asks for a picture that they uploaded themselves cannot tell,
    by how soon it comes, whether somebody else has it too.
    """
    others = [f"{asset_id} {digest}" for asset_id, digest in sorted(laid_over)]
    return _digest(_engine(), user_id, sha256, ops, format, *others)


def storage_key(name: str, format: str) -> str:
    return f"images/{name[:2]}/{name}.{formats.FORMATS[format].extensions[0]}"


@lru_cache(maxsize=1)
def _engine() -> str:
    """Whatever gives other bytes of the same picture when it changes."""
    try:
        libvips = version("pyvips-binary")
    except PackageNotFoundError:  # the system's libvips
        libvips = "system"
    return f"{version('telecine')} {libvips} {PIPELINE}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
