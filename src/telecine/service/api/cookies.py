"""A session as cookies, for web pages: two that no script can read, and the CSRF token, which
scripts of ours read and send back as a header.

Under TLS, and on this machine's own addresses, which browsers trust as well, they are Secure and
named `__Host-…`: no other host, and nobody on the way, can set them. On any other plain-http
address browsers would refuse those, so they lack both, and `telecine serve` warns.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from fastapi import Request, Response

from telecine.service.sessions import Opened
from telecine.service.settings import LOOPBACK, Settings

Kind = Literal["access", "refresh", "csrf"]
KINDS: tuple[Kind, ...] = ("access", "refresh", "csrf")


def are_secure(settings: Settings) -> bool:
    """Whether this installation's cookies are Secure."""
    return settings.secure or urlsplit(settings.base_url).hostname in LOOPBACK


def name_of(kind: Kind, settings: Settings) -> str:
    return f"{'__Host-' if are_secure(settings) else ''}telecine_{kind}"


def read(request: Request, kind: Kind, settings: Settings) -> str | None:
    """The cookie under its one name here: an unprefixed one is nothing where ours are prefixed."""
    return request.cookies.get(name_of(kind, settings))


def write(response: Response, opened: Opened, settings: Settings) -> None:
    """Hand a session out as cookies."""
    values = {
        "access": opened.access_token,
        "refresh": opened.refresh_token,
        "csrf": opened.csrf_token,
    }
    for kind in KINDS:
        response.set_cookie(
            name_of(kind, settings),
            values[kind],
            # An access token's too: sent when it has expired, it is told so.
            max_age=opened.ends_in_s,
            path="/",
            secure=are_secure(settings),
            httponly=kind != "csrf",
            samesite="lax",
        )


def clear(response: Response, settings: Settings) -> None:
    """Tell the browser to forget them."""
    for kind in KINDS:
        response.delete_cookie(
            name_of(kind, settings),
            path="/",
            secure=are_secure(settings),
            httponly=kind != "csrf",
            samesite="lax",
        )
