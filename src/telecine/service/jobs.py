"""Jobs: submit, estimate, read, list, cancel, retry, and what they made.

Everything here is the asker's own: an id of somebody else's is as unknown as one that never was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from telecine.engine.images.values import ImageInfo
from telecine.engine.media import MediaInfo
from telecine.engine.plan import Plan
from telecine.engine.serial import from_older
from telecine.service import content_keys
from telecine.service.beside import plan_wish
from telecine.service.db import assets as asset_rows
from telecine.service.db import jobs as rows
from telecine.service.db import queue, work
from telecine.service.db.assets import AssetRow
from telecine.service.db.connection import Tx
from telecine.service.db.events import EventRow
from telecine.service.db.jobs import JobRow, OutputRow
from telecine.service.dispatch.bell import EVENTS, TASKS
from telecine.service.domain import (
    FINAL_JOB_STATES,
    Conflict,
    Invalid,
    JobState,
    NotFound,
    Principal,
    new_id,
)
from telecine.service.estimates import Estimate, estimate
from telecine.service.image_plans import ImagePlan
from telecine.service.orders import Found, Order, choose_digest, new_job, summarize
from telecine.service.progress import Progress, measure
from telecine.service.services import Services


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as its owner sees it. In a list `progress` is there for jobs that run, and no `plan`,
    which is the summary of its plan; `position` is its place in the queue while it waits."""

    row: JobRow
    progress: Progress | None
    position: int | None = None
    plan: Mapping[str, Any] | None = None


def submit(
    services: Services,
    who: Principal,
    order: Order,
    *,
    asset_id: str | None = None,
    upload_id: str | None = None,
) -> JobView:
    """Queue a job for an asset of the asker's, or for the one that an upload of theirs became.

    Raises `NotFound`, `Invalid` (`asset_or_upload`), `Conflict` (`upload_unfinished`,
    `source_gone`), and what `plan_wish` raises where the source does not fit what is wanted.
    """
    asset, plan, expected = _planned(services, who, order, asset_id, upload_id)
    profile = order.profile
    stored = content_keys.kept(
        services.signer, who.user_id, profile.protection, order.key, order.outputs
    )
    job = new_job(
        replace(order, outputs=stored),
        plan,
        job_id=new_id(),
        user_id=who.user_id,
        asset_id=asset.id,
        digest=choose_digest(asset.source_sha256, expected),
    )
    with services.database.write() as tx:
        queue.submit(tx, job, max_running_jobs=services.settings.max_running_jobs)
        _own_source(tx, who, asset.id)  # it may have gone while the plan was made
        view = _whole(tx, who, job.id)
    services.bell.ring(TASKS)
    return view


def expect(
    services: Services,
    who: Principal,
    order: Order,
    *,
    asset_id: str | None = None,
    upload_id: str | None = None,
) -> tuple[dict[str, Any], Estimate]:
    """What `submit` would make: the plan's summary, and what it is expected to cost. Raises as
    `submit` does; queues nothing."""
    _, plan, _ = _planned(services, who, order, asset_id, upload_id)
    return summarize(plan), estimate(plan)


def read(services: Services, who: Principal, job_id: str) -> JobView:
    """A job of the asker's. Raises `NotFound`."""
    with services.database.read() as tx:
        return _whole(tx, who, job_id)


def list_mine(
    services: Services,
    who: Principal,
    *,
    state: JobState | None,
    asset_id: str | None,
    after: str | None,
    limit: int,
) -> list[JobView]:
    """The asker's jobs, newest first, older than `after`."""
    with services.database.read() as tx:
        found = rows.list_jobs(
            tx, who.user_id, state=state, asset_id=asset_id, after=after, limit=limit
        )
        # Few, since a user has but so many at once: a page need not read the plans of all.
        running = [row for row in found if row.state == "running"]
        summaries = rows.summaries(tx, [row.id for row in running]) if running else {}
        progress = _measured(tx, running, summaries)
    return [JobView(row, progress.get(row.id)) for row in found]


def cancel(services: Services, who: Principal, job_id: str) -> JobView:
    """End a job: one that waits at once, one that runs within seconds. Asking twice is no error.
    Raises `NotFound`, `Conflict` (`job_finished`)."""
    with services.database.write() as tx:
        row = _own(tx, who, job_id)
        if row.state in ("succeeded", "failed"):
            raise Conflict(f"the job has {row.state}", code="job_finished", state=row.state)
        if row.state != "cancelled":
            queue.request_cancel(tx, job_id)
        view = _whole(tx, who, job_id)
    services.bell.ring(TASKS)
    services.bell.ring(EVENTS)
    return view


def retry(services: Services, who: Principal, job_id: str, *, only_failed: bool) -> JobView:
    """Queue a job again that failed or was cancelled: all of it, or only what had not succeeded.
    Raises `NotFound`, `Conflict` (`job_not_failed`, `source_gone`)."""
    with services.database.write() as tx:
        asset_id = _own(tx, who, job_id).asset_id
        if not queue.retry(tx, job_id, only_failed=only_failed):
            state = _own(tx, who, job_id).state
            raise Conflict(
                f"the job is {state}: only what failed or was cancelled can be tried again",
                code="job_not_failed",
                state=state,
            )
        _own_source(tx, who, asset_id)
        view = _whole(tx, who, job_id)
    services.bell.ring(TASKS)
    services.bell.ring(EVENTS)
    return view


@dataclass(frozen=True, slots=True)
class Made:
    """What a job has made, and of which film; `now_s` is the database's time."""

    outputs: Sequence[OutputRow]
    title: str
    now_s: float


def outputs(
    services: Services, who: Principal, job_id: str, *, after: str | None, limit: int
) -> Made:
    """The finished files of a job of the asker's, by path, those after path `after`. Raises
    `NotFound`."""
    with services.database.read() as tx:
        row = _own(tx, who, job_id)
        asset = asset_rows.find_asset(tx, row.asset_id)
        found = rows.list_outputs(tx, job_id, after=after, limit=limit)
        done = row.prefix is not None
        return Made(found if done else (), asset.title if asset else "", tx.now_s())


# --- following ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seen:
    """A job at one moment, in one transaction: events after the last one that was heard, up to
    number `reached`, of `last_event` that there are; and its progress."""

    events: Sequence[EventRow]
    reached: int
    last_event: int
    state: JobState
    progress: Progress
    position: int | None
    at_s: float  # that moment, by the database's clock

    @property
    def over(self) -> bool:
        """Whether nothing follows: the state is final and its event was reached."""
        return self.state in FINAL_JOB_STATES and self.reached >= self.last_event


def follow(services: Services, who: Principal, job_id: str, after: int) -> Seen:
    """A job of the asker's with its events after number `after`. Raises `NotFound`."""
    with services.database.read() as tx:
        _own(tx, who, job_id)
        return glance(tx, {job_id: after})[job_id]


def glance(tx: Tx, heard: Mapping[str, int]) -> dict[str, Seen]:
    """Job → what it tells beyond the number that was heard; jobs that are gone are left out."""
    at_s = tx.now_s()
    found = rows.find_jobs(tx, list(heard))
    progress = _measured(tx, found, rows.summaries(tx, [row.id for row in found]))
    return {row.id: _seen(tx, row, progress[row.id], heard[row.id], at_s) for row in found}


def _seen(tx: Tx, row: JobRow, progress: Progress, heard: int, at_s: float) -> Seen:
    events = queue.events_after(tx, row.id, heard) if row.last_event > heard else []
    return Seen(
        events=tuple(events),
        reached=events[-1].number if events else row.last_event,
        last_event=row.last_event,
        state=row.state,
        progress=progress,
        position=_position(tx, row),
        at_s=at_s,
    )


# --- inside ---------------------------------------------------------------------------------------


def _planned(
    services: Services,
    who: Principal,
    order: Order,
    asset_id: str | None,
    upload_id: str | None,
) -> tuple[AssetRow, Plan | ImagePlan, str | None]:
    """The asset, the plan, and the SHA-256 that the client announced, if any."""
    if (asset_id is None) == (upload_id is None):
        raise Invalid("either asset_id or upload_id", code="asset_or_upload")
    with services.database.read() as tx:
        if asset_id is None:
            assert upload_id is not None
            asset_id = _asset_of(tx, who, upload_id)
        asset = _own_source(tx, who, asset_id)
        media = asset_rows.find_media(tx, asset_id)
        image = asset_rows.find_image(tx, asset_id)
        expected = work.expected_sha256(tx, asset_id)
    source = Found(
        None if media is None else from_older(MediaInfo, media),
        None if image is None else from_older(ImageInfo, image),
        is_subtitles=asset.kind == "subtitles",
    )
    return asset, plan_wish(services, who.user_id, order, source), expected


def _asset_of(tx: Tx, who: Principal, upload_id: str) -> str:
    found = rows.find_upload(tx, upload_id, user_id=who.user_id)
    if found is None:
        raise NotFound("no such upload", code="upload_unknown")
    state, asset_id = found
    if asset_id is None:
        raise Conflict(f"the upload is {state}, not finished", code="upload_unfinished")
    return asset_id


def _own_source(tx: Tx, who: Principal, asset_id: str) -> AssetRow:
    asset = asset_rows.find_asset(tx, asset_id)
    if asset is None or asset.user_id != who.user_id:
        raise NotFound("no such asset", code="asset_unknown")
    if asset.source_key is None:
        raise Conflict("the asset's source was deleted when its job was done", code="source_gone")
    return asset


def _own(tx: Tx, who: Principal, job_id: str) -> JobRow:
    row = rows.find_job(tx, job_id, user_id=who.user_id)
    if row is None:
        raise NotFound("no such job", code="job_unknown")
    return row


def _whole(tx: Tx, who: Principal, job_id: str) -> JobView:
    row = _own(tx, who, job_id)
    summary = rows.summaries(tx, [job_id])[job_id]
    return JobView(
        row,
        _measured(tx, [row], {job_id: summary})[job_id],
        _position(tx, row),
        summary,
    )


def _position(tx: Tx, row: JobRow) -> int | None:
    return queue.position_in_queue(tx, row.id) if row.state == "queued" else None


def _measured(
    tx: Tx, found: Sequence[JobRow], summaries: Mapping[str, Mapping[str, Any]]
) -> dict[str, Progress]:
    tasks = rows.task_rows(tx, [row.id for row in found]) if found else {}
    now_s = tx.now_s()
    return {
        row.id: measure(
            tasks[row.id],
            summaries[row.id],
            state=row.state,
            started_at=row.started_at,
            now_s=now_s,
        )
        for row in found
    }
