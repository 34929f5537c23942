"""API keys: `tck_<prefix>_<secret>`, for programs. The prefix finds the row and may be seen; of the
secret's 256 bits a SHA-256 is kept. A key does what its scopes say, and nothing with accounts.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass

from telecine.service import logs, tokens
from telecine.service.db import accounts as db
from telecine.service.db.accounts import ApiKey
from telecine.service.domain import NotFound, Principal, Scope, Unauthenticated
from telecine.service.services import Services

PREFIX_BYTES = 6
TOUCH_S = 60  # when a key was last used is written at most so often

_FORM = re.compile(rf"{tokens.API_KEY}_([0-9a-f]{{{2 * PREFIX_BYTES}}})_[0-9a-f]{{64}}")

log = logs.get_logger("accounts")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key with its text: shown once."""

    key: ApiKey
    text: str


def create(
    services: Services,
    who: Principal,
    *,
    name: str,
    scopes: Collection[Scope],
    expires_in_s: int | None,
) -> NewKey:
    """A new key of the asker."""
    prefix = secrets.token_hex(PREFIX_BYTES)
    text = f"{tokens.API_KEY}_{prefix}_{secrets.token_hex(32)}"
    with services.database.write() as tx:
        key = db.add_api_key(
            tx,
            who.user_id,
            name=name,
            prefix=f"{tokens.API_KEY}_{prefix}",
            secret_hash=tokens.digest(text),
            scopes=sorted(set(scopes)),
            expires_at=None if expires_in_s is None else tx.now_s() + expires_in_s,
        )
    log.info("api_key_created", user_id=who.user_id, key_id=key.id)
    return NewKey(key, text)


def list_mine(services: Services, who: Principal, *, after: str | None, limit: int) -> list[ApiKey]:
    """The asker's keys that are not revoked, expired ones too, the newest first."""
    with services.database.read() as tx:
        return db.api_keys_page(tx, who.user_id, after=after, limit=limit)


def revoke(services: Services, who: Principal, key_id: str) -> None:
    """The key is refused from the next request on. Raises `NotFound` (`key_unknown`)."""
    with services.database.write() as tx:
        revoked = db.revoke_api_key(tx, who.user_id, key_id)
    if not revoked:
        raise NotFound("there is no such key of yours", code="key_unknown")
    log.info("api_key_revoked", user_id=who.user_id, key_id=key_id)


def by_api_key(services: Services, text: str) -> Principal:
    """Who holds this key. Its role is `user`, whoever made it. Raises `Unauthenticated`
    (`key_invalid`)."""
    form = _FORM.fullmatch(text)
    if form is None:
        raise _invalid()
    with services.database.read() as tx:
        now_s = tx.now_s()
        key = db.api_key_by_prefix(tx, f"{tokens.API_KEY}_{form[1]}")
        user = None if key is None else db.user_by_id(tx, key.user_id)
    if key is None or not hmac.compare_digest(key.secret_hash, tokens.digest(text)):
        raise _invalid()
    if user is None or user.disabled or not is_good(key, now_s):
        raise _invalid()
    if key.last_used_at is None or now_s - key.last_used_at >= TOUCH_S:
        with services.database.write() as tx:
            db.touch_api_key(tx, key.id)
    return Principal(user_id=user.id, role="user", scopes=frozenset(key.scopes), key_id=key.id)


def is_good(key: ApiKey, now_s: float) -> bool:
    """Whether a key is neither revoked nor expired."""
    expired = key.expires_at is not None and now_s >= key.expires_at
    return key.revoked_at is None and not expired


def _invalid() -> Unauthenticated:
    return Unauthenticated("this API key is not valid", code="key_invalid")
