"""Image keys: what signs URLs of a user's pictures. Of a key only its id is kept: its secret is
derived from that and the installation's own, so that a signature is checked before anything else
is looked at, and no copy of the database signs anything.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from telecine.service import image_urls, logs
from telecine.service.db import image_keys as db
from telecine.service.db.image_keys import ImageKey
from telecine.service.domain import Forbidden, NotFound, Principal
from telecine.service.image_urls import ImageUrl
from telecine.service.services import Services
from telecine.service.signing import Signer

PREFIX = "tci"

log = logs.get_logger("accounts")


@dataclass(frozen=True, slots=True)
class NewImageKey:
    """A key with its secret: shown once."""

    key: ImageKey
    secret: str


def create(services: Services, who: Principal, *, name: str) -> NewImageKey:
    """A new key of the asker, good until it is revoked."""
    with services.database.write() as tx:
        key = db.add_image_key(tx, who.user_id, name)
    log.info("image_key_created", user_id=who.user_id, key_id=key.id)
    return NewImageKey(key, secret_of(services.signer, key.id))


def list_mine(
    services: Services, who: Principal, *, after: str | None, limit: int
) -> list[ImageKey]:
    """The asker's keys that are not revoked, the newest first."""
    with services.database.read() as tx:
        return db.image_keys_page(tx, who.user_id, after=after, limit=limit)


def revoke(services: Services, who: Principal, key_id: str) -> None:
    """Every URL that the key has signed is refused within a second. Raises `NotFound`
    (`image_key_unknown`)."""
    with services.database.write() as tx:
        revoked = db.revoke_image_key(tx, who.user_id, key_id)
    if not revoked:
        raise NotFound("there is no such image key of yours", code="image_key_unknown")
    log.info("image_key_revoked", user_id=who.user_id, key_id=key_id)


def secret_of(signer: Signer, key_id: str) -> str:
    """The secret of the key of this id, whether there is such a key or not."""
    return f"{PREFIX}_{signer.key(f'image-key {key_id}').hex()}"


def check(signer: Signer, link: str, ops: str, asset_id: str, extension: str) -> ImageUrl:
    """The URL, if it is signed as this installation's keys sign; that its key is in use is not
    known yet. In constant time, before anything is read or asked of a database. Raises `Forbidden`
    (`signature_invalid`)."""
    url = image_urls.read_url(link, ops, asset_id, extension)
    if url is None:
        raise wrong_signature()
    expected = image_urls.sign(secret_of(signer, url.key_id), url.signed)
    if not hmac.compare_digest(expected.encode(), url.signature.encode()):
        raise wrong_signature()
    return url


def wrong_signature() -> Forbidden:
    return Forbidden(
        "this URL is not signed, or was altered, or its key was revoked", code="signature_invalid"
    )
