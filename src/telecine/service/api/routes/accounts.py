"""Routes of the own account: sign up, read, change, delete; passwords, and the page that a one-time
link opens."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse
from pydantic import ConfigDict, Field, StringConstraints

from telecine.service import accounts
from telecine.service.api import cookies
from telecine.service.api.deps import AddressDep, ServicesDep, SessionDep
from telecine.service.api.errors import responses
from telecine.service.api.idempotency import IdempotentByAddress
from telecine.service.api.schemas import Answer, Asked, rfc3339
from telecine.service.db.accounts import User
from telecine.service.domain import Role

router = APIRouter(tags=["accounts"])

# An id that is none is refused before a database that might choke on it.
ID_FORM = r"^[0-9A-Za-z]{1,26}$"

# Only so long that nobody can send a book: what a password has to be is `passwords`' to say.
Password = Annotated[
    str,
    Field(
        min_length=1,
        max_length=1024,
        description="8 to 256 characters of any kind; a very common one is refused.",
        examples=["correct horse battery staple"],
        json_schema_extra={"format": "password"},
    ),
]
# Text without control characters: a database may refuse NUL, a terminal obey the rest.
LINE = r"^[^\x00-\x1f\x7f-\x9f]*$"
Email = Annotated[
    str, Field(min_length=1, max_length=320, pattern=LINE, examples=["ada@example.org"])
]
Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=200, pattern=LINE),
    Field(description="For people.", examples=["Ada Lovelace"]),
]
Token = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        description="A one-time token.",
        examples=["tco_b1946ac92492d2347c6235b4d2611184b1946ac92492d2347c6235b4d2611184"],
    ),
]

_USER_EXAMPLE: dict[str, Any] = {
    "id": "01KAJ9XK6B2T3W4Y5Z6A7B8C9D",
    "email": "ada@example.org",
    "name": "Ada Lovelace",
    "role": "user",
    "created_at": "2026-11-21T10:23:45.678Z",
}


class NewUser(Asked):
    """Who wants an account."""

    email: Email
    password: Password
    name: Name = ""
    token: Annotated[
        Token | None, Field(description="An invitation, or the first administrator's token.")
    ] = None


class UserAnswer(Answer):
    """A user, as they see themselves."""

    model_config = ConfigDict(json_schema_extra={"examples": [_USER_EXAMPLE]})

    id: str
    email: str
    name: str
    role: Role
    created_at: str


class ChangedUser(Asked):
    """What is to be another about me; what is left out stays."""

    name: Name | None = None
    email: Email | None = None
    password: Annotated[
        Password | None, Field(description="The current one: needed to change the e-mail.")
    ] = None


class Confirmed(Asked):
    """What cannot be undone asks for the password again."""

    password: Password


class ChangedPassword(Asked):
    """Another password for me."""

    current_password: Password
    password: Password


class PasswordReset(Asked):
    """Another password for whom an administrator's one-time token names."""

    token: Token
    password: Password


def show_user(user: User) -> UserAnswer:
    return UserAnswer(
        id=user.id,
        email=user.email,
        name=user.name,
        role=user.role,
        created_at=rfc3339(user.created_at),
    )


@router.post(
    "/v1/users",
    operation_id="create_user",
    summary="Sign up",
    status_code=201,
    dependencies=[IdempotentByAddress],
    responses=responses(
        email_invalid=422,
        password_short=422,
        password_long=422,
        password_common=422,
        signup_closed=403,
        invite_needed=403,
        one_time_token_invalid=403,
        email_taken=409,
        login_limited=429,
        logins_busy=429,
    ),
)
def create_user(doors: ServicesDep, address: AddressDep, asked: NewUser) -> UserAnswer:
    """Anyone may where sign-up is open; else it takes an invitation. The first administrator signs
    up with the token that `telecine serve` prints."""
    user = accounts.sign_up(
        doors,
        email=asked.email,
        password=asked.password,
        name=asked.name,
        token=asked.token,
        address=address,
    )
    return show_user(user)


@router.get("/v1/users/me", operation_id="get_me", summary="Read my account")
def get_me(doors: ServicesDep, who: SessionDep) -> UserAnswer:
    return show_user(accounts.read(doors, who.user_id))


@router.patch(
    "/v1/users/me",
    operation_id="update_me",
    summary="Change my name or e-mail",
    responses=responses(
        email_invalid=422, password_wrong=403, email_taken=409, login_limited=429, logins_busy=429
    ),
)
def update_me(doors: ServicesDep, who: SessionDep, asked: ChangedUser) -> UserAnswer:
    user = accounts.change(doors, who, name=asked.name, email=asked.email, password=asked.password)
    return show_user(user)


@router.delete(
    "/v1/users/me",
    operation_id="delete_me",
    summary="Delete my account and all that is in it",
    status_code=204,
    responses=responses(password_wrong=403, last_admin=409, login_limited=429, logins_busy=429),
)
def delete_me(doors: ServicesDep, who: SessionDep, asked: Confirmed, response: Response) -> None:
    """Sessions and API keys end at once; assets, uploads and jobs go with the account."""
    accounts.delete(doors, who, password=asked.password)
    cookies.clear(response, doors.settings)


@router.put(
    "/v1/users/me/password",
    operation_id="change_password",
    summary="Change my password",
    status_code=204,
    responses=responses(
        password_wrong=403,
        password_short=422,
        password_long=422,
        password_common=422,
        login_limited=429,
        logins_busy=429,
    ),
)
def change_password(doors: ServicesDep, who: SessionDep, asked: ChangedPassword) -> None:
    """Ends all my other sessions; API keys stay."""
    accounts.change_password(doors, who, current=asked.current_password, password=asked.password)


@router.post(
    "/v1/password-resets",
    operation_id="reset_password",
    summary="Set a forgotten password anew",
    status_code=204,
    responses=responses(
        one_time_token_invalid=403,
        password_short=422,
        password_long=422,
        password_common=422,
        login_limited=429,
        logins_busy=429,
    ),
)
def reset_password(doors: ServicesDep, address: AddressDep, asked: PasswordReset) -> None:
    """With the one-time token that an administrator gave me. Ends all my sessions."""
    accounts.reset_password(doors, token=asked.token, password=asked.password, address=address)


@router.get("/password-reset", include_in_schema=False)
def show_reset_page() -> HTMLResponse:
    """What an administrator's one-time link opens: a form that asks for the new password. The token
    stays in the browser until it is sent."""
    page, policy = _reset_page()
    return HTMLResponse(page, headers={"Content-Security-Policy": policy})


@cache
def _reset_page() -> tuple[str, str]:
    """The page, and a policy under which nothing but its own script and style works."""
    path = files("telecine.service.api") / "static" / "password-reset.html"
    page = path.read_text("utf-8")
    policy = (
        f"default-src 'none'; script-src {_digest_of(page, 'script')}; "
        f"style-src {_digest_of(page, 'style')}; img-src data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy


def _digest_of(page: str, element: str) -> str:
    text = page.partition(f"<{element}>")[2].partition(f"</{element}>")[0]
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
