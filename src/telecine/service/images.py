"""Pictures by signed URLs: found where they were made before, else made, and kept.

A URL names what it wants; what is made of it is named by what it is made of (`content_name`), and
stored once for all assets of its owner with the same bytes; so is why it cannot be made (see
`image_refusals`). The row is written before the object and stays, so that there is no object
without a row; what has a row and no object is in the making, or lost, and made anew.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from telecine.engine.errors import InputRefused, MediaError, UsageError
from telecine.engine.images import grammar, lettering
from telecine.engine.images.formats import written
from telecine.engine.images.operations import Convert, Operation
from telecine.engine.images.transform import transform
from telecine.engine.images.values import Wanted
from telecine.service import image_refusals, image_urls, logs
from telecine.service.db import derivatives as rows
from telecine.service.db.connection import Tx
from telecine.service.db.derivatives import Derivative, Looked, Picture
from telecine.service.domain import Forbidden, Invalid, NotFound, ServiceError
from telecine.service.image_desk import SMALL_BYTES, Remembered, Shown
from telecine.service.image_keys import wrong_signature
from telecine.service.image_urls import AUTO, NO_OPS, ImageUrl
from telecine.service.services import Services
from telecine.service.storage.store import AlreadyThere, Missing, Storage, as_file

log = logs.get_logger("images")


@dataclass(frozen=True, slots=True)
class Order:
    """A derivative that has to be made. `uses` are the assets in it and what was asked of each;
    `now_s` and `looked_s` as in `Remembered`."""

    user_id: str
    name: str
    key: str
    wanted: Wanted
    source_key: str
    laid_over: Mapping[str, str]  # name in the operations → storage key
    uses: Mapping[str, str]
    now_s: float
    looked_s: float

    def time_s(self) -> float:
        """The database's time by now."""
        return self.now_s + time.monotonic() - self.looked_s


def find(
    services: Services, url: ImageUrl, accept: str, known: Shown | None = None
) -> Remembered | Order:
    """What a signed URL shows, if it is made already: its bytes too, where it is small. `known`:
    the answer to the same URL a moment ago, whose bytes are not read again.

    Raises `Forbidden` (`signature_invalid` where the key is revoked, `link_expired`), `NotFound`
    (`asset_unknown`), `Invalid` (`ops_not_canonical`), `InputRefused` (`not_an_image`) and what the
    grammar says of operations (`UsageError`).
    """
    request = image_urls.request_name(url, accept)
    looked_s = time.monotonic()
    order = None
    with services.database.read() as tx:
        looked = _look(tx, url, request)
        found = looked.derivative
        if found is None:
            order = _order(tx, url, accept, request, looked, looked_s)
            found = rows.find(tx, order.name)
    if found is not None:
        shown = _open(services, found, known, looked.now_s)
        if shown is not None:
            _note_use(services, looked, found, order)
            return Remembered(shown, looked.now_s, looked_s)
    if order is None:
        with services.database.read() as tx:
            order = _order(tx, url, accept, request, looked, looked_s)
    return order


def make(services: Services, order: Order) -> Future[Shown]:
    """Have it made, or wait for who has it made already. Raises `TooMany` (`images_busy`,
    `images_limited`); the future, what `transform` raises, and `TooMany` (`images_busy`)."""
    return services.image_desk.ask(_Work(services, order), order.user_id)


def check(shown: Shown) -> None:
    """Raises `InputRefused` where what is shown is why there is no picture."""
    if shown.content_type == image_refusals.CONTENT_TYPE:
        assert shown.data is not None  # it is small
        raise image_refusals.read(shown.data)


# --- what is there --------------------------------------------------------------------------------


def _look(tx: Tx, url: ImageUrl, request: str) -> Looked:
    looked = rows.look(tx, url.key_id, url.asset_id, request)
    if looked is None:
        raise wrong_signature()
    if url.expires_at is not None and looked.now_s >= url.expires_at:
        raise expired()
    if looked.source is None:
        raise unknown()
    return looked


def expired() -> Forbidden:
    return Forbidden("this link has expired: ask for a new one", code="link_expired")


def unknown() -> NotFound:
    return NotFound("there is no such picture", code="asset_unknown")


def _open(services: Services, found: Derivative, known: Shown | None, now_s: float) -> Shown | None:
    """The stored picture, or refusal; None: its object is gone, or is not the one that was noted,
    or it is a refusal that does not hold any more."""
    shown = known
    if known is None or (known.key, known.sha256) != (found.storage_key, found.sha256):
        shown = _read(services.storage, found)
    if shown is None or shown.content_type != image_refusals.CONTENT_TYPE:
        return shown
    assert shown.data is not None  # it is small
    if image_refusals.holds(shown.data, _conditions(services), now_s):
        return shown
    services.storage.delete(shown.key)
    return None


def _conditions(services: Services) -> dict[str, Any]:
    return image_refusals.conditions(services.images.limits, services.tools.version)


def _read(storage: Storage, found: Derivative) -> Shown | None:
    """What was stored. A small one was stored without a wait for the disk (`_keep`), so it is told
    by all its bytes."""
    try:
        stored = storage.stat(found.storage_key)
        whole, data = stored.size_bytes == found.size_bytes, None
        if whole and found.size_bytes <= SMALL_BYTES:
            data = b"".join(storage.read(found.storage_key))
            whole = hashlib.sha256(data).hexdigest() == found.sha256
    except Missing:
        return None
    if not whole:
        storage.delete(found.storage_key)
        return None
    return Shown(found.storage_key, found.content_type, found.size_bytes, found.sha256, data)


def _note_use(services: Services, looked: Looked, found: Derivative, order: Order | None) -> None:
    """That another asset has it too, or that it was used within this hour."""
    if order is None and not looked.stale:
        return
    with services.database.write() as tx:
        if order is not None:
            rows.note(tx, found, order.uses)
        if looked.stale:
            rows.touch(tx, found.digest)


# --- what is wanted -------------------------------------------------------------------------------


def _order(
    tx: Tx, url: ImageUrl, accept: str, request: str, looked: Looked, looked_s: float
) -> Order:
    operations = read_operations(url.ops)
    lettering.check_texts(operations)
    names = set(grammar.refs(operations))
    source = looked.source
    assert source is not None  # see `_look`
    found = {source.id: source}
    if names:
        found |= rows.pictures_of(tx, looked.user_id, names)
    if len(found) < len({source.id, *names}):
        raise unknown()
    keys = {asset_id: _source_key(picture) for asset_id, picture in found.items()}
    format = _format(url.extension, accept, source, operations)
    if url.extension == AUTO:
        operations = fit_to(operations, format)
    grammar.check_format(operations, format)
    laid_over = [(name, _content_of(found[name])) for name in names]
    name = image_urls.content_name(
        looked.user_id, _content_of(source), grammar.to_text(operations), format, laid_over
    )
    return Order(
        user_id=looked.user_id,
        name=name,
        key=image_urls.storage_key(name, format),
        wanted=Wanted(operations, format),
        source_key=keys[url.asset_id],
        laid_over={asset_id: keys[asset_id] for asset_id in names},
        uses={**dict.fromkeys(names, name), url.asset_id: request},
        now_s=looked.now_s,
        looked_s=looked_s,
    )


def read_operations(ops: str) -> tuple[Operation, ...]:
    """The operations of a URL. Raises `UsageError`; `Invalid` (`ops_not_canonical`, with the
    canonical form): each picture has one URL, so that caches keep it once."""
    operations = grammar.parse_text("" if ops == NO_OPS else ops)
    canonical = grammar.to_text(operations) or NO_OPS
    if canonical != ops:
        raise Invalid(
            f"the operations are to be written as {canonical}",
            code="ops_not_canonical",
            canonical=canonical,
        )
    return operations


def _source_key(picture: Picture) -> str:
    if picture.source_key is None:  # deleted when its job was done
        raise unknown()
    if picture.kind != "image":
        raise InputRefused(f"asset {picture.id} is no picture", code="not_an_image")
    return picture.source_key


def _content_of(picture: Picture) -> str:
    """What a picture's bytes are. They never change: where their digest is not known, the asset's
    id names them too."""
    return picture.sha256 or picture.id


def _format(extension: str, accept: str, source: Picture, operations: tuple[Operation, ...]) -> str:
    if extension != AUTO:
        if extension not in image_urls.FORMATS:
            known = ", ".join((*image_urls.FORMATS, AUTO))
            raise UsageError(f"no format {extension[:20]!r}: one of {known}", code="format_unknown")
        return image_urls.FORMATS[extension]
    info = source.image or {}
    still = grammar.conversion(operations).frames == "first"
    return image_urls.choose(
        image_urls.choices(accept),
        animated=info.get("frames", 1) > 1 and not still,
        alpha=grammar.transparent_after(bool(info.get("alpha")), operations),
    )


def fit_to(operations: tuple[Operation, ...], format: str) -> tuple[Operation, ...]:
    """The operations without what the format that was chosen for this client cannot do: a URL that
    leaves the choice to us is not refused for it."""
    can, wanted = written(format), grammar.conversion(operations)
    lossy = can.quality is not None
    fitted = replace(
        wanted,
        quality=wanted.quality if lossy else None,
        max_bytes=wanted.max_bytes if lossy else None,
        lossless=wanted.lossless and can.lossless,
        progressive=wanted.progressive or not can.progressive,
        depth=wanted.depth if can.deep else 8,
        keep=tuple(kept for kept in wanted.keep if kept in can.kept),
    )
    others = tuple(op for op in operations if not isinstance(op, Convert))
    return others if fitted == Convert() else (*others, fitted)


# --- work -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Work:
    """An order at the image desk."""

    services: Services
    order: Order

    @property
    def name(self) -> str:
        return self.order.name

    @property
    def looked_s(self) -> float:
        return self.order.looked_s

    def make(self, perhaps_there: bool) -> Shown:
        there = _stored(self.services, self.order) if perhaps_there else None
        if there is not None:
            return there
        try:
            return _make(self.services, self.order)
        except MediaError as error:
            refused = _refused(self.services, self.order, error)
            if refused is None:
                raise
            return refused

    def keep(self, made: Sequence[tuple[_Work, Shown]]) -> None:
        _keep(made)


def _stored(services: Services, order: Order) -> Shown | None:
    with services.database.read() as tx:
        found = rows.find(tx, order.name)
    return None if found is None else _open(services, found, None, order.time_s())


def _refused(services: Services, order: Order, error: MediaError) -> Shown | None:
    """A refusal, under the key that its picture would have: so there is one object a name. None
    where it may be made another time."""
    data = image_refusals.write(error, _conditions(services), order.time_s())
    if data is None:
        return None
    digest = hashlib.sha256(data).hexdigest()
    return Shown(order.key, image_refusals.CONTENT_TYPE, len(data), digest, data)


def _make(services: Services, order: Order) -> Shown:
    with ExitStack() as files:

        def local(key: str) -> Path:
            return files.enter_context(as_file(services.storage, key))

        try:
            source = local(order.source_key)
            refs = {name: local(key) for name, key in order.laid_over.items()}
            made = transform(services.images, source, order.wanted, refs=refs, tenant=order.user_id)
        except Missing:
            raise unknown() from None
        except InputRefused as error:
            if error.code == "source_missing":  # deleted while this waited
                raise unknown() from None
            raise
    digest = hashlib.sha256(made.data).hexdigest()
    return Shown(order.key, made.content_type, len(made.data), digest, made.data)


def _keep(made: Sequence[tuple[_Work, Shown]]) -> None:
    """Store them. Where that fails they are made again another time; so is a small one that a
    failure of the machine's power has damaged, which is seen when it is read. One that is sent from
    the disk piece by piece is not looked at first: it is made durable."""
    new = [(work, shown) for work, shown in made if shown.data is not None]  # else it is there
    for services, of_one in groupby(new, key=lambda each: each[0].services):
        # In one order everywhere, so that no two processes wait for each other's rows.
        batch = sorted(of_one, key=lambda each: each[0].name)
        try:
            with services.database.write() as tx:
                noted = [each for each in batch if _noted(tx, *each)]
        except (ServiceError, OSError) as error:
            keys = [shown.key for _, shown in batch]
            log.warning("cannot keep pictures", keys=keys, error=str(error))
            continue
        for _, shown in noted:
            _store(services.storage, shown)


def _noted(tx: Tx, work: _Work, shown: Shown) -> bool:
    """False: one of its assets was deleted meanwhile."""
    row = Derivative(work.name, shown.key, shown.content_type, shown.size_bytes, shown.sha256)
    return rows.note(tx, row, work.order.uses)


def _store(storage: Storage, shown: Shown) -> None:
    assert shown.data is not None
    try:
        storage.put_bytes(shown.key, shown.data, durable=shown.size_bytes > SMALL_BYTES)
    except AlreadyThere:
        return  # another process was as quick
    except (ServiceError, OSError) as error:
        log.warning("cannot keep a picture", key=shown.key, error=str(error))
