"""Who asks, and what users do with their own account: sign up, change, reset, delete.

Sessions, keys and what administrators do are modules of their own: sessions, api_keys, admin.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import IntegrityError

from telecine.service import api_keys, logs, sessions, tokens
from telecine.service.db import accounts as db
from telecine.service.db import queue
from telecine.service.db.accounts import OneTimePurpose, User
from telecine.service.db.connection import Tx
from telecine.service.domain import (
    Conflict,
    Forbidden,
    NotFound,
    Principal,
    Role,
    ServiceError,
    Unauthenticated,
)
from telecine.service.emails import checked_email
from telecine.service.login_limits import address_bucket, password_bucket
from telecine.service.passwords import Hasher, check_new_password
from telecine.service.services import Services
from telecine.service.settings import Settings

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

log = logs.get_logger("accounts")


# --- who asks -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request brings to prove who asks. `origins` are those that may act by cookie: our own
    and the allowed ones."""

    method: str
    authorization: str | None = None
    access_cookie: str | None = None
    csrf_header: str | None = None
    origin: str | None = None
    origins: frozenset[str] = frozenset()


def authenticate(services: Services, credentials: Credentials) -> Principal:
    """Who asks: by `Authorization: Bearer` an access token or an API key, else by cookie.

    A cookie is sent by browsers whatever page made them ask, so with one an unsafe method needs our
    own origin and the session's CSRF token as well. Raises `Unauthenticated` (`login_needed`,
    `token_invalid`, `token_expired`, `session_ended`, `key_invalid`), `Forbidden` (`csrf_failed`).
    """
    if credentials.authorization is not None:
        scheme, _, text = credentials.authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise _login_needed()
        text = text.strip()
        if text.startswith(f"{tokens.API_KEY}_"):
            return api_keys.by_api_key(services, text)
        return sessions.by_access_token(services, text)
    if credentials.access_cookie is None:
        raise _login_needed()
    who = sessions.by_access_token(services, credentials.access_cookie)
    if credentials.method not in SAFE_METHODS:
        check_csrf(services, credentials, who.session_id)
    return who


def check_csrf(services: Services, credentials: Credentials, session_id: str | None) -> None:
    """Raises `Forbidden` (`csrf_failed`) unless a page of ours made this request for the session
    (null: none that we know)."""
    given = (credentials.csrf_header or "").encode()
    wanted = tokens.csrf_token(services.signer, session_id or "").encode()
    good = session_id is not None and hmac.compare_digest(wanted, given)
    if not good or credentials.origin not in credentials.origins:
        raise Forbidden(
            "with a cookie this needs our own Origin and the session's X-CSRF-Token",
            code="csrf_failed",
        )


def still_good(services: Services, who: Principal) -> bool:
    """Whether who once was let in still would be: for answers that take long, such as streams of
    events."""
    with services.database.read() as tx:
        user = db.user_by_id(tx, who.user_id)
        session = None if who.session_id is None else db.session_by_id(tx, who.session_id)
        key = None if who.key_id is None else db.api_key_by_id(tx, who.key_id)
        now_s = tx.now_s()
    if user is None or user.disabled:
        return False
    if session is not None:
        return not sessions.is_over(session, services.settings, now_s)
    return key is not None and api_keys.is_good(key, now_s)


def _login_needed() -> Unauthenticated:
    return Unauthenticated("log in, or send an API key", code="login_needed")


# --- signing up ---------------------------------------------------------------------------------


def sign_up(
    services: Services, *, email: str, password: str, name: str, token: str | None, address: str
) -> User:
    """A new user: anyone where sign-up is open, else who has an invitation; an administrator who
    has the first administrator's token, whatever the setting.

    An address that has an account is told so (`email_taken`): we send no mail that could tell its
    owner instead. Who may not sign up is never told, and whoever asks for many is slowed down. A
    token is used up by success alone.

    Raises `Invalid` (`email_invalid`, `password_…`), `Forbidden` (`signup_closed`,
    `invite_needed`, `one_time_token_invalid`), `Conflict` (`email_taken`), `TooMany`.
    """
    email = checked_email(email)
    check_new_password(password, email)
    with _guarded(services, address) as hasher:
        with services.database.read() as tx:
            role = _role_of_new(tx, services.settings, token)
        password_hash = hasher.hash(password)
        try:
            with services.database.write() as tx:
                _use_up(tx, token)
                user = db.add_user(
                    tx, email=email, name=name, password_hash=password_hash, role=role
                )
        except IntegrityError:
            raise email_taken() from None
    log.info("user_signed_up", user_id=user.id, role=role)
    return user


@contextmanager
def _guarded(services: Services, address: str) -> Iterator[Hasher]:
    """The hasher, for what strangers may try: what they fail at counts against their address."""
    buckets = (address_bucket(address),)
    with services.passwords.turn() as hasher:
        services.login_limits.check(buckets)
        try:
            yield hasher
        except ServiceError:
            services.login_limits.failed(buckets)
            raise


def _role_of_new(tx: Tx, settings: Settings, token: str | None) -> Role:
    if token is not None:
        purpose, _ = _purpose_of(tx, token, ("first_admin", "invite"))
        if purpose == "first_admin":
            return "admin"
    if settings.signup == "closed":
        raise Forbidden("nobody can sign up here", code="signup_closed")
    if settings.signup == "invite" and token is None:
        raise Forbidden("signing up here needs an invitation", code="invite_needed")
    return "user"


def _purpose_of(
    tx: Tx, token: str, purposes: tuple[OneTimePurpose, ...]
) -> tuple[OneTimePurpose, str | None]:
    good = db.one_time_token(tx, tokens.digest(token))
    if good is None or good[0] not in purposes:
        raise _token_invalid()
    if good[0] == "first_admin" and db.admins(tx):
        raise _token_invalid()
    return good


def _use_up(tx: Tx, token: str | None) -> None:
    if token is not None and not db.use_one_time_token(tx, tokens.digest(token)):
        raise _token_invalid()


def _token_invalid() -> Forbidden:
    return Forbidden(
        "this token is unknown, expired, or was used before", code="one_time_token_invalid"
    )


def email_taken() -> Conflict:
    """The answer where an address has an account already."""
    return Conflict("there is an account with this e-mail address", code="email_taken")


# --- myself -------------------------------------------------------------------------------------


def read(services: Services, user_id: str) -> User:
    """A user. Raises `NotFound` (`user_unknown`)."""
    with services.database.read() as tx:
        return found(db.user_by_id(tx, user_id))


def change(
    services: Services,
    who: Principal,
    *,
    name: str | None,
    email: str | None,
    password: str | None,
) -> User:
    """Change the asker's name, or with their password the address that they log in with. Raises
    `Invalid` (`email_invalid`), `Forbidden` (`password_wrong`), `Conflict` (`email_taken`),
    `TooMany`."""
    changes: dict[str, Any] = {} if name is None else {"name": name}
    if email is not None:
        changes["email"] = checked_email(email)
        _prove(services, who.user_id, password)
    try:
        with services.database.write() as tx:
            db.change_user(tx, who.user_id, changes)
            return found(db.user_by_id(tx, who.user_id))
    except IntegrityError:
        raise email_taken() from None


def change_password(services: Services, who: Principal, *, current: str, password: str) -> None:
    """Give the asker another password and end their other sessions. Raises `Invalid`
    (`password_…`), `Forbidden` (`password_wrong`), `TooMany`."""
    user = read(services, who.user_id)
    check_new_password(password, user.email)
    old = _prove(services, user.id, current)
    with services.passwords.turn() as hasher:
        new = hasher.hash(password)
    with services.database.write() as tx:
        if not db.replace_hash(tx, user.id, old, new):
            raise _password_wrong()
        db.end_sessions(tx, user.id, but=who.session_id)
        db.drop_one_time_tokens(tx, "password_reset", user_id=user.id)
    log.info("password_changed", user_id=user.id)


def reset_password(services: Services, *, token: str, password: str, address: str) -> None:
    """Give the user whom an administrator's one-time token names another password, and end all
    their sessions. Raises `Forbidden` (`one_time_token_invalid`), `Invalid` (`password_…`),
    `TooMany`; after any of them the token is as good as before."""
    with _guarded(services, address) as hasher:
        with services.database.read() as tx:
            _, user_id = _purpose_of(tx, token, ("password_reset",))
            user = found(db.user_by_id(tx, user_id or ""))
        check_new_password(password, user.email)
        new = hasher.hash(password)
        with services.database.write() as tx:
            _use_up(tx, token)
            db.change_user(tx, user.id, {"password_hash": new})
            db.end_sessions(tx, user.id)
            db.drop_one_time_tokens(tx, "password_reset", user_id=user.id)
    log.info("password_reset", user_id=user.id)


def delete(services: Services, who: Principal, *, password: str) -> None:
    """Remove the asker: sessions and keys end at once, and with the account go its assets, uploads
    and jobs; their files are collected about a minute later. Raises `Forbidden`
    (`password_wrong`), `Conflict` (`last_admin`), `TooMany`."""
    _prove(services, who.user_id, password)
    with services.database.write() as tx:
        keep_an_admin(tx, who.user_id)
        remove(tx, who.user_id)
    log.info("user_deleted", user_id=who.user_id, by=who.user_id)


def _prove(services: Services, user_id: str, password: str | None) -> str:
    """The asker's hash, once they gave their password again."""
    buckets = (password_bucket(user_id),)
    user = read(services, user_id)
    with services.passwords.turn() as hasher:
        services.login_limits.check(buckets)
        if password is None or not hasher.fits(password, user.password_hash):
            services.login_limits.failed(buckets)
            raise _password_wrong()
        services.login_limits.check(buckets)
    return user.password_hash


def _password_wrong() -> Forbidden:
    return Forbidden("this needs your password, and that is not it", code="password_wrong")


# --- what administrators' use cases need as well ------------------------------------------------


def found(user: User | None) -> User:
    """Raises `NotFound` (`user_unknown`) for nobody."""
    if user is None:
        raise NotFound("there is no such user", code="user_unknown")
    return user


def remove(tx: Tx, user_id: str) -> None:
    """Delete a user's rows. Running jobs end first: their workers are fenced, not waited for."""
    queue.abort_all(tx, user_id)
    db.delete_user(tx, user_id)


def keep_an_admin(tx: Tx, user_id: str) -> None:
    """Raises `Conflict` (`last_admin`) where nobody but this user is an administrator."""
    if db.admins(tx, lock=True) == {user_id}:
        raise Conflict("this is the last administrator: name another first", code="last_admin")
