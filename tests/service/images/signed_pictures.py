"""Pictures that are uploaded, and URLs of them that are signed as the documentation says."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from typing import Any

from tests.service.owners import Owner


@dataclass(frozen=True)
class Key:
    """An image key. It signs as docs/howto/image-urls.md says in words, not by our code."""

    id: str
    secret: str

    def path(self, asset_id: str, ops: str = "-", ext: str = "png", expiry: int | str = "") -> str:
        text = f"{self.id}.{expiry}/{ops}/{asset_id}.{ext}"
        mac = hmac.new(self.secret.encode("ascii"), text.encode(), hashlib.sha256).digest()
        signature = base64.urlsafe_b64encode(mac).decode("ascii").rstrip("=")
        return f"/i/{self.id}.{expiry}.{signature}/{ops}/{asset_id}.{ext}"


def key_of(owner: Owner, name: str = "pages") -> Key:
    made = owner.post("/v1/image-keys", {"name": name}, 201)
    return Key(made["id"], made["secret"])


def upload(owner: Owner, data: bytes, name: str = "picture.png") -> str:
    """The id of the asset that this file becomes."""
    sent: dict[str, Any] = {"files": {"file": (name, data, "application/octet-stream")}}
    answer = owner.ask("POST", "/v1/uploads/form", 201, **sent)
    found: str = answer["asset_id"]
    return found
