"""Routes of jobs: submit, estimate, read, follow, cancel, retry, and what they made."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from telecine.service import accounts, content_keys, downloads, jobs
from telecine.service.api.deps import JobsRead, JobsWrite, ServicesDep
from telecine.service.api.errors import responses
from telecine.service.api.feed import Feed, Watch
from telecine.service.api.idempotency import JobsWriteOnce
from telecine.service.api.outputs import OrderAsked
from telecine.service.api.schemas import (
    NO_NUL,
    After,
    Answer,
    Asked,
    Limit,
    Page,
    make_page,
    rfc3339,
)
from telecine.service.db.events import EventRow
from telecine.service.db.jobs import OutputRow
from telecine.service.domain import Invalid, JobState, NotFound, Principal, SourcePolicy
from telecine.service.jobs import JobView
from telecine.service.presets import PRESETS
from telecine.service.progress import Progress
from telecine.service.services import Services

PING_S = 15.0
CHECK_S = 1.0  # log-out ends access within a second, also to a stream that is open

router = APIRouter(prefix="/v1", tags=["jobs"])

JobId = Annotated[str, Path(description="The job's id.", max_length=26)]


# --- what is asked and answered -------------------------------------------------------------------


class JobAsked(OrderAsked):
    """A job for an asset, or for the asset that a finished upload became."""

    asset_id: str | None = Field(
        None, max_length=26, pattern=NO_NUL, examples=["01KAJ9XK6B2T3W4Y5Z6A7B8C9D"]
    )
    upload_id: str | None = Field(None, max_length=26, pattern=NO_NUL)


class RetryAsked(Asked):
    """What is to be done again."""

    only_failed: bool = Field(
        False, description="Keep what had succeeded, and do the rest. Else all is made anew."
    )


class StageShown(Answer):
    """All work of one kind."""

    name: str = Field(examples=["encode"])
    fraction: float = Field(description="0 to 1.", examples=[0.4])
    tasks: int = Field(examples=[5])
    tasks_done: int = Field(examples=[2])


class ProgressShown(Answer):
    """How far a job is."""

    fraction: float = Field(description="0 to 1 of the expected work.", examples=[0.4213])
    stage: str = Field(
        description="The first kind of work that is not done; empty when all is.",
        examples=["encode"],
    )
    stages: list[StageShown]
    rungs: dict[str, float] = Field(
        description="Each rendition: 0 to 1 of its duration.", examples=[{"1080p": 0.4, "aac": 1.0}]
    )
    speed: float | None = Field(description="Seconds of film a second.", examples=[3.2])
    eta_s: float | None = Field(description="Seconds that are left, at this pace.", examples=[41.5])
    queue_position: int | None = Field(
        description="Place among your waiting jobs, from 1; null once it has started.",
        examples=[None],
    )


class FailureShown(Answer):
    """Why a job failed: a stable code, and a line for people."""

    code: str = Field(examples=["encode_failed"])
    message: str = Field(examples=["step encode-0003: FFmpeg ended with 1"])


class RungShown(Answer):
    """One rendition of the plan, and why it is there."""

    name: str = Field(examples=["720p"])
    kind: str = Field(description="`video` or `audio`.", examples=["video"])
    codec: str | None = Field(description="Of pictures, as an order names it.", examples=["h264"])
    video_range: str | None = Field(
        description="Of pictures: `SDR`, `PQ` or `HLG`.", examples=["SDR"]
    )
    width: int | None = Field(examples=[1280])
    height: int | None = Field(examples=[720])
    mode: str = Field(description="`copy` or `encode`.", examples=["encode"])
    max_bitrate_bps: int | None = Field(examples=[3_500_000])
    listed: bool = Field(description="Whether playlists name it; else only a file needs it.")
    reason: str = Field(examples=["standard rung"])


class DroppedShown(Answer):
    """A rung that is not made, and why."""

    name: str = Field(examples=["2160p"])
    reason: str = Field(examples=["above the source: nothing is enlarged"])


class FileShown(Answer):
    """A file of the plan."""

    type: str = Field(examples=["poster"])
    path: str = Field(examples=["poster.jpg"])


class BesideShown(Answer):
    """Something beside the film, and from what it is made."""

    output: str = Field(examples=["storyboard"])
    reason: str = Field(examples=["29 key pictures of 240p, one every 2 s, 5 × 5 on a sheet"])


class SubtitlesShown(Answer):
    """A track of subtitles in the playlists."""

    name: str = Field(examples=["en-sdh"])
    title: str = Field(examples=["English (SDH)"])
    language: str | None = Field(examples=["en"])
    default: bool
    forced: bool
    hearing_impaired: bool
    reason: str = Field(examples=["subrip of stream 2 as WebVTT"])


class PlanShown(Answer):
    """What is made of the source, and why."""

    duration_s: float
    frame_rate: float | None
    segments: int
    chunks: int = Field(description="Parts that may be encoded at the same time.")
    source: list[str] = Field(description="The source in plain words.")
    changes: list[str] = Field(description="What a viewer may notice.")
    rungs: list[RungShown]
    dropped: list[DroppedShown]
    top_not_copied: list[str] = Field(description="Why the source's own picture is no rung.")
    subtitles: list[SubtitlesShown] = Field(default_factory=list)
    burned_in: str | None = Field(
        None, description="Which subtitles are part of the pictures.", examples=["ass of stream 3"]
    )
    quality: str | None = Field(
        None, description="What is done to find or measure how good the pictures are."
    )
    files: list[FileShown]
    beside: list[BesideShown] = Field(
        default_factory=list, description="Pictures, waveform and chapters."
    )
    warnings: list[str]


class PlannedImageShown(Answer):
    """A picture of the plan."""

    path: str = Field(examples=["small.webp"])
    format: str = Field(examples=["webp"])
    reason: str = Field(description="Why it has this format.", examples=["asked for"])
    operations: str = Field(
        description="In canonical text, as a URL has it.", examples=["resize:w=800"]
    )
    width: int = Field(examples=[800])
    height: int = Field(examples=[600])
    exact: bool = Field(description="False after a `trim`: sides are at most so long.")
    frames: int = Field(examples=[1])


class ImagePlanShown(Answer):
    """What is made of a picture, and why."""

    type: Literal["image"]
    source: list[str] = Field(description="The source in plain words.")
    outputs: list[PlannedImageShown]
    warnings: list[str]


class JobInList(Answer):
    """One request to process an asset."""

    id: str = Field(examples=["01KAJ9XK6B2T3W4Y5Z6A7B8C9D"])
    asset_id: str = Field(examples=["01KAJ9XG5Y0Q4R8S2T6V0W3X7Z"])
    state: JobState
    priority: int = Field(examples=[0])
    preset: str | None = Field(examples=["stream"])
    outputs: list[dict[str, Any]] = Field(examples=[[{"type": "hls"}, {"type": "poster"}]])
    metadata: dict[str, str] = Field(examples=[{"order": "17"}])
    source_policy: SourcePolicy
    retries: int = Field(examples=[0])
    progress: ProgressShown | None = Field(description="In a list only while the job runs.")
    warnings: list[str]
    error: FailureShown | None
    time_to_first_play_s: float | None = Field(
        description="Since it was queued, the last time, until its first seconds could be played.",
        examples=[1.9],
    )
    created_at: str = Field(examples=["2026-11-21T10:23:45.678Z"])
    started_at: str | None = Field(examples=["2026-11-21T10:23:45.700Z"])
    finished_at: str | None = Field(examples=[None])


class JobShown(JobInList):
    """One request to process an asset, with its plan."""

    plan: PlanShown | ImagePlanShown | None


class ExpectedShown(Answer):
    """One rendition or file, as expected."""

    name: str = Field(examples=["720p"])
    type: str = Field(examples=["rendition"])
    size_bytes: int = Field(examples=[14_437_500])
    max_size_bytes: int = Field(examples=[26_250_000])


class EstimateShown(Answer):
    """What such a job would do, and what it is expected to cost."""

    plan: PlanShown | ImagePlanShown
    encoder_s: float = Field(description="Processor seconds, over all cores.", examples=[36.1])
    size_bytes: int = Field(description="Of everything that stays.", examples=[41_000_000])
    max_size_bytes: int = Field(examples=[70_000_000])
    outputs: list[ExpectedShown]
    basis: list[str] = Field(description="What these figures rest on.")


class OutputShown(Answer):
    """A finished file. `url` is signed: whoever has it may read the file until it expires."""

    id: str
    kind: str = Field(examples=["mp4"])
    path: str = Field(description="Within the job's files.", examples=["720p.mp4"])
    content_type: str = Field(examples=["video/mp4"])
    size_bytes: int = Field(examples=[14_437_500])
    sha256: str
    facts: dict[str, Any] = Field(description="Measured on the file.")
    url: str
    expires_at: str = Field(examples=["2026-11-21T11:23:45.000Z"])


class PresetShown(Answer):
    """A list of outputs with a name."""

    name: str = Field(examples=["web-mp4"])
    description: str
    outputs: list[dict[str, Any]]


def show_progress(progress: Progress, position: int | None) -> ProgressShown:
    return ProgressShown(
        fraction=round(progress.fraction, 4),
        stage=next((stage.name for stage in progress.stages if stage.fraction < 1), ""),
        stages=[
            StageShown(
                name=stage.name,
                fraction=round(stage.fraction, 4),
                tasks=stage.tasks,
                tasks_done=stage.tasks_done,
            )
            for stage in progress.stages
        ],
        rungs={name: round(fraction, 4) for name, fraction in progress.rungs.items()},
        speed=None if progress.speed is None else round(progress.speed, 2),
        eta_s=None if progress.eta_s is None else round(progress.eta_s, 1),
        queue_position=position,
    )


def show_plan(summary: Mapping[str, Any]) -> PlanShown | ImagePlanShown | None:
    """A plan's summary; None where a job has none."""
    if summary.get("type") == "image":
        return ImagePlanShown.model_validate(summary)
    return PlanShown.model_validate(summary) if "duration_s" in summary else None


def _show_job(view: JobView) -> dict[str, Any]:
    row = view.row
    planned = (view.plan or {}).get("warnings", [])
    return {
        "id": row.id,
        "asset_id": row.asset_id,
        "state": row.state,
        "priority": row.priority,
        "preset": row.preset,
        "outputs": content_keys.shown(row.outputs),
        "metadata": row.metadata,
        "source_policy": row.source_policy,
        "retries": row.retries,
        "progress": None if view.progress is None else show_progress(view.progress, view.position),
        "warnings": planned if row.warnings is None else row.warnings,
        "error": row.error,
        "time_to_first_play_s": row.time_to_first_play_s,
        "created_at": rfc3339(row.created_at),
        "started_at": rfc3339(row.started_at),
        "finished_at": rfc3339(row.finished_at),
    }


def show_job(view: JobView) -> JobShown:
    return JobShown(**_show_job(view), plan=show_plan(view.plan or {}))


# --- routes ---------------------------------------------------------------------------------------


@router.get("/presets", operation_id="list_presets", summary="List the presets")
def list_presets() -> Page[PresetShown]:
    """Names that a job may give instead of outputs. For anybody."""
    shown = [
        PresetShown(
            name=preset.name,
            description=preset.description,
            outputs=[dict(output) for output in preset.outputs],
        )
        for preset in PRESETS.values()
    ]
    return Page(data=shown, has_more=False, next_cursor=None)


@router.post(
    "/jobs",
    operation_id="create_job",
    summary="Process an asset",
    status_code=202,
    responses=responses(
        asset_unknown=404,
        upload_unfinished=409,
        source_gone=409,
        preset_unknown=422,
        output_twice=422,
        no_audio=422,
        output_not_of_source=422,
        watermark_missing=422,
        input_unknown=422,
        burn_unknown=422,
        protection_clear_file=422,
        protection_codec=422,
        content_key_invalid=422,
        key_uri_invalid=422,
        clip_invalid=422,
        clip_outside=422,
        watermark_invalid=422,
        watermark_unreadable=422,
        concat_too_many=422,
        concat_unsupported=422,
        quality_of_joined=422,
        film_no_picture=422,
    ),
)
def create_job(
    asked: JobAsked, who: JobsWriteOnce, services: ServicesDep, response: Response
) -> JobShown:
    """Queues a job and answers at once. Name an asset or a finished upload, and a preset or a list
    of outputs."""
    view = jobs.submit(
        services, who, asked.order(), asset_id=asked.asset_id, upload_id=asked.upload_id
    )
    response.headers["Location"] = f"/v1/jobs/{view.row.id}"
    return show_job(view)


@router.post(
    "/jobs/estimate",
    operation_id="estimate_job",
    summary="What a job would do and cost",
    responses=responses(asset_unknown=404, upload_unfinished=409, source_gone=409),
)
def estimate_job(asked: JobAsked, who: JobsRead, services: ServicesDep) -> EstimateShown:
    """The plan with its reasons, and what it is expected to cost; nothing is queued."""
    summary, expected = jobs.expect(
        services, who, asked.order(), asset_id=asked.asset_id, upload_id=asked.upload_id
    )
    plan = show_plan(summary)
    assert plan is not None  # it was made just now
    return EstimateShown(
        plan=plan,
        encoder_s=expected.encoder_s,
        size_bytes=expected.size_bytes,
        max_size_bytes=expected.max_size_bytes,
        outputs=[
            ExpectedShown(
                name=one.name,
                type=one.type,
                size_bytes=one.size_bytes,
                max_size_bytes=one.max_size_bytes,
            )
            for one in expected.outputs
        ],
        basis=list(expected.basis),
    )


@router.get("/jobs", operation_id="list_jobs", summary="List my jobs")
def list_jobs(
    who: JobsRead,
    services: ServicesDep,
    state: JobState | None = None,
    asset_id: Annotated[str | None, Query(max_length=26)] = None,
    limit: Limit = 20,
    after: After = None,
) -> Page[JobInList]:
    """The newest first."""
    found = jobs.list_mine(
        services, who, state=state, asset_id=asset_id, after=after, limit=limit + 1
    )
    return make_page(
        found, limit, lambda view: JobInList(**_show_job(view)), lambda view: view.row.id
    )


@router.get(
    "/jobs/{job_id}",
    operation_id="get_job",
    summary="Read a job",
    responses=responses(job_unknown=404),
)
def get_job(job_id: JobId, who: JobsRead, services: ServicesDep) -> JobShown:
    """Its state, progress, plan, warnings and error."""
    return show_job(jobs.read(services, who, job_id))


@router.post(
    "/jobs/{job_id}/cancel",
    operation_id="cancel_job",
    summary="Cancel a job",
    responses=responses(job_unknown=404, job_finished=409),
)
def cancel_job(job_id: JobId, who: JobsWrite, services: ServicesDep) -> JobShown:
    """One that waits is cancelled at once; one that runs within seconds, and its files go. Asking
    twice is no error."""
    return show_job(jobs.cancel(services, who, job_id))


@router.post(
    "/jobs/{job_id}/retry",
    operation_id="retry_job",
    summary="Try a job again",
    status_code=202,
    responses=responses(job_unknown=404, job_not_failed=409, source_gone=409),
)
def retry_job(
    job_id: JobId, who: JobsWriteOnce, services: ServicesDep, asked: RetryAsked | None = None
) -> JobShown:
    """Queues a job again that failed or was cancelled: all of it, or only what did not succeed."""
    only_failed = asked is not None and asked.only_failed
    return show_job(jobs.retry(services, who, job_id, only_failed=only_failed))


@router.get(
    "/jobs/{job_id}/outputs",
    operation_id="list_outputs",
    summary="List what a job made",
    responses=responses(job_unknown=404),
)
def list_outputs(
    job_id: JobId,
    who: JobsRead,
    services: ServicesDep,
    limit: Limit = 100,
    after: Annotated[str | None, Query(max_length=200)] = None,
) -> Page[OutputShown]:
    """Each file with its size, digest, measured facts and a link to it, by path. Empty until the
    job has succeeded."""
    made = jobs.outputs(services, who, job_id, after=after, limit=limit + 1)

    def show(row: OutputRow) -> OutputShown:
        link = downloads.link_output(services, row, made.title, made.now_s)
        return OutputShown(
            id=row.id,
            kind=row.kind,
            path=row.path,
            content_type=row.content_type,
            size_bytes=row.size_bytes,
            sha256=row.sha256,
            facts=row.facts,
            url=link.url,
            expires_at=rfc3339(link.expires_at),
        )

    return make_page(made.outputs, limit, show, lambda row: row.path)


# --- events ---------------------------------------------------------------------------------------


def _feed(request: Request, services: Services) -> Feed:
    """The process's feed, made when it is first asked for. On the event loop alone."""
    state = request.app.state
    if not hasattr(state, "feed"):
        state.feed = Feed(services)
    feed: Feed = state.feed
    return feed


@router.get(
    "/jobs/{job_id}/events",
    operation_id="follow_job",
    summary="Follow a job (server-sent events)",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Events until the job has ended.",
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": 'id: 3\nevent: playable\ndata: {"time_to_first_play_s":1.9}\n\n',
                }
            },
        },
        204: {"description": "The job has ended, and you have heard all of it."},
        **responses(job_unknown=404, event_id_invalid=422),
    },
)
async def follow_job(
    request: Request,
    job_id: JobId,
    who: JobsRead,
    services: ServicesDep,
    after: Annotated[int, Query(ge=0, le=2**31 - 1, description="Events after this one.")] = 0,
    last_event_id: Annotated[
        str | None, Header(description="Wins over `after`; browsers send it.", max_length=20)
    ] = None,
) -> Response:
    """What happens to a job: numbered events, none missed and none twice for who comes back with
    `Last-Event-ID`; in between `progress` without a number, at most four a second, and a comment at
    least every 15 s. Ends with the job."""
    heard = after if last_event_id is None else _number(last_event_id)
    seen = await run_in_threadpool(jobs.follow, services, who, job_id, heard)
    if seen.over and not seen.events and heard > 0:
        return Response(status_code=204)  # so a browser does not come back
    heard = min(heard, seen.last_event)  # who names one that is yet to come must not miss it
    return StreamingResponse(
        _events(services, _feed(request, services), who, job_id, heard),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Invalid("Last-Event-ID is the number of an event", code="event_id_invalid")
    return int(text)


async def _events(
    services: Services, feed: Feed, who: Principal, job_id: str, heard: int
) -> AsyncIterator[bytes]:
    told: ProgressShown | None = None
    told_at_s = 0.0
    checked = said = time.monotonic()
    # Listening begins before the first look, so that nothing falls between the two.
    with feed.watch(job_id) as watch:
        while True:
            seen = feed.after(job_id, heard)
            if seen is None:
                try:
                    seen = await run_in_threadpool(jobs.follow, services, who, job_id, heard)
                except NotFound:
                    return  # deleted meanwhile
            now = time.monotonic()
            if now - checked >= CHECK_S:
                if not await run_in_threadpool(accounts.still_good, services, who):
                    return
                checked = now
            lines = [_event(event) for event in seen.events]
            heard = max(heard, seen.reached)
            progress = show_progress(seen.progress, seen.position)
            # The feed's look may have begun before the one that was told first: never go back.
            if seen.at_s >= told_at_s and _differs(told, progress):
                lines.append(_frame("progress", progress.model_dump_json()))
                told, told_at_s = progress, seen.at_s
            if lines:
                yield b"".join(lines)
                said = time.monotonic()
            if seen.over:
                return
            if seen.reached < seen.last_event:
                continue  # there was more than one look takes
            if not await _news(watch, said):
                yield b": still here\n\n"
                said = time.monotonic()


async def _news(watch: Watch, said: float) -> bool:
    """Wait for news until it is time to say something anyway."""
    return await watch.changed(max(0.0, said + PING_S - time.monotonic()))


def _differs(told: ProgressShown | None, found: ProgressShown) -> bool:
    """Whether there is progress to tell; speed and time left change with the clock alone."""
    if told is None:
        return True
    still = {"speed": None, "eta_s": None}
    return told.model_copy(update=still) != found.model_copy(update=still)


def _event(event: EventRow) -> bytes:
    data = {**event.data, "at": rfc3339(event.at)}
    return _frame(event.type, json.dumps(data, separators=(",", ":")), number=event.number)


def _frame(name: str, data: str, *, number: int | None = None) -> bytes:
    identity = "" if number is None else f"id: {number}\n"
    return f"{identity}event: {name}\ndata: {data}\n\n".encode()
