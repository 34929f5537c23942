"""What a running transcode tells whoever started it: the terminal, `--json`, a service.

An event is a name and plain JSON data, so that it can cross a process border as one line of text.
Events of one run come in this order; `[…]` may be absent, `…` come any number of times, and those
between `planned` and the end are mixed with each other:

    started  probed  planned  step… [playable] progress… warning… [verified]  done | failed

A film that turns out too damaged to be copied is planned anew, and so is one whose quality was
searched for: all from `planned` on comes again.

started   version, ffmpeg (their versions), sandbox (tier and self-test), source, jobs
probed    summary (list of plain sentences), duration_s, container
planned   plan_id, duration_s, rungs (list of {name, width, height, mode, reason}), dropped (list of
          {name, reason}), chunks (how many), steps (their ids)
step      id, state ("started", "finished", or "reused" from an earlier run), wall_s when finished
playable  playlist (path), after_s: the first moment a multivariant playlist can be played
progress  stage, fraction (0 to 1 of the whole job, weighted by work), speed (media seconds a wall
          second) and eta_s, both from what this run itself did, rungs ({name: fraction}); at most
          four a second
warning   message
verified  rules (how many were checked), broken (list of names)
done      playlist, report (paths), wall_s, time_to_first_play_s
failed    code, message, exit_code

A number that is not known (yet) is null. Times are seconds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal, TypeAlias


def warned(code: str, message: str) -> str:
    """A warning that a program may look for: behind it stands as `[code]` its stable code, one of
    those in docs/reference/warnings.md."""
    return f"{message} [{code}]"


JSON: TypeAlias = "str | int | float | bool | list[JSON] | dict[str, JSON] | None"

EventName = Literal[
    "started",
    "probed",
    "planned",
    "step",
    "playable",
    "progress",
    "warning",
    "verified",
    "done",
    "failed",
]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. The table above says what `data` holds."""

    name: EventName
    data: dict[str, JSON]

    def line(self) -> str:
        """The event as one line of JSON, `event` first, without the line's end."""
        return json.dumps({"event": self.name, **self.data}, ensure_ascii=False, allow_nan=False)
