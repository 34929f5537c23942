"""Logs: one JSON object a line, about something, without secrets."""

from __future__ import annotations

import base64
import io
import json
import logging
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from telecine.service import logs
from telecine.service.db.connection import Database
from telecine.service.db.tables import one_time_tokens

CANARY = "cAnArY7f3a9e"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    found = io.StringIO()
    logs.configure(stream=found)
    yield found
    logs.configure()
    logging.captureWarnings(False)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_says_when_in_utc_and_about_what(stream: io.StringIO) -> None:
    with logs.about(request_id="R1"):
        logs.bind(user_id="U1")
        logs.get_logger("jobs").info("job queued", job_id="J1")
    logs.get_logger("jobs").warning("afterwards")
    first, second = lines(stream)
    assert first["event"] == "job queued"
    assert (first["request_id"], first["user_id"], first["job_id"]) == ("R1", "U1", "J1")
    assert (first["level"], first["logger"]) == ("info", "telecine.jobs")
    said = datetime.fromisoformat(first["time"])
    assert said.utcoffset() is not None
    assert abs((datetime.now(UTC) - said).total_seconds()) < 60
    assert "request_id" not in second  # what it was about is over


def test_what_a_thread_binds_is_known_to_the_request(stream: io.StringIO) -> None:
    """A route's thread learns who asks; the line of the request is written outside of it."""
    with logs.about(request_id="R1"):
        context = copy_context()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(context.run, logs.bind, user_id="U1").result()
        logs.get_logger("api").info("request")
    assert lines(stream)[0]["user_id"] == "U1"


def test_two_requests_do_not_mix(stream: io.StringIO) -> None:
    together = threading.Barrier(2)

    def request(name: str) -> None:
        with logs.about(request_id=name):
            logs.bind(user_id=f"user of {name}")
            together.wait(10)
            logs.get_logger("api").info("request")

    threads = [threading.Thread(target=request, args=(name,)) for name in ("R1", "R2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {(line["request_id"], line["user_id"]) for line in lines(stream)} == {
        ("R1", "user of R1"),
        ("R2", "user of R2"),
    }


def test_other_libraries_log_the_same_way(stream: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").info("Uvicorn running on %s", "http://x/?token=" + CANARY)
    try:
        raise ValueError(f"password={CANARY}")
    except ValueError:
        logging.getLogger("alembic").exception("it failed")
    logging.captureWarnings(True)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.getLogger("py.warnings").warning("careful")
    said = lines(stream)
    assert [line["logger"] for line in said] == ["uvicorn.error", "alembic", "py.warnings"]
    assert "ValueError" in said[1]["exception"]
    assert CANARY not in stream.getvalue()


JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ" + CANARY + ".c2lnbmF0dXJl" + CANARY
KEY = "tck_ab12cd34_" + CANARY
SECRETS: list[tuple[str, Any]] = [
    ("authorization", f"Bearer {CANARY}"),
    ("Authorization", CANARY),
    ("cookie", f"__Host-access={CANARY}"),
    ("set-cookie", CANARY),
    ("password", CANARY),
    ("new_password", CANARY),
    ("refresh_token", CANARY),
    ("client_secret", CANARY),
    ("signature", CANARY),
    ("api_key", CANARY),
    ("apikey", CANARY),
    ("credentials", [CANARY]),
    ("headers", {"authorization": f"Basic {CANARY}", "accept": "*/*"}),
    ("headers", [("host", "x"), ("cookie", CANARY)]),
    ("headers", [(b"authorization", CANARY.encode())]),
    ("request", {"headers": [{"x-api-key": CANARY}]}),
    ("path", f"/p/{CANARY}/asset/job/master.m3u8"),
    ("path", f"/d/1900000000.{CANARY}/01ARZ3/film.mp4"),
    ("path", f"/v1/uploads/01ARZ/parts/3?signature=1900000000.{CANARY}"),
    ("url", f"https://media.example/p/{CANARY}/a/b"),
    ("url", f"https://x.example/?a=1&access_token={CANARY}&b=2"),
    ("url", f"https://x.example/?X-Amz-Signature={CANARY}&X-Amz-Credential={CANARY}"),
    ("body", f"grant=1&password={CANARY}"),
    ("database", f"postgresql://telecine:{CANARY}@db.example/telecine"),
    ("message", f"cannot use {KEY} here"),
    ("message", f"wrong: Bearer {JWT}"),
    ("message", JWT),
    ("error", ValueError(f"token={CANARY}")),
    ("raw", f"Authorization: Bearer {CANARY}".encode()),
]


@pytest.mark.parametrize(("key", "value"), SECRETS, ids=lambda value: str(value)[:40])
def test_no_secret_is_logged(stream: io.StringIO, key: str, value: object) -> None:
    logs.get_logger("api").info("said", **{key: value})
    logs.get_logger("api").info(f"said {value}" if isinstance(value, str) else "said")
    text = stream.getvalue()
    if isinstance(value, str) and value == CANARY:
        text = text.splitlines()[0]  # a word alone, in a sentence, says nothing of what it is
    assert CANARY not in text
    assert base64.b64encode(CANARY.encode()).decode() not in text


def test_what_is_no_secret_stays(stream: io.StringIO) -> None:
    logs.get_logger("api").info("said", path="/v1/jobs/01ARZ?limit=5&after=x", tokens=3, pid=7)
    (line,) = lines(stream)
    assert line["path"] == "/v1/jobs/01ARZ?limit=5&after=x"
    assert (line["tokens"], line["pid"]) == (3, 7)
    logs.get_logger("api").info("said", path=f"/d/{CANARY}/01ARZ3/film.mp4?x=1")
    assert lines(stream)[1]["path"] == "/d/[redacted]/01ARZ3/film.mp4?x=1"


FORGED = 'x\r\n{"event": "forged", "level": "info"}'


@pytest.mark.parametrize("json_lines", [True, False])
def test_nothing_said_can_look_like_a_line(json_lines: bool) -> None:
    stream = io.StringIO()
    logs.configure(json=json_lines, stream=stream)
    logs.get_logger("api").info("request", path=FORGED, **{"user\nagent": FORGED})
    try:
        raise ValueError(FORGED)
    except ValueError:
        logs.get_logger("api").exception(FORGED)
    said = stream.getvalue().splitlines()
    assert not [line for line in said if line.startswith('{"event": "forged"')]
    if json_lines:
        assert len(said) == 2
    else:
        assert [line for line in said if not line.startswith(("20", "  | "))] == []
    logs.configure()


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(), st.dictionaries(st.text(min_size=1), st.text()))
def test_whatever_is_said_is_one_line(
    stream: io.StringIO, event: str, more: dict[str, str]
) -> None:
    stream.truncate(0)
    stream.seek(0)
    logs.get_logger("api").info(event, about=more)
    (text,) = stream.getvalue().split("\n")[:-1]
    assert isinstance(json.loads(text), dict)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("told", "at_a_terminal", "is_json"),
    [(None, False, True), (None, True, False), (True, True, True), (False, False, False)],
)
def test_people_at_a_terminal_get_words(
    told: bool | None, at_a_terminal: bool, is_json: bool
) -> None:
    stream = Terminal() if at_a_terminal else io.StringIO()
    logs.configure(json=told, stream=stream)
    logs.get_logger("api").info("request", status=200)
    assert stream.getvalue().startswith("{") is is_json
    logs.configure()


def test_less_than_the_level_is_not_logged() -> None:
    stream = io.StringIO()
    logs.configure(level="warning", stream=stream)
    logs.get_logger("api").info("chatter")
    logs.get_logger("api").warning("careful")
    assert [line["event"] for line in lines(stream)] == ["careful"]
    logs.configure()


def test_no_error_of_the_database_tells_what_was_written(
    stream: io.StringIO, database: Database
) -> None:
    add = sa.insert(one_time_tokens).values(
        token_hash=CANARY, purpose="invite", created_at=0, expires_at=0
    )
    try:
        with database.write() as tx:
            tx.connection.execute(add)
            tx.connection.execute(add)
    except sa.exc.IntegrityError:
        logs.get_logger("api").exception("it failed")
    (line,) = lines(stream)
    assert "one_time_tokens" in line["exception"]
    if database.sqlite:  # PostgreSQL names the key that is there twice: never a secret of ours
        assert CANARY not in stream.getvalue()
