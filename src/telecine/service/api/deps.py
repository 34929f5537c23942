"""What routes ask for: the process's services, and who is asking."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request

from telecine.service import accounts, logs
from telecine.service.accounts import Credentials
from telecine.service.api import cookies
from telecine.service.domain import Forbidden, Principal, Scope
from telecine.service.services import Services


def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


ServicesDep = Annotated[Services, Depends(services)]


def credentials(request: Request, doors: ServicesDep) -> Credentials:
    """What this request brings to prove who asks."""
    headers = request.headers
    settings = doors.settings
    # A page of ours has the origin that the browser reached us by; no other page can send a Host.
    here = f"{request.url.scheme}://{headers.get('host', '')}"
    return Credentials(
        method=request.method,
        authorization=headers.get("authorization"),
        access_cookie=cookies.read(request, "access", settings),
        csrf_header=headers.get("x-csrf-token"),
        origin=headers.get("origin"),
        origins=frozenset({here, settings.base_url, *settings.cors_origins}),
    )


CredentialsDep = Annotated[Credentials, Depends(credentials)]


def principal(doors: ServicesDep, found: CredentialsDep) -> Principal:
    """Who asks, by bearer token, API key or cookie. Raises `Unauthenticated`, `Forbidden`."""
    who = accounts.authenticate(doors, found)
    logs.bind(user_id=who.user_id)
    return who


def address(request: Request) -> str:
    """Where the request comes from; behind a trusted proxy, what that says."""
    return request.client.host if request.client else ""


PrincipalDep = Annotated[Principal, Depends(principal)]
AddressDep = Annotated[str, Depends(address)]


def allowed(scope: Scope) -> Callable[[PrincipalDep], Principal]:
    """A dependency: the asker, who holds this scope. Raises `Forbidden` (`scope_missing`)."""

    def check(who: PrincipalDep) -> Principal:
        if scope not in who.scopes:
            raise Forbidden(f"this API key lacks the scope {scope}", code="scope_missing")
        return who

    return check


def by_session(who: PrincipalDep) -> Principal:
    """A dependency: the asker, by a session; no API key reaches accounts. Raises `Forbidden`
    (`session_needed`)."""
    if who.session_id is None:
        raise Forbidden("an API key may not do this: log in", code="session_needed")
    return who


def admin(who: Annotated[Principal, Depends(by_session)]) -> Principal:
    """A dependency: an administrator. Raises `Forbidden` (`admin_needed`)."""
    if who.role != "admin":
        raise Forbidden("only an administrator may do this", code="admin_needed")
    return who


SessionDep = Annotated[Principal, Depends(by_session)]
AdminDep = Annotated[Principal, Depends(admin)]
AssetsRead = Annotated[Principal, Depends(allowed("assets:read"))]
AssetsWrite = Annotated[Principal, Depends(allowed("assets:write"))]
JobsRead = Annotated[Principal, Depends(allowed("jobs:read"))]
JobsWrite = Annotated[Principal, Depends(allowed("jobs:write"))]
UploadsWrite = Annotated[Principal, Depends(allowed("uploads:write"))]
