"""Signed URLs of pictures, made without asking the service."""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import quote

from telecine.client.connection import origin

NO_OPS = "-"
_PLAIN = ":;,=+!"  # what operations are written with, and a path may hold as it is


class ImageUrls:
    """Signs URLs of one service with one image key (`Client.create_image_key`).

    `url` is a scheme, a host and a port; anything else raises `ValueError`. Whoever has a URL sees
    the picture until it expires or the key is revoked; whoever has the secret can sign any.
    """

    def __init__(self, url: str, key_id: str, secret: str) -> None:
        self._origin = origin(url)
        self._key_id = key_id
        self._secret = secret.encode()

    def sign(
        self,
        asset_id: str,
        ops: str = "",
        *,
        format: str = "auto",
        expires_at: int | None = None,
    ) -> str:
        """The URL of a picture of this asset. `ops` in their canonical form, as in
        `resize:w=800,h=600;rotate:angle=90` (the service says it, where they are not); `format` is
        `jpg`, `png`, `webp`, `avif`, `gif`, `tiff`, or `auto`: what the browser accepts.
        `expires_at` in seconds since 1970; None: never."""
        link = f"{self._key_id}.{'' if expires_at is None else expires_at}"
        path = f"{ops or NO_OPS}/{asset_id}.{format}"
        mac = hmac.digest(self._secret, f"{link}/{path}".encode(), hashlib.sha256)
        signature = base64.urlsafe_b64encode(mac).decode().rstrip("=")
        return f"{self._origin}/i/{link}.{signature}/{quote(path, safe='/' + _PLAIN)}"
