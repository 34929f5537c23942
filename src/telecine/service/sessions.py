"""Sessions: log in, refresh, list, end. What an access token says is worth nothing once its session
is over, and that is looked up at each request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from telecine.service import logs, tokens
from telecine.service.db import accounts as db
from telecine.service.db.accounts import Session, User
from telecine.service.db.connection import Tx
from telecine.service.domain import (
    SCOPES,
    Conflict,
    Forbidden,
    NotFound,
    Principal,
    ServiceError,
    Unauthenticated,
)
from telecine.service.emails import normalised_email
from telecine.service.login_limits import log_in_buckets
from telecine.service.passwords import Hasher
from telecine.service.services import Services
from telecine.service.settings import Settings
from telecine.service.tokens import AccessClaims

# Two tabs that refresh at once, or an answer that was lost and asked for again: no theft.
RACE_S = 10
# Requests come often, and when a session was last used need not be known to the second.
TOUCH_S = 60

log = logs.get_logger("accounts")


@dataclass(frozen=True, slots=True)
class Opened:
    """A session with what proves it: shown once."""

    session: Session
    user: User
    access_token: str
    access_ttl_s: int
    refresh_token: str
    csrf_token: str
    ends_in_s: int


def log_in(
    services: Services, *, email: str, password: str, address: str, user_agent: str
) -> Opened:
    """A new session for who knows the password.

    Unknown users, wrong passwords and addresses that are none get the same answer after the same
    work. Raises `Unauthenticated` (`login_failed`), `Forbidden` (`account_disabled`: only to who
    knows the password), `TooMany` (`login_limited`, `logins_busy`).
    """
    account = normalised_email(email)
    with services.database.read() as tx:
        user = db.user_by_email(tx, account)
        known = db.addresses_of(tx, account)
    buckets = log_in_buckets(account, address, known)
    limits = services.login_limits
    with services.passwords.turn() as hasher:
        limits.check(buckets)
        fits = hasher.fits(password, user.password_hash if user else hasher.decoy)
        if user is None or not fits:
            limits.failed(buckets)
            log.info("login_failed", user_id=user.id if user else None, address=address)
            raise Unauthenticated("wrong e-mail or password", code="login_failed")
        # Others may have used up the last failures while this password was checked: then this
        # answer must not tell that it fits.
        limits.check(buckets)
        password_hash = _kept_up_to_date(services, hasher, user, password)
    if user.disabled:
        raise Forbidden("this account is disabled", code="account_disabled")
    return _open(services, user, password_hash, address=address, user_agent=user_agent)


def _kept_up_to_date(services: Services, hasher: Hasher, user: User, password: str) -> str:
    """The user's hash, made again where today more work is asked for."""
    if not hasher.outdated(user.password_hash):
        return user.password_hash
    again = hasher.hash(password)
    with services.database.write() as tx:
        kept = db.replace_hash(tx, user.id, user.password_hash, again)
    return again if kept else user.password_hash


def _open(
    services: Services, user: User, password_hash: str, *, address: str, user_agent: str
) -> Opened:
    refresh = tokens.new_secret(tokens.REFRESH)
    with services.database.write() as tx:
        now = db.lock_user(tx, user.id)
        # The password was changed, or the user deleted or disabled, since it was checked.
        if now is None or now.disabled or now.password_hash != password_hash:
            raise Unauthenticated("wrong e-mail or password", code="login_failed")
        db.forget_sessions(tx, user.id)
        session = db.add_session(
            tx,
            user.id,
            ttl_s=services.settings.session_ttl_s,
            address=address[:64],
            user_agent="".join(c for c in user_agent if c.isprintable())[:300],
            refresh_hash=tokens.digest(refresh),
        )
    log.info("session_started", user_id=user.id, session_id=session.id)
    return _opened(services, session, now, refresh, now_s=session.created_at)


def _opened(
    services: Services, session: Session, user: User, refresh: str, *, now_s: float
) -> Opened:
    expires_at = min(now_s + services.settings.access_ttl_s, session.expires_at)
    claims = AccessClaims(user_id=user.id, session_id=session.id)
    return Opened(
        session=session,
        user=user,
        access_token=tokens.sign_access_token(
            services.signer, claims, now_s=now_s, expires_at=expires_at
        ),
        access_ttl_s=int(expires_at - now_s),
        refresh_token=refresh,
        csrf_token=tokens.csrf_token(services.signer, session.id),
        ends_in_s=int(session.expires_at - now_s),
    )


def session_of(services: Services, refresh_token: str) -> str | None:
    """Id of the session that a refresh token was made for."""
    with services.database.read() as tx:
        found = db.session_of_refresh(tx, tokens.digest(refresh_token))
    return None if found is None else found.id


Fate = Literal["renewed", "unknown", "over", "raced", "reused"]


def refresh(services: Services, refresh_token: str) -> Opened:
    """New tokens for old: a refresh token is good once.

    Its second use means that it was stolen, from whoever comes first or second, so it ends the
    session. Within 10 s it is a client that raced with itself, or asks again because the answer was
    lost: it gets new tokens too, as long as none of those given before was used. The first of them
    to be used makes the others used tokens, so that of two who each hold one the later is found
    out. Raises `Unauthenticated` (`refresh_invalid`, `session_ended`, `refresh_reused`), `Conflict`
    (`refresh_raced`).
    """
    token_hash = tokens.digest(refresh_token)
    following = tokens.new_secret(tokens.REFRESH)
    with services.database.write() as tx:
        found = db.session_of_refresh(tx, token_hash)
        # One at a time: what is decided here rests on all tokens of the session.
        user = None if found is None else db.lock_user(tx, found.user_id)
        session = None if found is None else db.session_by_id(tx, found.id)
        if session is None or user is None:
            raise Unauthenticated("this refresh token is not valid", code="refresh_invalid")
        now_s = tx.now_s()
        fate = _fate(tx, services.settings, session, user, token_hash, now_s)
        if fate == "renewed":
            db.add_refresh_token(tx, session.id, tokens.digest(following))
            db.touch_session(tx, session.id)
        elif fate == "reused":
            db.end_sessions(tx, user.id, only=session.id)
    # Raised only here: the session's end has to be committed.
    if fate != "renewed":
        log.info("refresh_refused", fate=fate, user_id=user.id, session_id=session.id)
        raise _refused(fate)
    return _opened(services, session, user, following, now_s=now_s)


def _fate(
    tx: Tx, settings: Settings, session: Session, user: User, token_hash: str, now_s: float
) -> Fate:
    if user.disabled or is_over(session, settings, now_s):
        return "over"
    used = db.refresh_token_use(tx, token_hash)
    if used is None:
        db.use_refresh_tokens(tx, session.id)
        return "renewed"
    since_s, is_last = used
    if since_s > RACE_S:
        return "reused"
    return "renewed" if is_last else "raced"


def _refused(fate: Fate) -> ServiceError:
    if fate == "raced":
        return Conflict(
            "this refresh token has just been used, and what it gave as well: use what that gave",
            code="refresh_raced",
        )
    if fate == "reused":
        return Unauthenticated(
            "this refresh token was used before: its session is ended", code="refresh_reused"
        )
    return _ended()


def is_over(session: Session, settings: Settings, now_s: float) -> bool:
    """Whether a session was ended, is too old, or was unused too long."""
    idle = now_s >= session.last_used_at + settings.session_idle_s
    return session.ended_at is not None or now_s >= session.expires_at or idle


def by_access_token(services: Services, token: str) -> Principal:
    """Who holds this access token, of a session that lives. Raises `Unauthenticated`
    (`token_invalid`, `token_expired`, `session_ended`)."""
    with services.database.read() as tx:
        now_s = tx.now_s()
        claims = tokens.read_access_token(services.signer, token, now_s=now_s)
        session = db.session_by_id(tx, claims.session_id)
        user = db.user_by_id(tx, claims.user_id)
    if session is None or user is None or session.user_id != user.id or user.disabled:
        raise _ended()
    if is_over(session, services.settings, now_s):
        raise _ended()
    if now_s - session.last_used_at >= min(TOUCH_S, services.settings.session_idle_s / 4):
        with services.database.write() as tx:
            db.touch_session(tx, session.id)
    return Principal(
        user_id=user.id, role=user.role, scopes=frozenset(SCOPES), session_id=session.id
    )


def _ended() -> Unauthenticated:
    return Unauthenticated("this session has ended: log in", code="session_ended")


def current(services: Services, who: Principal) -> Session:
    """The session that asks. Raises `NotFound` (`session_unknown`)."""
    assert who.session_id is not None
    with services.database.read() as tx:
        found = db.session_by_id(tx, who.session_id)
    if found is None:
        raise _not_found()
    return found


def list_mine(
    services: Services, who: Principal, *, after: str | None, limit: int
) -> list[Session]:
    """The asker's live sessions, the newest first."""
    with services.database.read() as tx:
        return db.live_sessions_page(
            tx, who.user_id, idle_s=services.settings.session_idle_s, after=after, limit=limit
        )


def end(services: Services, who: Principal, session_id: str) -> None:
    """End one of the asker's sessions: what it holds is refused from the next request on. Raises
    `NotFound` (`session_unknown`) where it is not theirs, or over."""
    with services.database.write() as tx:
        ended = db.end_sessions(tx, who.user_id, only=session_id)
    if not ended:
        raise _not_found()


def replace(services: Services, access_token: str) -> None:
    """End the session that a browser had before it logged in again, where that still lives."""
    try:
        before = by_access_token(services, access_token)
    except Unauthenticated:
        return
    assert before.session_id is not None
    with services.database.write() as tx:
        db.end_sessions(tx, before.user_id, only=before.session_id)


def end_all(services: Services, who: Principal) -> None:
    """Log out everywhere."""
    with services.database.write() as tx:
        db.end_sessions(tx, who.user_id)


def _not_found() -> NotFound:
    return NotFound("there is no such session of yours", code="session_unknown")
