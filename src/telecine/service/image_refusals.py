"""Pure: what is kept of a picture that cannot be made, so that it is not tried with each request.

A refusal is kept like a picture, under the name of what was asked and as an object of its own, as
long as it holds: it is a function of the source, the operations and the programs that work on them,
and of our limits, which stand in it. That a picture takes too much time or memory depends on the
machine as well, so that is asked again after a while. What passes (all are busy, a worker died, a
disk is full) is never kept.
"""

from __future__ import annotations

import json
from typing import Any

from telecine.engine.errors import InputRefused, MediaError, StepFailed
from telecine.engine.images.values import ImageLimits
from telecine.engine.images.wire import CODES
from telecine.engine.serial import to_plain

CONTENT_TYPE = "application/problem+json"
LIMIT_KEPT_S = 600.0
# It takes a block of the disk anyway. So many bytes each, the bound on all that is kept bounds how
# many there are, too.
BLOCK_BYTES = 4096

_OF_THE_FILE = ("empty_file", "too_many_bytes")
_FOR_GOOD = frozenset(
    (*(code for code, kind in CODES.items() if kind is not StepFailed), *_OF_THE_FILE)
)


def conditions(limits: ImageLimits, ffmpeg: str) -> dict[str, Any]:
    """What a refusal depends on beside what is in its name, as plain values."""
    return {"limits": to_plain(limits), "ffmpeg": ffmpeg}


def write(error: MediaError, conditions: dict[str, Any], now_s: float) -> bytes | None:
    """What to keep of an error; None: nothing."""
    if error.code in _FOR_GOOD:
        until = None
    elif error.code == "image_limit":
        until = now_s + LIMIT_KEPT_S
    else:
        return None
    told = {"code": error.code, "message": error.message, "until": until, **conditions}
    return json.dumps(told).encode().ljust(BLOCK_BYTES)


def read(data: bytes) -> InputRefused:
    """The error that was kept."""
    told = json.loads(data)
    return InputRefused(told["message"], code=told["code"])


def holds(data: bytes, conditions: dict[str, Any], now_s: float) -> bool:
    """Whether it would be refused today as well."""
    told = json.loads(data)
    until = told["until"]
    same = all(told[name] == value for name, value in conditions.items())
    return same and (until is None or now_s < until)
