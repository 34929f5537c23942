"""docs/howto/coming-from.md and the tests that run its rows name each other."""

from __future__ import annotations

from tests.service import test_coming_from


def test_every_built_row_has_its_test_and_every_test_its_row() -> None:
    rows = test_coming_from.rows()
    built = [name for name, state in rows if state == "built"]
    assert len(built) == len(set(built))
    names = {name for name in vars(test_coming_from) if name.startswith("test_")}
    assert {name.removeprefix("test_") for name in names} == set(built)
    assert all(name == "" for name, state in rows if state != "built")
