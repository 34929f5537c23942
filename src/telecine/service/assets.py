"""Assets: list, search, read, edit, delete; the public gallery.

The owner sees all of an asset. Anyone who has the id of a public or unlisted one sees what a viewer
needs; for everyone else it does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from telecine.service.db import assets as rows
from telecine.service.db.assets import AssetRow
from telecine.service.db.connection import Tx
from telecine.service.dispatch.bell import EVENTS
from telecine.service.domain import (
    AssetKind,
    AssetState,
    Conflict,
    Forbidden,
    NotFound,
    Principal,
    Visibility,
)
from telecine.service.services import Services


def list_mine(
    services: Services,
    who: Principal,
    *,
    words: str | None,
    state: AssetState | None,
    kind: AssetKind | None,
    visibility: Visibility | None,
    after: str | None,
    limit: int,
) -> tuple[list[AssetRow], float]:
    """The asker's assets, newest first, older than `after`; and the database's time."""
    with services.database.read() as tx:
        found = rows.list_assets(
            tx,
            user_id=who.user_id,
            visibility=visibility,
            state=state,
            kind=kind,
            words=words,
            after=after,
            limit=limit,
        )
        return found, tx.now_s()


def list_gallery(
    services: Services, *, words: str | None, after: str | None, limit: int
) -> tuple[list[AssetRow], float]:
    """What everyone may see: public and ready, newest first, older than `after`; and the database's
    time."""
    with services.database.read() as tx:
        found = rows.list_assets(
            tx,
            user_id=None,
            visibility="public",
            state="ready",
            words=words,
            after=after,
            limit=limit,
        )
        return found, tx.now_s()


@dataclass(frozen=True, slots=True)
class Contents:
    """What was found in an asset, as the engine wrote it: as a film or sound, as a picture."""

    media: Any
    image: Any


def read(
    services: Services, who: Principal | None, asset_id: str
) -> tuple[AssetRow, Contents | None, float]:
    """An asset, what was found in it if the asker `sees_all`, and the database's time.

    Raises `NotFound`, also where it is private and somebody else's; `Forbidden` (`scope_missing`)
    for an API key that may not see its user's private assets.
    """
    with services.database.read() as tx:
        row = rows.find_asset(tx, asset_id)
        if row is not None and sees_all(who, row):
            return row, _contents(tx, asset_id), tx.now_s()
        if row is None or row.visibility == "private":
            if row is not None and who is not None and who.user_id == row.user_id:
                raise Forbidden("this API key lacks the scope assets:read", code="scope_missing")
            raise NotFound("no such asset", code="asset_unknown")
        return row, None, tx.now_s()


def sees_all(who: Principal | None, row: AssetRow) -> bool:
    """Whether an asset is the asker's own, and they may read their assets; all others see what a
    viewer needs."""
    return who is not None and who.user_id == row.user_id and "assets:read" in who.scopes


def edit(
    services: Services, who: Principal, asset_id: str, changes: Mapping[str, str]
) -> tuple[AssetRow, Contents | None, float]:
    """Change title, description or visibility; the asset as `read` tells it. Raises `NotFound`."""
    with services.database.write() as tx:
        _own(tx, who, asset_id)
        if changes:
            rows.update_asset(tx, asset_id, changes)
        return _own(tx, who, asset_id), _contents(tx, asset_id), tx.now_s()


def delete(services: Services, who: Principal, asset_id: str) -> None:
    """Remove an asset, its jobs and all of their files: gone for readers at once, from the disk
    when the collector has been. What runs for it is ended within seconds. Raises `NotFound`."""
    with services.database.write() as tx:
        rows.delete_asset(tx, _own(tx, who, asset_id))
    services.bell.ring(EVENTS)


def source_of(services: Services, who: Principal, asset_id: str) -> tuple[AssetRow, float]:
    """An asset of the asker's that still has its source, and the database's time. Raises
    `NotFound`, `Conflict` (`source_gone`)."""
    with services.database.read() as tx:
        row = _own(tx, who, asset_id)
        now_s = tx.now_s()
    if row.source_key is None:
        raise Conflict("the source was deleted when its job was done", code="source_gone")
    return row, now_s


def _contents(tx: Tx, asset_id: str) -> Contents:
    return Contents(rows.find_media(tx, asset_id), rows.find_image(tx, asset_id))


def _own(tx: Tx, who: Principal, asset_id: str) -> AssetRow:
    row = rows.find_asset(tx, asset_id)
    if row is None or row.user_id != who.user_id:
        raise NotFound("no such asset", code="asset_unknown")
    return row
