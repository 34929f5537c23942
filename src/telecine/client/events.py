"""A job's events as they happen (server-sent events), none missed and none twice.

The service numbers what happens to a job without holes. When the connection breaks, we come back
with the number of the last event that was heard, and the service goes on after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import httpx2

from telecine.client.answers import JobEvent, Progress, read
from telecine.client.connection import TRIES, Connection, passes, pause_s
from telecine.client.errors import ApiError, ConnectionFailed, UnexpectedAnswer

Told: TypeAlias = "JobEvent | Progress"

# The service says something every 15 s, if only that it is still there.
_SILENCE = httpx2.Timeout(60.0, connect=10.0)


def watch(connection: Connection, job_id: str, after: int) -> Iterator[Told]:
    """Events with a number above `after`, and progress in between, up to the job's end.

    Raises `ApiError`, `ConnectionFailed` (after several tries that told nothing new).
    """
    failures, ended = 0, False
    while True:
        try:
            for told in _listen(connection, job_id, after):
                failures = 0
                if isinstance(told, JobEvent):
                    if told.number <= after:
                        continue
                    after = told.number
                    ended = told.final  # unless more follows: it was tried again
                yield told
            if ended:
                return
            failures += 1  # the stream ended, the job did not: the service is being stopped
            why: ApiError | ConnectionFailed = ConnectionFailed("the stream of events ended")
        except _AllHeard:
            return
        except (ApiError, ConnectionFailed) as error:
            failures += 1
            why = error
        if failures >= TRIES or not passes(why):
            raise why
        connection.sleep(pause_s(failures, getattr(why, "retry_after_s", None)))


class _AllHeard(Exception):
    """The job has ended, and nothing happened after the last event that we heard."""


def _listen(connection: Connection, job_id: str, after: int) -> Iterator[Told]:
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
    if after:
        headers["Last-Event-ID"] = str(after)
    path = f"/v1/jobs/{job_id}/events"
    with connection.once("GET", path, headers=headers, timeout=_SILENCE) as response:
        if response.status_code == httpx2.codes.NO_CONTENT:
            raise _AllHeard
        for event in httpx2.EventSource(response):
            yield read_event(event)


def read_event(event: httpx2.ServerSentEvent) -> Told:
    """What one server-sent event tells. Raises `UnexpectedAnswer`."""
    try:
        data = event.json()
        if not isinstance(data, dict):
            raise ValueError
        if event.event == "progress":
            return read(Progress, data)
        return JobEvent(int(event.id), event.event, data)
    except ValueError:
        text = f"no event of a job: {event.event} {event.id} {event.data[:100]}"
        raise UnexpectedAnswer(text) from None
