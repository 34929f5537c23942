"""Routes of sessions: log in and out, refresh, list."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Request, Response
from pydantic import ConfigDict, Field

from telecine.service import accounts, sessions
from telecine.service.api import cookies
from telecine.service.api.deps import AddressDep, CredentialsDep, ServicesDep, SessionDep
from telecine.service.api.errors import responses
from telecine.service.api.routes.accounts import ID_FORM, Email
from telecine.service.api.schemas import After, Answer, Asked, Limit, Page, make_page, rfc3339
from telecine.service.db.accounts import Session
from telecine.service.domain import Forbidden, Unauthenticated
from telecine.service.sessions import Opened
from telecine.service.tokens import csrf_token

router = APIRouter(tags=["sessions"])

SessionId = Annotated[str, Path(description="The session's id.", pattern=ID_FORM)]

_SESSION_EXAMPLE: dict[str, Any] = {
    "id": "01KAJ9XK6B2T3W4Y5Z6A7B8C9D",
    "created_at": "2026-11-21T10:23:45.678Z",
    "last_used_at": "2026-11-21T10:25:00.000Z",
    "expires_at": "2027-02-19T10:23:45.678Z",
    "address": "192.0.2.7",
    "user_agent": "Mozilla/5.0",
    "current": True,
}


class LogIn(Asked):
    """Who logs in, and how the session is to be proved later."""

    email: Email
    password: Annotated[str, Field(max_length=1024, json_schema_extra={"format": "password"})]
    cookies: Annotated[
        bool,
        Field(description="Keep the session in HttpOnly cookies, for a web page, not in tokens."),
    ] = False


class SessionAnswer(Answer):
    """One of my sessions."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SESSION_EXAMPLE]})

    id: str
    created_at: str
    last_used_at: str = Field(description="To the minute.")
    expires_at: str = Field(description="It ends then at the latest; unused, sooner.")
    address: str = Field(description="From where it was opened.")
    user_agent: str
    current: bool = Field(description="Whether it is the one that asks.")


class CurrentSession(SessionAnswer):
    """The session that asks."""

    csrf_token: str = Field(
        description="What a page that uses cookies sends as `X-CSRF-Token` with unsafe methods."
    )


class Tokens(Answer):
    """A session that was opened or refreshed. The tokens are shown once, and are null where the
    session is kept in cookies."""

    session: SessionAnswer
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105
    access_token: str | None = Field(description="Send it as `Authorization: Bearer …`.")
    expires_in_s: int = Field(description="The access token's life.", examples=[900])
    refresh_token: str | None = Field(description="Good once, for new tokens.")
    csrf_token: str | None = Field(
        description="With cookies: what a page sends as `X-CSRF-Token` with unsafe methods."
    )


class Refresh(Asked):
    """The refresh token; with cookies there is none to give."""

    refresh_token: Annotated[str | None, Field(min_length=1, max_length=200)] = None


def _show(session: Session, current_id: str | None) -> SessionAnswer:
    return SessionAnswer(
        id=session.id,
        created_at=rfc3339(session.created_at),
        last_used_at=rfc3339(session.last_used_at),
        expires_at=rfc3339(session.expires_at),
        address=session.address,
        user_agent=session.user_agent,
        current=session.id == current_id,
    )


def _hand_out(
    doors: ServicesDep, response: Response, opened: Opened, *, as_cookies: bool
) -> Tokens:
    if as_cookies:
        cookies.write(response, opened, doors.settings)
    return Tokens(
        session=_show(opened.session, opened.session.id),
        access_token=None if as_cookies else opened.access_token,
        expires_in_s=opened.access_ttl_s,
        refresh_token=None if as_cookies else opened.refresh_token,
        csrf_token=opened.csrf_token if as_cookies else None,
    )


@router.post(
    "/v1/sessions",
    operation_id="create_session",
    summary="Log in",
    status_code=201,
    responses=responses(
        login_failed=401,
        account_disabled=403,
        csrf_failed=403,
        login_limited=429,
        logins_busy=429,
    ),
)
def create_session(
    doors: ServicesDep,
    found: CredentialsDep,
    address: AddressDep,
    asked: LogIn,
    response: Response,
    user_agent: Annotated[str, Header()] = "",
) -> Tokens:
    """A session of mine on this device. Takes no `Idempotency-Key`: asked again it opens another
    session, and that is no harm."""
    # Or a foreign page could log its visitor in as somebody else.
    foreign = found.origin is not None and found.origin not in found.origins
    if asked.cookies and foreign:
        raise Forbidden("another site's page may not log in here", code="csrf_failed")
    opened = sessions.log_in(
        doors,
        email=asked.email,
        password=asked.password,
        address=address,
        user_agent=user_agent,
    )
    if asked.cookies and found.access_cookie is not None:
        sessions.replace(doors, found.access_cookie)
    return _hand_out(doors, response, opened, as_cookies=asked.cookies)


@router.get("/v1/sessions", operation_id="list_sessions", summary="List my sessions")
def list_sessions(
    doors: ServicesDep, who: SessionDep, limit: Limit = 20, after: After = None
) -> Page[SessionAnswer]:
    """Those that live, the newest first."""
    rows = sessions.list_mine(doors, who, after=after, limit=limit + 1)
    return make_page(rows, limit, lambda row: _show(row, who.session_id), lambda row: row.id)


@router.get(
    "/v1/sessions/current", operation_id="get_current_session", summary="Read the session that asks"
)
def get_current_session(doors: ServicesDep, who: SessionDep) -> CurrentSession:
    session = sessions.current(doors, who)
    shown = _show(session, session.id).model_dump()
    return CurrentSession(**shown, csrf_token=csrf_token(doors.signer, session.id))


@router.post(
    "/v1/sessions/refresh",
    operation_id="refresh_session",
    summary="Get new tokens for a refresh token",
    responses=responses(
        refresh_invalid=401,
        refresh_reused=401,
        session_ended=401,
        csrf_failed=403,
        refresh_raced=409,
    ),
)
def refresh_session(
    request: Request,
    doors: ServicesDep,
    found: CredentialsDep,
    response: Response,
    asked: Refresh | None = None,
) -> Tokens:
    """A refresh token is good once. Used again it ends its session, for one of two has stolen it.
    Within 10 seconds of the first use it gives new tokens again, should the answer have been lost;
    once what it gave was used it answers `refresh_raced` then, and ends nothing."""
    if asked is not None and asked.refresh_token is not None:
        opened = sessions.refresh(doors, asked.refresh_token)
        return _hand_out(doors, response, opened, as_cookies=False)
    cookie = cookies.read(request, "refresh", doors.settings)
    if cookie is None:
        raise Unauthenticated("there is no refresh token here", code="refresh_invalid")
    # The access token may have expired: the refresh token says which session's page asks.
    accounts.check_csrf(doors, found, sessions.session_of(doors, cookie))
    opened = sessions.refresh(doors, cookie)
    return _hand_out(doors, response, opened, as_cookies=True)


@router.delete(
    "/v1/sessions/current", operation_id="end_current_session", summary="Log out", status_code=204
)
def end_current_session(doors: ServicesDep, who: SessionDep, response: Response) -> None:
    """Access ends at once, whatever tokens are still about."""
    assert who.session_id is not None
    sessions.end(doors, who, who.session_id)
    cookies.clear(response, doors.settings)


@router.delete(
    "/v1/sessions/{session_id}",
    operation_id="end_session",
    summary="End one of my sessions",
    status_code=204,
    responses=responses(session_unknown=404),
)
def end_session(doors: ServicesDep, who: SessionDep, session_id: SessionId) -> None:
    sessions.end(doors, who, session_id)


@router.delete(
    "/v1/sessions", operation_id="end_sessions", summary="Log out everywhere", status_code=204
)
def end_sessions(doors: ServicesDep, who: SessionDep, response: Response) -> None:
    """Ends all my sessions, this one too; API keys stay."""
    sessions.end_all(doors, who)
    cookies.clear(response, doors.settings)
