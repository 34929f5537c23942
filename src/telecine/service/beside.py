"""Plans of orders, with the files beside a film that its job reads: assets of the same user, named
in an output.

In an order they stand where they are used (`subtitles` of `hls`); in a plan they have the names
that the engine gives them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from telecine.engine.media import ExtraInput, MediaInfo
from telecine.engine.plan import Plan
from telecine.engine.probe import probe_inputs
from telecine.engine.profile import Profile
from telecine.engine.serial import from_older
from telecine.engine.tools import see_able
from telecine.engine.words.concat import film_names
from telecine.service.db import assets as asset_rows
from telecine.service.db.connection import Tx
from telecine.service.domain import Invalid
from telecine.service.image_plans import ImagePlan, check_watermarks, watermarks
from telecine.service.orders import Found, Order, input_assets, plan_order
from telecine.service.services import Services
from telecine.service.storage.store import Missing, as_file


def find_keys(tx: Tx, user_id: str, outputs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Input → key of its object, of those assets that are the user's and have their source."""
    wanted = input_assets(outputs)
    keys = asset_rows.source_keys(tx, user_id, frozenset(wanted.values()))
    return {name: keys[asset_id] for name, asset_id in wanted.items() if asset_id in keys}


def plan_wish(services: Services, user_id: str, order: Order, source: Found) -> Plan | ImagePlan:
    """How this user's order of this source is carried out here.

    Raises `Invalid` (`watermark_missing`; `input_unknown`: an asset of somebody else's, or
    deleted; `film_no_picture`: what is to be joined is no film), `ToolMissing`, and what
    `probe_inputs` and `plan_order` do.
    """
    with services.database.read() as tx:
        marks = asset_rows.picture_keys(tx, user_id, watermarks(order.images))
        keys = find_keys(tx, user_id, order.outputs)
        films = _find_films(tx, order.outputs, keys)
    check_watermarks(order.images, marks)
    inputs = _look_into(services, order.profile, keys, films)
    plan = plan_order(order, source, services.images.limits, inputs)
    if isinstance(plan, Plan):
        see_able(services.tools, plan)
    return plan


def _find_films(
    tx: Tx, outputs: Sequence[Mapping[str, Any]], there: Collection[str]
) -> dict[str, Any]:
    """Input → what was found in a film when it was uploaded."""
    wanted = input_assets(outputs)
    names = film_names(len(wanted))
    return {
        name: asset_rows.find_media(tx, wanted[name])
        for name in names
        if name in wanted and name in there
    }


def _look_into(
    services: Services, profile: Profile, keys: Mapping[str, str], films: Mapping[str, Any]
) -> tuple[ExtraInput, ...]:
    """What the files are that a job reads beside its source."""
    _see_all(profile.inputs, keys)
    others = replace(profile, concat=0)
    joined = tuple(_film(name, films[name]) for name in film_names(profile.concat))
    with ExitStack() as files:
        try:
            paths = {name: files.enter_context(as_file(services.storage, keys[name]))
                     for name in others.inputs}  # fmt: skip
        except Missing:
            raise _unknown(next(iter(others.inputs))) from None
        return (*probe_inputs(others, paths, services.tools), *joined)


def _film(name: str, media: Any) -> ExtraInput:
    """A film as it was found to be when it was uploaded: it is not looked into again."""
    if media is None:
        raise Invalid(f"{name} is no film", code="film_no_picture")
    film = from_older(MediaInfo, media)
    return ExtraInput(name, "film", film.fingerprint, film=film)


def _see_all(wanted: Collection[str], there: Collection[str]) -> None:
    missing = [name for name in wanted if name not in there]
    if missing:
        raise _unknown(missing[0])


def _unknown(name: str) -> Invalid:
    return Invalid(f"no asset of yours is what {name} names", code="input_unknown")
