"""Pure: how what streams is encrypted, in words, and the key for it.

The key is never part of a `Protection`, which stands in plans and reports: that has its number and
a check value, by which the wrong key is told from the right one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from telecine.engine.errors import UsageError

# aes-128: whole segments, in HLS alone (RFC 8216, 4.3.2.4). cbcs: the coded pictures and sound
# inside of them, in HLS and DASH (ISO/IEC 23001-7, 10.4).
Scheme = Literal["aes-128", "cbcs"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)

KEY_BYTES = 16
MAX_URI = 2000

_HEX = "[0-9A-Fa-f]{32}"
_URI = r"[!#-;=?-\[\]_a-z~%]+"  # RFC 3986, 2: nothing that ends a quoted string


@dataclass(frozen=True, slots=True, repr=False)
class ContentKey:
    """16 secret bytes. They stand in no text that this object is put into."""

    data: bytes

    def __repr__(self) -> str:
        return "ContentKey(…)"


@dataclass(frozen=True, slots=True)
class Protection:
    """`key_id` are 32 hex digits, `uri` is where players ask for the key's 16 bytes; one without a
    scheme or a slash before it counts from the folder of `master.m3u8`. `check` is eight hex digits
    that only the right key gives."""

    scheme: Scheme
    key_id: str
    check: str
    uri: str


def parse_key(data: bytes) -> ContentKey:
    """16 bytes, or 32 hex digits with space around them. Raises `UsageError`
    (`content_key_invalid`), which says nothing of what they are."""
    if len(data) == KEY_BYTES:
        return ContentKey(data)
    digits = data.strip()
    if not re.fullmatch(_HEX.encode(), digits):
        raise UsageError(
            f"the key is neither {KEY_BYTES} bytes nor {2 * KEY_BYTES} hex digits",
            code="content_key_invalid",
        )
    return ContentKey(bytes.fromhex(digits.decode()))


def make_protection(
    scheme: str, uri: str, key: ContentKey, key_id: str | None = None
) -> Protection:
    """How to protect with this key. Where no `key_id` is given (32 hex digits, dashes of a UUID
    left out or not) the key has one that follows from it.

    Raises `UsageError` (`protection_unknown`, `key_id_invalid`, `key_uri_invalid`).
    """
    known = {name: name for name in SCHEMES}
    if scheme not in known:
        raise UsageError(
            f"protection {scheme[:40]!r}: one of {', '.join(known)}", code="protection_unknown"
        )
    number = _digest(b"id", key)[:32] if key_id is None else key_id.replace("-", "").lower()
    if not re.fullmatch(_HEX, number):
        raise UsageError(
            "a key id is 32 hex digits, such as those of a UUID", code="key_id_invalid"
        )
    # A `data:` URI holds the key itself, and would stand in plans and playlists.
    if not re.fullmatch(_URI, uri) or len(uri) > MAX_URI or uri.lower().startswith("data:"):
        raise UsageError(
            f"the key's URI is where players ask for it: at most {MAX_URI} characters of a URI, "
            "and not the key itself (data:)",
            code="key_uri_invalid",
        )
    return Protection(known[scheme], number, _digest(number.encode(), key)[:8], uri)


def _digest(what: bytes, key: ContentKey) -> str:
    import hashlib  # brings OpenSSL, and the command line reads these words at its start

    return hashlib.sha256(b"telecine key\0" + what + b"\0" + key.data).hexdigest()


def see_key(protection: Protection | None, key: ContentKey | None) -> ContentKey | None:
    """The key where something is protected by it. Raises `UsageError` (`key_missing`,
    `key_mismatch`)."""
    if protection is None:
        return None
    if key is None:
        raise UsageError(
            f"what streams is encrypted: its key ({protection.key_id}) is needed",
            code="key_missing",
        )
    if _digest(protection.key_id.encode(), key)[:8] != protection.check:
        raise UsageError(
            f"this is not the key {protection.key_id} that the plan names", code="key_mismatch"
        )
    return key


def uri_from(protection: Protection, folder: str) -> str:
    """The key's URI as a playlist in `folder`, relative to that of `master.m3u8`, names it."""
    if protection.uri.startswith("/") or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", protection.uri):
        return protection.uri
    return "../" * len([part for part in folder.split("/") if part]) + protection.uri
