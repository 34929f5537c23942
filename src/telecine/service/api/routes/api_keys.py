"""Routes of API keys. Sessions only: a key makes no keys."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import ConfigDict, Field

from telecine.service import api_keys
from telecine.service.api.deps import ServicesDep, SessionDep
from telecine.service.api.errors import responses
from telecine.service.api.idempotency import SessionOnce
from telecine.service.api.routes.accounts import ID_FORM, Name
from telecine.service.api.schemas import After, Answer, Asked, Limit, Page, make_page, rfc3339
from telecine.service.db.accounts import ApiKey
from telecine.service.domain import Scope

router = APIRouter(tags=["api keys"])

KeyId = Annotated[str, Path(description="The key's id.", pattern=ID_FORM)]

MAX_TTL_S = 10 * 365 * 24 * 3600

_KEY_EXAMPLE: dict[str, Any] = {
    "id": "01KAJ9XK6B2T3W4Y5Z6A7B8C9D",
    "name": "night uploads",
    "prefix": "tck_9f86d081884c",
    "scopes": ["jobs:read", "jobs:write", "uploads:write"],
    "created_at": "2026-11-21T10:23:45.678Z",
    "expires_at": None,
    "last_used_at": None,
}
_SECRET_EXAMPLE = "tck_9f86d081884c_" + "7d659a2feaa0c55ad015a3bf4f1b2b0b" * 2


class NewApiKey(Asked):
    """A key for a program of mine."""

    name: Annotated[Name, Field(min_length=1)]
    scopes: Annotated[
        frozenset[Scope],
        Field(
            min_length=1,
            description="All that the key may do.",
            examples=[["jobs:read", "jobs:write", "uploads:write"]],
        ),
    ]
    expires_in_s: Annotated[
        int | None, Field(ge=60, le=MAX_TTL_S, description="Null: until it is revoked.")
    ] = None


class ApiKeyAnswer(Answer):
    """One of my keys, without its secret."""

    model_config = ConfigDict(json_schema_extra={"examples": [_KEY_EXAMPLE]})

    id: str
    name: str
    prefix: str = Field(description="What the key begins with.")
    scopes: list[Scope]
    created_at: str
    expires_at: str | None
    last_used_at: str | None = Field(description="To the minute.")


class NewApiKeyAnswer(ApiKeyAnswer):
    """A new key; its text is shown this once."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**_KEY_EXAMPLE, "secret": _SECRET_EXAMPLE}]}
    )

    secret: str = Field(description="The whole key: send it as `Authorization: Bearer …`.")


def _show(key: ApiKey) -> ApiKeyAnswer:
    return ApiKeyAnswer(
        id=key.id,
        name=key.name,
        prefix=key.prefix,
        scopes=list(key.scopes),
        created_at=rfc3339(key.created_at),
        expires_at=rfc3339(key.expires_at),
        last_used_at=rfc3339(key.last_used_at),
    )


@router.post(
    "/v1/api-keys",
    operation_id="create_api_key",
    summary="Create an API key",
    status_code=201,
)
def create_api_key(doors: ServicesDep, who: SessionOnce, asked: NewApiKey) -> NewApiKeyAnswer:
    """Its text is shown in this answer and never again."""
    new = api_keys.create(
        doors, who, name=asked.name, scopes=asked.scopes, expires_in_s=asked.expires_in_s
    )
    return NewApiKeyAnswer(**_show(new.key).model_dump(), secret=new.text)


@router.get("/v1/api-keys", operation_id="list_api_keys", summary="List my API keys")
def list_api_keys(
    doors: ServicesDep, who: SessionDep, limit: Limit = 20, after: After = None
) -> Page[ApiKeyAnswer]:
    """Those that are not revoked, the newest first."""
    rows = api_keys.list_mine(doors, who, after=after, limit=limit + 1)
    return make_page(rows, limit, _show, lambda row: row.id)


@router.delete(
    "/v1/api-keys/{key_id}",
    operation_id="revoke_api_key",
    summary="Revoke an API key",
    status_code=204,
    responses=responses(key_unknown=404),
)
def revoke_api_key(doors: ServicesDep, who: SessionDep, key_id: KeyId) -> None:
    """It is refused from the next request on."""
    api_keys.revoke(doors, who, key_id)
