"""What `make test` leaves to `make test-thorough`: cases of a test, examples of a property."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings


def thorough_but(cases: Iterable[Any], *quick: str, by: str = "name") -> list[Any]:
    """The cases as parameters; all but those of these names (that field, or itself) are marked.

    Raises:
        ValueError: no case has one of the names: none would be left in `make test`, unnoticed.
    """
    named = {str(getattr(case, by, case)): case for case in cases}
    if unknown := set(quick) - named.keys():
        raise ValueError(f"no case is named {', '.join(sorted(unknown))}")
    return [
        pytest.param(case, marks=() if name in quick else pytest.mark.thorough)
        for name, case in named.items()
    ]


def examples(*, times: int) -> settings:
    """For a property whose examples cost little: so many times those of the profile."""
    return settings(max_examples=times * settings().max_examples)
