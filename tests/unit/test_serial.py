"""Frozen values to plain JSON values and back; what does not fit is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telecine.engine.serial import from_older, from_plain, to_plain


@dataclass(frozen=True, slots=True)
class Inner:
    ratio: Fraction


@dataclass(frozen=True, slots=True)
class Value:
    name: str
    count: int
    weight: float
    on: bool
    kind: Literal["a", "b"]
    pair: tuple[int, str]
    many: tuple[Inner, ...]
    maybe: int | None


VALUE = Value("x", 3, 0.5, True, "b", (1, "one"), (Inner(Fraction(24000, 1001)),), None)
PLAIN: dict[str, Any] = {
    "name": "x",
    "count": 3,
    "weight": 0.5,
    "on": True,
    "kind": "b",
    "pair": [1, "one"],
    "many": [{"ratio": "24000/1001"}],
    "maybe": None,
}


def test_a_value_becomes_plain_and_comes_back() -> None:
    assert to_plain(VALUE) == PLAIN
    assert from_plain(Value, PLAIN) == VALUE


def test_keys_of_dicts_become_text() -> None:
    assert to_plain({1: Fraction(1, 2), "k": [Inner(Fraction(-3))]}) == {
        "1": "1/2",
        "k": [{"ratio": "-3"}],
    }


@pytest.mark.parametrize(
    ("field", "wrong", "says"),
    [
        ("name", 1, "Value.name: expected str"),
        ("count", "3", "Value.count: expected int"),
        ("count", True, "Value.count: expected int"),
        ("count", 3.0, "Value.count: expected int"),
        ("weight", "1", "Value.weight: expected float"),
        ("on", 1, "Value.on: expected bool"),
        ("kind", "c", "Value.kind: 'c' is none of"),
        ("pair", [1], "Value.pair: expected 2 items, found 1"),
        ("pair", ["1", "one"], r"Value.pair\[0\]: expected int"),
        ("many", {}, "Value.many: expected a list"),
        ("many", [{}], r"Value.many\[0\]: expected the fields \['ratio'\]"),
        ("many", [{"ratio": "1", "more": 1}], r"Value.many\[0\]: expected the fields"),
        ("many", [[]], r"Value.many\[0\]: expected the fields"),
        ("maybe", "none", "Value.maybe: expected int"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(field: str, wrong: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        from_plain(Value, {**PLAIN, field: wrong})


@pytest.mark.parametrize(
    "text", ["1/0", "1e999999999", "inf", "nan", "0.5", "", " 1", "1/-2", "+1", "1_0", 1, 0.5, None]
)
def test_only_fractions_as_we_write_them_are_read(text: Any) -> None:
    with pytest.raises(ValueError, match="expected a fraction"):
        from_plain(Inner, {"ratio": text})


@given(st.fractions())
def test_every_fraction_comes_back_through_json(ratio: Fraction) -> None:
    assert from_plain(Inner, json.loads(json.dumps(to_plain(Inner(ratio))))) == Inner(ratio)


@dataclass(frozen=True, slots=True)
class Named:
    words: dict[str, str]
    weight: float


def test_an_object_of_names_keeps_its_types() -> None:
    assert from_plain(Named, {"words": {"a": "b"}, "weight": 1.5}) == Named({"a": "b"}, 1.5)
    wrongs: list[Any] = [[], {"a": 1}]
    for wrong in wrongs:
        with pytest.raises(ValueError, match="words"):
            from_plain(Named, {"words": wrong, "weight": 1.5})


def test_a_whole_number_is_taken_for_a_float_as_json_has_it() -> None:
    got = from_plain(Named, {"words": {}, "weight": 2}).weight
    assert (got, type(got)) == (2.0, float)
    with pytest.raises(ValueError, match="weight"):
        from_plain(Named, {"words": {}, "weight": True})


@dataclass(frozen=True, slots=True)
class Grown:
    """As a later version has it: `many` was a number, and `kind` had "c" too."""

    inner: Inner
    named: Named | None
    many: tuple[Inner, ...] = ()
    kind: Literal["a", "b"] = "a"
    new: int = 7


def test_what_an_older_version_wrote_is_read_as_far_as_it_is_known() -> None:
    old: dict[str, Any] = {
        "inner": {"ratio": "1/2", "gone": 1},
        "named": None,
        "kind": "c",
        "gone": [],
    }
    assert from_older(Grown, old) == Grown(Inner(Fraction(1, 2)), None)
    assert from_older(Grown, {**old, "many": 3}).many == ()
    assert from_older(Grown, {**old, "kind": "b", "new": 8}).new == 8


@dataclass(frozen=True, slots=True)
class Listed:
    many: tuple[Inner, ...]


def test_of_a_list_what_is_known_is_kept() -> None:
    many = [{"ratio": "1"}, {"ratio": "x"}, {}, "y", {"ratio": "2"}]
    assert from_older(Listed, {"many": many}) == Listed((Inner(Fraction(1)), Inner(Fraction(2))))


@pytest.mark.parametrize("plain", [{}, {"inner": {"ratio": 1}, "named": None}, []])
def test_what_nothing_stands_in_for_is_refused(plain: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        from_older(Grown, plain)
