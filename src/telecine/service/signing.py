"""Signed, expiring texts: links to files, parts of uploads, tokens in a path.

HMAC-SHA256 with a key of its own per purpose, derived from the installation's secret (HKDF's expand
step, RFC 5869), so that a signature for one purpose is none for another.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from pathlib import Path

SECRET_BYTES = 32


def load_secret(path: Path) -> bytes:
    """The installation's secret; made on first use, readable by its owner alone.

    Raises `OSError`, and `ValueError` where the file holds no secret of ours.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Written under a name of its own and linked: whoever reads it sees all of it.
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(secrets.token_hex(SECRET_BYTES))
        try:
            os.link(temporary, path)
        finally:
            temporary.unlink()
    except FileExistsError:
        pass
    secret = bytes.fromhex(path.read_text().strip())
    if len(secret) < SECRET_BYTES:
        raise ValueError(f"{path} holds no secret of {SECRET_BYTES} bytes")
    return secret


class Signer:
    """Signs and checks texts. Knows no clock: who calls says when a signature expires and what
    time it is."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def key(self, purpose: str) -> bytes:
        """32 bytes for this purpose alone."""
        return hmac.digest(self._secret, purpose.encode() + b"\x01", hashlib.sha256)

    def sign(self, purpose: str, text: str, expires_at: int) -> str:
        """`EXPIRY.SIGNATURE`, fit for a path or a query: good for `text` until then."""
        mac = hmac.digest(self.key(purpose), f"{expires_at}\n{text}".encode(), hashlib.sha256)
        return f"{expires_at}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"

    def valid(self, purpose: str, text: str, signature: str, now_s: float) -> bool:
        """Whether `sign` made this for this text and it has not expired."""
        expiry, _, _ = signature.partition(".")
        if not (expiry.isascii() and expiry.isdigit() and len(expiry) <= 12):
            return False
        good = hmac.compare_digest(
            self.sign(purpose, text, int(expiry)).encode(), signature.encode()
        )
        return good and now_s < int(expiry)
