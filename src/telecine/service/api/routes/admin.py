"""Routes for administrators, by session: users, invitations, forgotten passwords."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import ConfigDict, Field

from telecine.service import admin
from telecine.service.admin import UserChange
from telecine.service.api.deps import AdminDep, ServicesDep
from telecine.service.api.errors import responses
from telecine.service.api.idempotency import AdminOnce
from telecine.service.api.routes.accounts import ID_FORM, show_user
from telecine.service.api.schemas import After, Answer, Asked, Limit, Page, make_page, rfc3339
from telecine.service.db.accounts import User
from telecine.service.domain import Role

router = APIRouter(tags=["admin"])

UserId = Annotated[str, Path(description="The user's id.", pattern=ID_FORM)]

MAX_BYTES = 1 << 50
MAX_JOBS = 1000

_USER_EXAMPLE: dict[str, Any] = {
    "id": "01KAJ9XK6B2T3W4Y5Z6A7B8C9D",
    "email": "ada@example.org",
    "name": "Ada Lovelace",
    "role": "user",
    "created_at": "2026-11-21T10:23:45.678Z",
    "disabled": False,
    "max_upload_bytes": None,
    "max_running_jobs": None,
}


class AdminUser(Answer):
    """A user, as administrators see them. A limit of null is the installation's setting."""

    model_config = ConfigDict(json_schema_extra={"examples": [_USER_EXAMPLE]})

    id: str
    email: str
    name: str
    role: Role
    created_at: str
    disabled: bool
    max_upload_bytes: int | None
    max_running_jobs: int | None


class ChangedByAdmin(Asked):
    """What is to be another about a user; what is left out stays."""

    role: Role = "user"
    disabled: Annotated[
        bool, Field(description="Ends the user's sessions; their API keys rest.")
    ] = False
    max_upload_bytes: Annotated[
        int | None, Field(ge=1, le=MAX_BYTES, description="Null: the installation's setting.")
    ] = None
    max_running_jobs: Annotated[
        int | None, Field(ge=1, le=MAX_JOBS, description="Null: the installation's setting.")
    ] = None


class OneTime(Answer):
    """A token that is good once, and shown once."""

    token: str = Field(examples=["tco_" + "b1946ac92492d2347c6235b4d2611184" * 2])
    expires_at: str = Field(examples=["2026-11-22T10:23:45.678Z"])


class ResetLink(OneTime):
    """A one-time token, and the page that takes it."""

    url: str = Field(examples=["https://media.example/password-reset#tco_b1946ac9…"])


def _show(user: User) -> AdminUser:
    return AdminUser(
        **show_user(user).model_dump(),
        disabled=user.disabled,
        max_upload_bytes=user.max_upload_bytes,
        max_running_jobs=user.max_running_jobs,
    )


@router.get(
    "/v1/admin/users",
    operation_id="list_users",
    summary="List users",
    responses=responses(admin_needed=403),
)
def list_users(
    doors: ServicesDep, _who: AdminDep, limit: Limit = 20, after: After = None
) -> Page[AdminUser]:
    """All of them, the newest first."""
    rows = admin.list_users(doors, after=after, limit=limit + 1)
    return make_page(rows, limit, _show, lambda row: row.id)


@router.patch(
    "/v1/admin/users/{user_id}",
    operation_id="update_user",
    summary="Change a user's role or limits, or disable the account",
    responses=responses(admin_needed=403, user_unknown=404, last_admin=409),
)
def update_user(
    doors: ServicesDep, who: AdminDep, user_id: UserId, asked: ChangedByAdmin
) -> AdminUser:
    given = {name: getattr(asked, name) for name in asked.model_fields_set}
    return _show(admin.change_user(doors, user_id, UserChange(**given), by=who.user_id))


@router.delete(
    "/v1/admin/users/{user_id}",
    operation_id="delete_user",
    summary="Delete a user and all that is theirs",
    status_code=204,
    responses=responses(admin_needed=403, user_unknown=404, last_admin=409),
)
def delete_user(doors: ServicesDep, who: AdminDep, user_id: UserId) -> None:
    admin.delete_user(doors, user_id, by=who.user_id)


@router.post(
    "/v1/admin/users/{user_id}/password-reset",
    operation_id="create_password_reset",
    summary="Let a user set a forgotten password anew",
    status_code=201,
    responses=responses(admin_needed=403, user_unknown=404),
)
def create_password_reset(doors: ServicesDep, who: AdminOnce, user_id: UserId) -> ResetLink:
    """A one-time link to give to them, good for a day. The token goes to `/v1/password-resets`."""
    minted = admin.mint_password_reset(doors, user_id, by=who.user_id)
    return ResetLink(
        token=minted.text,
        expires_at=rfc3339(minted.expires_at),
        url=admin.reset_link(doors.settings, minted.text),
    )


@router.post(
    "/v1/admin/invites",
    operation_id="create_invite",
    summary="Invite somebody to sign up",
    status_code=201,
    responses=responses(admin_needed=403),
)
def create_invite(doors: ServicesDep, who: AdminOnce) -> OneTime:
    """A one-time token to sign up with, good for a week."""
    minted = admin.mint_invite(doors, by=who.user_id)
    return OneTime(token=minted.text, expires_at=rfc3339(minted.expires_at))
