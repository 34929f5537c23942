"""The service's words: states, scopes, who asks, what can go wrong. Knows nothing of HTTP or SQL.

ServiceError
├── Invalid           the request says something that cannot be done
├── Unauthenticated   nobody we know asks
├── Forbidden         someone we know asks for what they may not do
├── NotFound          there is no such thing, or none that the asker may know of
├── Conflict          it does not fit what is there now
├── TooLarge          more bytes than the limit allows
├── TooMany           too often; `retry_after_s` says when to ask again
└── Unavailable       a part of the service is missing just now; asking again may help

Each carries a stable `code` (docs/reference/errors.md). Which HTTP status answers it is decided in
`api/errors.py` alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ulid import ULID

Role = Literal["user", "admin"]
Visibility = Literal["private", "unlisted", "public"]
UploadState = Literal["open", "finished", "refused", "cancelled", "expired"]
AssetState = Literal["uploaded", "processing", "ready", "failed"]
AssetKind = Literal["video", "audio", "image", "subtitles"]
JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
TaskState = Literal["blocked", "ready", "running", "succeeded", "failed", "cancelled"]
SourcePolicy = Literal["keep", "delete_when_done"]

FINAL_JOB_STATES: tuple[JobState, ...] = ("succeeded", "failed", "cancelled")
FINAL_TASK_STATES: tuple[TaskState, ...] = ("succeeded", "failed", "cancelled")

SEALED_KEY = "sealed_key"  # beside what was asked for of an output; see `content_keys`

# What an API key may do; a session may do all of it. Nothing here reaches accounts: a key cannot
# create keys or change passwords.
Scope = Literal["assets:read", "assets:write", "jobs:read", "jobs:write", "uploads:write"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

MIN_PRIORITY, MAX_PRIORITY = -100, 100


def new_id() -> str:
    """A ULID: 26 letters that sort by the time at which they were made, to the millisecond."""
    return str(ULID())


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: a user by a session (`session_id`) or by an API key (`key_id`)."""

    user_id: str
    role: Role
    scopes: frozenset[Scope]
    session_id: str | None = None
    key_id: str | None = None


class ServiceError(Exception):
    """Base of the tree: one clear line and a stable code. `extra` is shown to whoever asked."""

    def __init__(self, message: str, *, code: str, **extra: object) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.extra = extra


class Invalid(ServiceError):
    """The request says something that cannot be done."""


class Unauthenticated(ServiceError):
    """Nobody we know asks."""


class Forbidden(ServiceError):
    """Someone we know asks for what they may not do."""


class NotFound(ServiceError):
    """There is no such thing, or none that the asker may know of."""


class Conflict(ServiceError):
    """It does not fit what is there now."""


class TooLarge(ServiceError):
    """More bytes than the limit allows."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A quota that was used up: so many in a window, the next one after `reset_s`."""

    name: str
    quota: int
    window_s: int
    reset_s: int


class TooMany(ServiceError):
    """Too often; `rate`: which quota was used up, where there is one."""

    def __init__(
        self,
        message: str,
        *,
        code: str,
        retry_after_s: int,
        rate: Rate | None = None,
        **extra: object,
    ) -> None:
        super().__init__(message, code=code, **extra)
        self.retry_after_s = retry_after_s
        self.rate = rate


class Unavailable(ServiceError):
    """A part of the service is missing just now; asking again may help."""
