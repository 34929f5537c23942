"""The files that a job reads: which bytes they are, and that they are still those.

Besides the source there may be others (a side-car of subtitles, a watermark, further films). The
plan names them and holds their fingerprints; whoever runs a step says where they lie on this
machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from telecine.engine.errors import InputRefused, UsageError
from telecine.engine.media import Fingerprint
from telecine.engine.plan import Plan, Step

SAMPLE_BYTES = 1 << 20

NO_INPUTS: Mapping[str, Path] = MappingProxyType({})


def readable(source: Path) -> Path:
    """The file itself, links followed. Raises `InputRefused` (`source_missing`, `empty_file`)."""
    try:
        resolved = source.resolve(strict=True)
        if not resolved.is_file():
            raise InputRefused(f"not a file: {source}", code="source_missing")
        with resolved.open("rb") as file:
            if not file.read(1):
                raise InputRefused("the file is empty (0 bytes)", code="empty_file")
    except RuntimeError as error:  # a loop of links, before Python 3.13
        raise InputRefused(f"cannot read {source}: {error}", code="source_missing") from error
    except OSError as error:
        raise InputRefused(
            f"cannot read {source}: {error.strerror}", code="source_missing"
        ) from error
    return resolved


def fingerprint_of(source: Path) -> Fingerprint:
    """Which bytes a file has, by its first and last MiB and its size."""
    digest = hashlib.sha256()
    with source.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        digest.update(file.read(SAMPLE_BYTES))
        file.seek(max(0, size - SAMPLE_BYTES))
        digest.update(file.read(SAMPLE_BYTES))
    digest.update(str(size).encode())
    return Fingerprint(size, digest.hexdigest())


def planned_inputs(plan: Plan, step: Step, given: Mapping[str, Path]) -> dict[str, Path]:
    """The files beside the source that this step reads, as they were when the plan was made.

    Raises `UsageError` (`input_missing`) and `InputRefused` (`source_missing`, `empty_file`,
    `input_changed`).
    """
    found = {}
    for name in step.inputs:
        if name not in given:
            raise UsageError(f"no file was given for {name}", code="input_missing")
        path = readable(given[name])
        if fingerprint_of(path) != plan.extra_input(name).fingerprint:
            raise InputRefused(
                f"the file for {name} is not the one that was planned with", code="input_changed"
            )
        found[name] = path
    return found
