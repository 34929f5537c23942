"""What the service answers, as frozen values. Times are aware datetimes; sizes, rates and durations
carry their unit in the name. A field that a newer service adds is passed over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from telecine.client.errors import UnexpectedAnswer

T = TypeVar("T")

FINAL_STATES = ("succeeded", "failed", "cancelled")


def read(kind: type[T], plain: Any) -> T:
    """`plain` JSON as `kind`. Raises `UnexpectedAnswer`."""
    asked: Any = kind  # mypy takes no `type[T]` for hashable
    try:
        found: T = _adapter(asked).validate_python(plain)
        return found
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        text = f"the answer is no {kind.__name__}: {where}: {first['msg']}"
        raise UnexpectedAnswer(text) from None


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an upload was refused or a job failed."""

    code: str
    message: str


# --- accounts ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class User:
    """An account."""

    id: str
    email: str
    name: str
    role: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Session:
    """A log-in somewhere. `current` is the one that asks."""

    id: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    current: bool = False
    address: str = ""
    user_agent: str = ""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key, without its secret."""

    id: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """An API key that was just made. `secret` is the whole key, shown this once."""

    key: ApiKey
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ImageKey:
    """A key that signs URLs of pictures, without its secret."""

    id: str
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NewImageKey:
    """An image key that was just made: what `ImageUrls` wants. `secret` is shown this once."""

    key: ImageKey
    secret: str = field(repr=False)


# --- uploads and assets -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload session: which bytes have arrived, and what they became."""

    id: str
    state: str
    filename: str
    size_bytes: int | None
    offset_bytes: int
    tus_url: str
    expires_at: datetime
    part_size_bytes: int | None = None
    part_count: int | None = None
    asset_id: str | None = None
    job_id: str | None = None
    error: Failure | None = None


@dataclass(frozen=True, slots=True)
class PublicAsset:
    """What everybody may see of an asset. `kind`: `video`, `audio` or `image`."""

    id: str
    state: str
    visibility: str
    title: str
    description: str
    created_at: datetime
    duration_s: float | None = None
    poster_url: str | None = None
    kind: str = "video"


@dataclass(frozen=True, slots=True)
class Asset:
    """A film, a sound, a picture (`kind`: `video`, `audio`, `image`): what a user owns. `media` is
    what was found in a film or sound, `image` in a picture; an animation has both. `summary` is the
    same in plain words; `source_sha256` is there once it is known."""

    id: str
    state: str
    visibility: str
    title: str
    description: str
    filename: str
    created_at: datetime
    source_size_bytes: int
    source_sha256: str | None
    source_kept: bool
    summary: tuple[str, ...]
    duration_s: float | None = None
    poster_url: str | None = None
    job_id: str | None = None
    time_to_first_play_s: float | None = None
    media: Mapping[str, Any] | None = None
    kind: str = "video"
    image: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A link to an asset's source: signed, and it expires. `sha256` is there once it is known."""

    url: str
    expires_at: datetime
    size_bytes: int
    sha256: str | None
    content_type: str


@dataclass(frozen=True, slots=True)
class Playback:
    """Where a film plays. `state`: `waiting`, `growing` (it plays while the rest is made), `ready`
    or `failed`. `embed_html` is to be pasted into a page; a private film's URLs expire."""

    state: str
    hls_url: str | None
    dash_url: str | None
    file_url: str | None
    poster_url: str | None
    embed_url: str
    embed_html: str
    expires_at: datetime | None
    storyboard_url: str | None = None
    chapters_url: str | None = None


# --- jobs -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stage:
    """All work of one kind; `fraction` is 0 to 1."""

    name: str
    fraction: float
    tasks: int
    tasks_done: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is, just now: not numbered, and older ones do not matter. `stage` is empty when
    all is done; `rungs` are 0 to 1 of each rendition's duration."""

    fraction: float
    stage: str
    stages: tuple[Stage, ...] = ()
    rungs: Mapping[str, float] = field(default_factory=dict)
    speed: float | None = None
    eta_s: float | None = None
    queue_position: int | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One request to process an asset."""

    id: str
    asset_id: str
    state: str
    priority: int
    preset: str | None
    outputs: tuple[Mapping[str, Any], ...]
    metadata: Mapping[str, str]
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: Failure | None = None
    warnings: tuple[str, ...] = ()
    time_to_first_play_s: float | None = None
    progress: Progress | None = None
    plan: Mapping[str, Any] | None = None

    @property
    def final(self) -> bool:
        """Whether nothing more happens to it, unless it is retried."""
        return self.state in FINAL_STATES


@dataclass(frozen=True, slots=True)
class Output:
    """A file that a job made, at its `path` in the job's tree. `url` is signed and expires;
    `job_id` is whom to ask for another."""

    id: str
    kind: str
    path: str
    content_type: str
    size_bytes: int
    sha256: str
    url: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    job_id: str | None = None

    @property
    def streamed(self) -> bool:
        """Whether it is a stream's playlist, which plays only where its segments are."""
        return self.kind in ("hls", "dash")


@dataclass(frozen=True, slots=True)
class JobEvent:
    """Something that happened to a job. Numbers go up by one: none is missed."""

    number: int
    type: str
    data: Mapping[str, Any]

    @property
    def final(self) -> bool:
        return self.type in FINAL_STATES
