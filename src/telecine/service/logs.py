"""Logs: one JSON object a line on standard error (words on a terminal), with the ids of what it is
about and no secret.

`bind` names what the work at hand is about (`request_id`, `user_id`, `job_id`, `asset_id` …); every
line that this work logs, also in the threads that it starts, carries it. What other libraries log
through `logging` goes the same way.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO

import structlog
from structlog.typing import Processor

from telecine.printable import printable

REDACTED = "[redacted]"

# The ids of the work at hand. One dict for a request and all its threads, which get a copy of the
# context and would otherwise keep what they bind to themselves.
_about: ContextVar[dict[str, str] | None] = ContextVar("about", default=None)


@contextmanager
def about(**ids: str) -> Iterator[None]:
    """What is logged inside is about these ids, and about those that `bind` adds."""
    token = _about.set({**(_about.get() or {}), **ids})
    try:
        yield
    finally:
        _about.reset(token)


def bind(**ids: str) -> None:
    """More ids of the work at hand; without an `about` around it does nothing."""
    found = _about.get()
    if found is not None:
        found.update(ids)


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, to be known when `configure` runs again."""


def configure(
    *, json: bool | None = None, level: str = "info", stream: TextIO | None = None
) -> None:
    """Send what this process logs to `stream` (standard error), as JSON unless that is a terminal.
    May run again."""
    stream = stream or sys.stderr
    json = not stream.isatty() if json is None else json
    shared: list[Processor] = [
        _add_ids,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
        redact,
    ]
    shown: Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False) if json else _render_for_people
    )
    handler = _Handler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, shown],
        )
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # the tests configure more than once
    )
    root = logging.getLogger()
    root.handlers[:] = [one for one in root.handlers if not isinstance(one, _Handler)] + [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.getLogger("uvicorn.access").disabled = True  # the middleware logs requests
    # At `info` these log statements with their parameters, and every look at the revision.
    for name in ("sqlalchemy", "alembic"):
        logging.getLogger(name).setLevel("WARNING")


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger: `log.info("job started", job_id=…)`."""
    found: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(f"telecine.{name}")
    return found


def _add_ids(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for key, value in (_about.get() or {}).items():
        event.setdefault(key, value)
    return event


def _render_for_people(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    trace = event.pop("exception", "")
    head = f"{event.pop('time', '')} {event.pop('level', ''):<7} {event.pop('event', '')}"
    rest = " ".join(f"{key}={value}" for key, value in event.items() if key != "logger")
    # The trace keeps its lines, each marked: what an error says cannot look like a line of the log.
    below = [f"  | {printable(line)}" for line in str(trace).splitlines()]
    return "\n".join([printable(f"{head} {rest}".rstrip()), *below])


# --- secrets ------------------------------------------------------------------------------------

_SECRET_KEY = re.compile(
    r"authorization|cookie|passw|secret|token|signature|credential|api[_-]?key|private|csrf", re.I
)

_SECRET_TEXTS: tuple[tuple[re.Pattern[str], str], ...] = (
    # Signed parts of our own paths: what follows stays, so that a line still says what was asked.
    (re.compile(r"/(p|d)/[^/\s?\"']+"), rf"/\1/{REDACTED}"),
    # That of a picture wherever it stands: it is good even where its path was misspelt.
    (
        re.compile(r"\.(?<=[0-9A-HJKMNP-TV-Z]{26}\.)([0-9]*)\.[^/\s?\"']+"),
        rf".\1.{REDACTED}",
    ),
    # Queries and forms.
    (
        re.compile(
            r"(?<![a-z0-9])([a-z0-9_.-]*(?:passw|secret|token|signature|credential|api[_-]?key|policy|csrf)"
            r"[a-z0-9_.-]*)=[^&\s\"';,]+",
            re.I,
        ),
        rf"\1={REDACTED}",
    ),
    (re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]+", re.I), rf"\1 {REDACTED}"),
    (re.compile(r"(__Host-[\w-]+|telecine_[\w-]+)=[^;\s\"']+"), rf"\1={REDACTED}"),  # our cookies
    (re.compile(r"\btck_[A-Za-z0-9]+_[A-Za-z0-9_-]+"), REDACTED),
    (re.compile(r"\btci_[0-9a-f]+"), REDACTED),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_.-]+"), REDACTED),  # a JSON Web Token
    (re.compile(r"(://[^:/?#\s@]*):[^@/\s]+@"), rf"\1:{REDACTED}@"),  # a database's password
)


def redact_text(text: str) -> str:
    """`text` without what gives access to something."""
    if text.isalnum():  # most of a line's values; every secret below has a sign in it
        return text
    for pattern, instead in _SECRET_TEXTS:
        text = pattern.sub(instead, text)
    return text


def redact(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A structlog processor: no value under a telling key, and no telling text, is logged."""
    for key in list(event):
        event[key] = _clean(key, event[key])
    return event


def _clean(key: str, value: Any) -> Any:
    if key in ("_record", "_from_structlog"):
        return value
    if _SECRET_KEY.search(key) and isinstance(value, str | bytes | list | tuple | dict):
        return REDACTED
    match value:
        case str():
            return redact_text(value)
        case bytes():
            return redact_text(value.decode(errors="backslashreplace"))
        case Mapping():
            return {str(name): _clean(str(name), one) for name, one in value.items()}
        case [str() | bytes() as name, _] if _SECRET_KEY.search(str(name)):  # a header
            return [name, REDACTED]
        case list() | tuple() | set() | frozenset():
            return [_clean("", one) for one in value]
        case None | bool() | int() | float():
            return value
        case _:
            return redact_text(str(value))
