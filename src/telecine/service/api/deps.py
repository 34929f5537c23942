"""What routes ask for: the process's services, and who is asking."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request

from telecine.service import accounts
from telecine.service.domain import Forbidden, Principal, Scope
from telecine.service.services import Services


def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


ServicesDep = Annotated[Services, Depends(services)]


def principal(request: Request, doors: ServicesDep) -> Principal:
    """Who asks, by bearer token, API key or cookie. Raises `Unauthenticated`, `Forbidden`."""
    return accounts.authenticate(doors, request)


PrincipalDep = Annotated[Principal, Depends(principal)]


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
