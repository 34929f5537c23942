"""Rows of users, sessions, refresh tokens, API keys and one-time tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from telecine.service.db import tables as t
from telecine.service.db.connection import Tx
from telecine.service.domain import Role, Scope, new_id

OneTimePurpose = Literal["first_admin", "invite", "password_reset"]

# Bytes of a deleted user are collected after the tasks that may still write them have noticed.
GARBAGE_DELAY_S = 60
# A session that is over stays so long: its address is one that the owner has used.
REMEMBERED_S = 90 * 24 * 3600


@dataclass(frozen=True, slots=True)
class User:
    """One account. `max_upload_bytes` and `max_running_jobs` are null where the setting holds."""

    id: str
    email: str
    name: str
    password_hash: str
    role: Role
    disabled: bool
    max_upload_bytes: int | None
    max_running_jobs: int | None
    created_at: float


@dataclass(frozen=True, slots=True)
class Session:
    """One log-in, on one device."""

    id: str
    user_id: str
    created_at: float
    last_used_at: float
    expires_at: float
    ended_at: float | None
    address: str
    user_agent: str


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is kept: enough to know it by, not to use it."""

    id: str
    user_id: str
    name: str
    prefix: str
    secret_hash: str
    scopes: tuple[Scope, ...]
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    last_used_at: float | None


# --- users ------------------------------------------------------------------------------------


def add_user(tx: Tx, *, email: str, name: str, password_hash: str, role: Role) -> User:
    """Raises `sqlalchemy.exc.IntegrityError` where the address is taken."""
    user_id = new_id()
    tx.connection.execute(
        sa.insert(t.users).values(
            id=user_id,
            email=email,
            name=name,
            password_hash=password_hash,
            role=role,
            created_at=tx.now,
        )
    )
    found = user_by_id(tx, user_id)
    assert found is not None
    return found


def user_by_id(tx: Tx, user_id: str) -> User | None:
    return _one_user(tx, t.users.c.id == user_id)


def lock_user(tx: Tx, user_id: str) -> User | None:
    """The same; the row does not change until the transaction ends, but by it."""
    return _one_user(tx, t.users.c.id == user_id, lock=True)


def user_by_email(tx: Tx, email: str) -> User | None:
    return _one_user(tx, t.users.c.email == email)


def _one_user(tx: Tx, where: sa.ColumnElement[bool], *, lock: bool = False) -> User | None:
    query = sa.select(t.users).where(where)
    if lock:
        query = query.with_for_update()
    row = tx.connection.execute(query).mappings().one_or_none()
    return None if row is None else User(**row)


def users_page(tx: Tx, after: str | None, limit: int) -> list[User]:
    """The newest first, from behind the id `after` on."""
    query = sa.select(t.users).order_by(t.users.c.id.desc()).limit(limit)
    if after is not None:
        query = query.where(t.users.c.id < after)
    return [User(**row) for row in tx.connection.execute(query).mappings()]


def change_user(tx: Tx, user_id: str, changes: dict[str, Any]) -> None:
    """Raises `sqlalchemy.exc.IntegrityError` where the address is taken."""
    if not changes:
        return
    tx.connection.execute(sa.update(t.users).where(t.users.c.id == user_id).values(changes))


def replace_hash(tx: Tx, user_id: str, old: str, new: str) -> bool:
    """Put a new hash where the old one still stands; whether it did."""
    changed = tx.connection.execute(
        sa.update(t.users)
        .where(t.users.c.id == user_id, t.users.c.password_hash == old)
        .values(password_hash=new)
    )
    return changed.rowcount == 1


def admins(tx: Tx, *, lock: bool = False) -> frozenset[str]:
    """Ids of the administrators who are not disabled. Locked, none of them changes until the
    transaction ends, but by it."""
    query = sa.select(t.users.c.id, t.users.c.disabled).where(t.users.c.role == "admin")
    if lock:
        query = query.order_by(t.users.c.id).with_for_update()
    return frozenset(row.id for row in tx.connection.execute(query) if not row.disabled)


def limit_tenant(tx: Tx, user_id: str, max_running_jobs: int) -> None:
    """Let the queue know, where it knows this user already."""
    tx.connection.execute(
        sa.update(t.tenants)
        .where(t.tenants.c.user_id == user_id)
        .values(max_running_jobs=max_running_jobs)
    )


def delete_user(tx: Tx, user_id: str) -> None:
    """Remove a user and every row of theirs; what lies in storage becomes garbage."""
    sources, posters = t.assets.c.source_key, t.assets.c.poster_key
    for key in (sources, posters, t.uploads.c.storage_key):
        _throw_away(tx, sa.select(key).where(key.table.c.user_id == user_id, key.is_not(None)))
    # Before the assets, from which they are found; their uses would go along, the rows would not.
    made_of = (
        sa.select(t.derivative_uses.c.digest)
        .join(t.assets, t.assets.c.id == t.derivative_uses.c.asset_id)
        .where(t.assets.c.user_id == user_id)
    )
    theirs = t.derivatives.c.digest.in_(made_of)
    _throw_away(tx, sa.select(t.derivatives.c.storage_key).where(theirs))
    tx.connection.execute(sa.delete(t.derivatives).where(theirs))
    # Everything that a job's attempts wrote lies below one prefix.
    prefix = sa.literal("tasks/") + t.jobs.c.id + sa.literal("/")
    _throw_away(tx, sa.select(prefix).where(t.jobs.c.user_id == user_id))
    for owned in (t.idempotency.c.user_id, t.one_time_tokens.c.created_by):
        tx.connection.execute(sa.delete(owned.table).where(owned == user_id))
    tx.connection.execute(sa.delete(t.users).where(t.users.c.id == user_id))


def _throw_away(tx: Tx, query: sa.Select[str]) -> None:
    not_before = tx.now_s() + GARBAGE_DELAY_S
    rows = [
        {"id": new_id(), "prefix": key, "not_before": not_before}
        for key in tx.connection.execute(query.distinct()).scalars()
    ]
    if rows:
        tx.connection.execute(sa.insert(t.garbage), rows)


# --- sessions ---------------------------------------------------------------------------------


def add_session(
    tx: Tx, user_id: str, *, ttl_s: float, address: str, user_agent: str, refresh_hash: str
) -> Session:
    """A new session and its first refresh token."""
    session_id = new_id()
    tx.connection.execute(
        sa.insert(t.sessions).values(
            id=session_id,
            user_id=user_id,
            created_at=tx.now,
            last_used_at=tx.now,
            expires_at=tx.now + ttl_s,
            address=address,
            user_agent=user_agent,
        )
    )
    add_refresh_token(tx, session_id, refresh_hash)
    row = tx.connection.execute(sa.select(t.sessions).where(t.sessions.c.id == session_id))
    return Session(**row.mappings().one())


def session_by_id(tx: Tx, session_id: str) -> Session | None:
    return _one_session(tx, t.sessions.c.id == session_id)


def session_of_refresh(tx: Tx, token_hash: str) -> Session | None:
    """The session that a refresh token, used or not, was made for."""
    c = t.refresh_tokens.c
    ids = sa.select(c.session_id).where(c.token_hash == token_hash)
    return _one_session(tx, t.sessions.c.id.in_(ids))


def _one_session(tx: Tx, where: sa.ColumnElement[bool]) -> Session | None:
    row = tx.connection.execute(sa.select(t.sessions).where(where)).mappings().one_or_none()
    return None if row is None else Session(**row)


def live_sessions_page(
    tx: Tx, user_id: str, *, idle_s: float, after: str | None, limit: int
) -> list[Session]:
    """Sessions that are neither ended nor over, the newest first."""
    c = t.sessions.c
    query = (
        sa.select(t.sessions)
        .where(c.user_id == user_id, c.ended_at.is_(None))
        .where(c.expires_at > tx.now, c.last_used_at > tx.now - idle_s)
        .order_by(c.id.desc())
        .limit(limit)
    )
    if after is not None:
        query = query.where(c.id < after)
    return [Session(**row) for row in tx.connection.execute(query).mappings()]


def end_sessions(tx: Tx, user_id: str, *, only: str | None = None, but: str | None = None) -> int:
    """End a user's sessions, or one, or all but one; how many were ended."""
    c = t.sessions.c
    query = sa.update(t.sessions).where(c.user_id == user_id, c.ended_at.is_(None))
    if only is not None:
        query = query.where(c.id == only)
    if but is not None:
        query = query.where(c.id != but)
    return tx.connection.execute(query.values(ended_at=tx.now)).rowcount


def touch_session(tx: Tx, session_id: str) -> None:
    tx.connection.execute(
        sa.update(t.sessions).where(t.sessions.c.id == session_id).values(last_used_at=tx.now)
    )


def addresses_of(tx: Tx, email: str) -> frozenset[str]:
    """From where this account's owner has logged in."""
    query = sa.select(t.sessions.c.address).join(t.users).where(t.users.c.email == email).distinct()
    return frozenset(tx.connection.execute(query).scalars())


def forget_sessions(tx: Tx, user_id: str) -> None:
    """Remove a user's sessions that were over long ago, with their refresh tokens."""
    c = t.sessions.c
    long_ago = tx.now - REMEMBERED_S
    tx.connection.execute(
        sa.delete(t.sessions).where(
            c.user_id == user_id, sa.or_(c.ended_at < long_ago, c.expires_at < long_ago)
        )
    )


# --- refresh tokens ---------------------------------------------------------------------------


def add_refresh_token(tx: Tx, session_id: str, token_hash: str) -> None:
    tx.connection.execute(
        sa.insert(t.refresh_tokens).values(
            token_hash=token_hash, session_id=session_id, created_at=tx.now
        )
    )


def use_refresh_tokens(tx: Tx, session_id: str) -> None:
    """One of the tokens of a session that were not used is used now: then no other is good any
    more, and all have the same moment."""
    c = t.refresh_tokens.c
    tx.connection.execute(
        sa.update(t.refresh_tokens)
        .where(c.session_id == session_id, c.used_at.is_(None))
        .values(used_at=tx.now)
    )


def refresh_token_use(tx: Tx, token_hash: str) -> tuple[float, bool] | None:
    """Seconds since a refresh token was used up, and whether none of its session's was later; None:
    it was not."""
    c = t.refresh_tokens.c
    family = t.refresh_tokens.alias()
    last = (
        sa.select(sa.func.max(family.c.used_at))
        .where(family.c.session_id == c.session_id)
        .scalar_subquery()
    )
    query = sa.select(tx.now - c.used_at, c.used_at == last).where(c.token_hash == token_hash)
    since_s, is_last = tx.connection.execute(query).one()
    return None if since_s is None else (float(since_s), bool(is_last))


# --- API keys ---------------------------------------------------------------------------------


def add_api_key(
    tx: Tx,
    user_id: str,
    *,
    name: str,
    prefix: str,
    secret_hash: str,
    scopes: Sequence[Scope],
    expires_at: float | None,
) -> ApiKey:
    key_id = new_id()
    tx.connection.execute(
        sa.insert(t.api_keys).values(
            id=key_id,
            user_id=user_id,
            name=name,
            prefix=prefix,
            secret_hash=secret_hash,
            scopes=list(scopes),
            created_at=tx.now,
            expires_at=expires_at,
        )
    )
    row = tx.connection.execute(sa.select(t.api_keys).where(t.api_keys.c.id == key_id))
    return _api_key(row.mappings().one())


def api_key_by_id(tx: Tx, key_id: str) -> ApiKey | None:
    return _one_api_key(tx, t.api_keys.c.id == key_id)


def api_key_by_prefix(tx: Tx, prefix: str) -> ApiKey | None:
    """The key that begins so, whatever its state."""
    return _one_api_key(tx, t.api_keys.c.prefix == prefix)


def _one_api_key(tx: Tx, where: sa.ColumnElement[bool]) -> ApiKey | None:
    row = tx.connection.execute(sa.select(t.api_keys).where(where)).mappings().one_or_none()
    return None if row is None else _api_key(row)


def api_keys_page(tx: Tx, user_id: str, *, after: str | None, limit: int) -> list[ApiKey]:
    """A user's keys that are not revoked, the newest first."""
    c = t.api_keys.c
    query = (
        sa.select(t.api_keys)
        .where(c.user_id == user_id, c.revoked_at.is_(None))
        .order_by(c.id.desc())
        .limit(limit)
    )
    if after is not None:
        query = query.where(c.id < after)
    return [_api_key(row) for row in tx.connection.execute(query).mappings()]


def revoke_api_key(tx: Tx, user_id: str, key_id: str) -> bool:
    """Whether there was such a key of this user that was not revoked."""
    c = t.api_keys.c
    changed = tx.connection.execute(
        sa.update(t.api_keys)
        .where(c.id == key_id, c.user_id == user_id, c.revoked_at.is_(None))
        .values(revoked_at=tx.now)
    )
    return changed.rowcount == 1


def touch_api_key(tx: Tx, key_id: str) -> None:
    tx.connection.execute(
        sa.update(t.api_keys).where(t.api_keys.c.id == key_id).values(last_used_at=tx.now)
    )


def _api_key(row: sa.RowMapping) -> ApiKey:
    return ApiKey(**{**row, "scopes": tuple(row["scopes"])})


# --- one-time tokens --------------------------------------------------------------------------


def add_one_time_token(
    tx: Tx,
    *,
    token_hash: str,
    purpose: OneTimePurpose,
    ttl_s: float,
    user_id: str | None = None,
    created_by: str | None = None,
) -> float:
    """When it expires. Tokens that are used or expired are removed on the way."""
    c = t.one_time_tokens.c
    tx.connection.execute(
        sa.delete(t.one_time_tokens).where(sa.or_(c.used_at.is_not(None), c.expires_at < tx.now))
    )
    expires_at = tx.now_s() + ttl_s
    tx.connection.execute(
        sa.insert(t.one_time_tokens).values(
            token_hash=token_hash,
            purpose=purpose,
            user_id=user_id,
            created_by=created_by,
            created_at=tx.now,
            expires_at=expires_at,
        )
    )
    return expires_at


def one_time_token(tx: Tx, token_hash: str) -> tuple[OneTimePurpose, str | None] | None:
    """Purpose and user of a token that is still good."""
    row = tx.connection.execute(
        sa.select(t.one_time_tokens.c.purpose, t.one_time_tokens.c.user_id).where(
            *_good(tx, token_hash)
        )
    ).one_or_none()
    return None if row is None else (row.purpose, row.user_id)


def use_one_time_token(tx: Tx, token_hash: str) -> bool:
    """Use it up; whether it was still good. Of two at once one is the first."""
    used = tx.connection.execute(
        sa.update(t.one_time_tokens).where(*_good(tx, token_hash)).values(used_at=tx.now)
    )
    return used.rowcount == 1


def drop_one_time_tokens(tx: Tx, purpose: OneTimePurpose, *, user_id: str | None = None) -> None:
    """Remove all tokens of a purpose, or those for one user."""
    query = sa.delete(t.one_time_tokens).where(t.one_time_tokens.c.purpose == purpose)
    if user_id is not None:
        query = query.where(t.one_time_tokens.c.user_id == user_id)
    tx.connection.execute(query)


def _good(tx: Tx, token_hash: str) -> tuple[sa.ColumnElement[bool], ...]:
    c = t.one_time_tokens.c
    return (c.token_hash == token_hash, c.used_at.is_(None), c.expires_at > tx.now)
