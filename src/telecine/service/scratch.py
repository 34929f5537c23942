"""Where tasks work: folders on the file system of the storage, so that files are linked into it.

data/scratch/TASK-EPOCH   one attempt's own
data/scratch/job-JOB      what the tasks of a job share on this machine
"""

from __future__ import annotations

import re
from pathlib import Path

from telecine.service.services import Services

_ATTEMPT = re.compile(r"([0-9A-Z]{26})-([0-9]{1,9})")
_JOB = re.compile(r"job-([0-9A-Z]{26})")


def scratch_folder(services: Services) -> Path:
    """What holds all of them."""
    return services.settings.data / "scratch"


def attempt_folder(services: Services, task_id: str, epoch: int) -> Path:
    """The scratch folder of one attempt."""
    return scratch_folder(services) / f"{task_id}-{epoch}"


def job_folder(services: Services, job_id: str) -> Path:
    """What the tasks of a job share on this machine."""
    return scratch_folder(services) / f"job-{job_id}"


def attempt_of(folder: Path) -> tuple[str, int] | None:
    """The task and epoch whose folder this is, by its name."""
    match = _ATTEMPT.fullmatch(folder.name)
    return None if match is None else (match[1], int(match[2]))


def job_of(folder: Path) -> str | None:
    """The job whose folder this is, by its name."""
    match = _JOB.fullmatch(folder.name)
    return None if match is None else match[1]
