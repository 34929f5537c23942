"""Plans of orders, with the files beside a film that its job reads: assets of the same user, named
in an output.

In an order they stand where they are used (`subtitles` of `hls`); in a plan they have the names
that the engine gives them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from telecine.engine.media import ExtraInput
from telecine.engine.plan import Plan
from telecine.engine.probe import probe_inputs
from telecine.engine.profile import Profile
from telecine.engine.tools import see_able
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
    deleted), `ToolMissing`, and what `probe_inputs` and `plan_order` do.
    """
    with services.database.read() as tx:
        marks = asset_rows.picture_keys(tx, user_id, watermarks(order.images))
        keys = find_keys(tx, user_id, order.outputs)
    check_watermarks(order.images, marks)
    inputs = _look_into(services, order.profile, keys)
    plan = plan_order(order, source, services.images.limits, inputs)
    if isinstance(plan, Plan):
        see_able(services.tools, plan)
    return plan


def _look_into(
    services: Services,
    profile: Profile,
    keys: Mapping[str, str],
) -> tuple[ExtraInput, ...]:
    """What the files are that a job reads beside its source."""
    _see_all(profile.inputs, keys)
    with ExitStack() as files:
        try:
            paths = {name: files.enter_context(as_file(services.storage, keys[name]))
                     for name in profile.inputs}  # fmt: skip
        except Missing:
            raise _unknown(next(iter(profile.inputs))) from None
        return probe_inputs(profile, paths, services.tools)


def _see_all(wanted: Collection[str], there: Collection[str]) -> None:
    missing = [name for name in wanted if name not in there]
    if missing:
        raise _unknown(missing[0])


def _unknown(name: str) -> Invalid:
    return Invalid(f"no asset of yours is what {name} names", code="input_unknown")
