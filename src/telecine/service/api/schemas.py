"""What requests and answers are made of, shared by all routes: pages, times, problems."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar, overload

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")
Row = TypeVar("Row")

MAX_PAGE = 100
NO_NUL = r"^[^\x00]*$"  # PostgreSQL keeps no such text


class Asked(BaseModel):
    """Base of request bodies: a field that we do not know is an error, not a silence."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(BaseModel):
    """Base of answers."""

    model_config = ConfigDict(frozen=True)


class Page(Answer, Generic[T]):
    """One page of a list. `next_cursor` is what `after` wants for the next one."""

    data: list[T]
    has_more: bool = Field(description="Whether more follow.", examples=[False])
    next_cursor: str | None = Field(
        description="`after` of the next page; null where nothing follows.", examples=[None]
    )


Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="How many at most.")]
After = Annotated[
    str | None, Query(max_length=100, description="`next_cursor` of the page before.")
]


def make_page(
    rows: Sequence[Row], limit: int, show: Callable[[Row], T], cursor: Callable[[Row], str]
) -> Page[T]:
    """A page of rows that were asked for with `limit + 1`: the one too many says that more
    follow."""
    shown = rows[:limit]
    more = len(rows) > limit
    return Page[Any](
        data=[show(row) for row in shown],
        has_more=more,
        next_cursor=cursor(shown[-1]) if more else None,
    )


@overload
def rfc3339(seconds: float) -> str: ...
@overload
def rfc3339(seconds: None) -> None: ...
def rfc3339(seconds: float | None) -> str | None:
    """Seconds since 1970 as RFC 3339 has it, UTC, to the millisecond: 2026-11-21T10:23:45.678Z."""
    if seconds is None:
        return None
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


class Problem(Answer):
    """An error, as RFC 9457 says it."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str = Field(description="Stable, and ends in the code.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    code: str = Field(description="Stable: what a program should look at.")
    detail: str = Field(description="What went wrong, for people.")
    request_id: str | None = Field(description="Names this request in the service's logs.")
