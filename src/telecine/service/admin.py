"""What administrators do, over HTTP and by `telecine admin`: users, roles, invitations, one-time
links. Who may is for the callers to check.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy.exc import IntegrityError

from telecine.service import accounts, logs, tokens
from telecine.service.db import accounts as db
from telecine.service.db.accounts import OneTimePurpose, User
from telecine.service.db.connection import Tx
from telecine.service.domain import Role
from telecine.service.emails import checked_email, normalised_email
from telecine.service.passwords import check_new_password
from telecine.service.services import Services
from telecine.service.settings import Settings

FIRST_ADMIN_TTL_S = 7 * 24 * 3600
INVITE_TTL_S = 7 * 24 * 3600
RESET_TTL_S = 24 * 3600

log = logs.get_logger("accounts")


@dataclass(frozen=True, slots=True)
class OneTimeToken:
    """A token that is good once, until then: shown once."""

    text: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class Keep:
    """Stands for a value that is not to be changed, where null is a value of its own."""


@dataclass(frozen=True, slots=True)
class UserChange:
    """What is to be another about a user. A limit of null gives the setting's back."""

    role: Role | Keep = Keep()
    disabled: bool | Keep = Keep()
    max_upload_bytes: int | Keep | None = Keep()
    max_running_jobs: int | Keep | None = Keep()


def first_admin_token(services: Services) -> str | None:
    """A token that makes who signs up with it an administrator, while there is none: else None.
    Only the newest is good."""
    with services.database.write() as tx:
        if db.admins(tx):
            return None
        db.drop_one_time_tokens(tx, "first_admin")
        return _mint(tx, "first_admin", FIRST_ADMIN_TTL_S).text


def mint_invite(services: Services, *, by: str | None) -> OneTimeToken:
    """An invitation: whoever has it may sign up, once."""
    with services.database.write() as tx:
        return _mint(tx, "invite", INVITE_TTL_S, by=by)


def mint_password_reset(services: Services, user_id: str, *, by: str | None) -> OneTimeToken:
    """What a user sets another password with. Raises `NotFound` (`user_unknown`)."""
    log.info("password_reset_minted", user_id=user_id, by=by)
    with services.database.write() as tx:
        accounts.found(db.user_by_id(tx, user_id))
        return _mint(tx, "password_reset", RESET_TTL_S, user_id=user_id, by=by)


def reset_link(settings: Settings, token: str) -> str:
    """The address to give to whom the token is for: the page at which they set a new password."""
    return f"{settings.base_url}/password-reset#{token}"


def _mint(
    tx: Tx,
    purpose: OneTimePurpose,
    ttl_s: float,
    *,
    user_id: str | None = None,
    by: str | None = None,
) -> OneTimeToken:
    text = tokens.new_secret(tokens.ONE_TIME)
    expires_at = db.add_one_time_token(
        tx,
        token_hash=tokens.digest(text),
        purpose=purpose,
        ttl_s=ttl_s,
        user_id=user_id,
        created_by=by,
    )
    return OneTimeToken(text, expires_at)


def create_user(
    services: Services, *, email: str, password: str, name: str = "", role: Role = "user"
) -> User:
    """A new user, whoever may sign up. Raises `Invalid` (`email_invalid`, `password_…`), `Conflict`
    (`email_taken`)."""
    email = checked_email(email)
    check_new_password(password, email)
    with services.passwords.turn() as hasher:
        password_hash = hasher.hash(password)
    try:
        with services.database.write() as tx:
            user = db.add_user(tx, email=email, name=name, password_hash=password_hash, role=role)
    except IntegrityError:
        raise accounts.email_taken() from None
    log.info("user_created", user_id=user.id, role=role)
    return user


def list_users(services: Services, *, after: str | None, limit: int) -> list[User]:
    """The newest first, from behind the id `after` on."""
    with services.database.read() as tx:
        return db.users_page(tx, after, limit)


def find_user(services: Services, name: str) -> User:
    """A user by e-mail address or id. Raises `NotFound` (`user_unknown`)."""
    with services.database.read() as tx:
        by_email = db.user_by_email(tx, normalised_email(name))
        return by_email or accounts.found(db.user_by_id(tx, name))


def change_user(
    services: Services, user_id: str, change: UserChange, *, by: str | None = None
) -> User:
    """Change role, limits, or whether the account is disabled, which ends its sessions; its API
    keys rest until it is enabled. Raises `NotFound` (`user_unknown`), `Conflict` (`last_admin`).
    """
    given = ((field.name, getattr(change, field.name)) for field in fields(change))
    changes: dict[str, Any] = {name: value for name, value in given if not isinstance(value, Keep)}
    with services.database.write() as tx:
        if changes.get("disabled") or changes.get("role") == "user":
            accounts.keep_an_admin(tx, user_id)
        db.change_user(tx, user_id, changes)
        user = accounts.found(db.user_by_id(tx, user_id))
        if user.disabled:
            db.end_sessions(tx, user_id)
        if "max_running_jobs" in changes:
            limit = user.max_running_jobs or services.settings.max_running_jobs
            db.limit_tenant(tx, user_id, limit)
    log.info("user_changed", user_id=user_id, by=by, **changes)
    return user


def delete_user(services: Services, user_id: str, *, by: str | None = None) -> None:
    """As `accounts.delete`, of anyone. Raises `NotFound` (`user_unknown`), `Conflict`
    (`last_admin`)."""
    with services.database.write() as tx:
        accounts.keep_an_admin(tx, user_id)
        accounts.found(db.lock_user(tx, user_id))
        accounts.remove(tx, user_id)
    log.info("user_deleted", user_id=user_id, by=by)
