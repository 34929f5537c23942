"""Routes of image keys. Sessions only, as with API keys."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import ConfigDict, Field

from telecine.service import image_keys
from telecine.service.api.deps import ServicesDep, SessionDep
from telecine.service.api.errors import responses
from telecine.service.api.idempotency import SessionOnce
from telecine.service.api.routes.accounts import ID_FORM, Name
from telecine.service.api.schemas import After, Answer, Asked, Limit, Page, make_page, rfc3339
from telecine.service.db.image_keys import ImageKey

router = APIRouter(tags=["image keys"])

KeyId = Annotated[str, Path(description="The key's id.", pattern=ID_FORM)]

_KEY_EXAMPLE: dict[str, Any] = {
    "id": "01KAJ9XK6B2T3W4Y5Z6A7B8C9D",
    "name": "the shop's pages",
    "created_at": "2026-11-21T10:23:45.678Z",
}
_SECRET_EXAMPLE = "tci_" + "7d659a2feaa0c55ad015a3bf4f1b2b0b" * 2


class NewImageKey(Asked):
    """A key that signs URLs of my pictures."""

    name: Annotated[Name, Field(min_length=1)]


class ImageKeyAnswer(Answer):
    """One of my image keys, without its secret."""

    model_config = ConfigDict(json_schema_extra={"examples": [_KEY_EXAMPLE]})

    id: str = Field(description="What URLs begin with: `/i/{id}.…`")
    name: str
    created_at: str


class NewImageKeyAnswer(ImageKeyAnswer):
    """A new key; its secret is shown this once."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**_KEY_EXAMPLE, "secret": _SECRET_EXAMPLE}]}
    )

    secret: str = Field(description="The key of the HMAC, as it stands here, byte for byte.")


def _show(key: ImageKey) -> ImageKeyAnswer:
    return ImageKeyAnswer(id=key.id, name=key.name, created_at=rfc3339(key.created_at))


@router.post(
    "/v1/image-keys",
    operation_id="create_image_key",
    summary="Create a key that signs URLs of my pictures",
    status_code=201,
)
def create_image_key(doors: ServicesDep, who: SessionOnce, asked: NewImageKey) -> NewImageKeyAnswer:
    """Its secret is shown in this answer and never again; the service itself keeps none."""
    new = image_keys.create(doors, who, name=asked.name)
    return NewImageKeyAnswer(**_show(new.key).model_dump(), secret=new.secret)


@router.get("/v1/image-keys", operation_id="list_image_keys", summary="List my image keys")
def list_image_keys(
    doors: ServicesDep, who: SessionDep, limit: Limit = 20, after: After = None
) -> Page[ImageKeyAnswer]:
    """Those that are not revoked, the newest first."""
    rows = image_keys.list_mine(doors, who, after=after, limit=limit + 1)
    return make_page(rows, limit, _show, lambda row: row.id)


@router.delete(
    "/v1/image-keys/{image_key_id}",
    operation_id="revoke_image_key",
    summary="Revoke an image key",
    status_code=204,
    responses=responses(image_key_unknown=404),
)
def revoke_image_key(doors: ServicesDep, who: SessionDep, image_key_id: KeyId) -> None:
    """The URLs that it has signed are refused within a second."""
    image_keys.revoke(doors, who, image_key_id)
