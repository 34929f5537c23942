"""Random lists of operations, as JSON: for all tests that ask for anything."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

from telecine.engine.images import operations as ops


def thousandths(low: float, high: float) -> st.SearchStrategy[float]:
    return st.integers(round(low * 1000), round(high * 1000)).map(lambda n: n / 1000)


def values(kind: ops.Kind, longest: int | None = None) -> st.SearchStrategy[Any]:
    """JSON values that a field may hold, also in forms that are not canonical."""
    match kind:
        case ops.Whole(low, high):
            if longest is not None and high == ops.MAX_SIDE:
                low, high = max(low, -longest), longest
            return st.integers(low, high) | st.integers(low, high).map(float)
        case ops.Number(low, high):
            return thousandths(low, high) | st.integers(math.ceil(low), math.floor(high))
        case ops.Choice(numbers):
            return st.sampled_from(numbers)
        case ops.QualityOf():
            return st.integers(1, 100) | st.just("auto")
        case ops.Flag():
            return st.booleans()
        case ops.Words(words):
            return st.lists(st.sampled_from(words), unique=True)
        case ops.Word(words):
            return st.sampled_from(words)
        case ops.Color():
            digits = st.text("0123456789abcdefABCDEF", min_size=8, max_size=8)
            short = st.tuples(digits, st.sampled_from([3, 4, 6, 8]), st.sampled_from(["", "#"]))
            return st.just("transparent") | short.map(lambda it: it[2] + it[0][: it[1]])
        case ops.Text():
            letters = st.characters(
                codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\u2028\u2029"
            )
            return st.text(letters, min_size=1, max_size=20) | st.just("a,b;c!d=e:f+g/h?%20")
        case ops.Ref():
            return st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)


def objects(*, junk: bool = False, longest: int | None = None) -> st.SearchStrategy[dict[str, Any]]:
    """An operation with some of its fields; with `junk` some of them hold anything. `longest`: of
    whole numbers of pixels, for those who make the pictures."""
    anything: st.SearchStrategy[Any] = st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.just([])
    )

    def of(operation: type[ops.Operation]) -> st.SearchStrategy[dict[str, Any]]:
        fields = {
            name: values(param.kind, longest) | anything if junk else values(param.kind, longest)
            for name, param in ops.params(operation).items()
        }
        required = {name for name, param in ops.params(operation).items() if param.required}
        wild: dict[str, st.SearchStrategy[Any]] = {"X": st.just(1)} if junk else {}
        return st.fixed_dictionaries(
            {"op": st.just(operation.name)} | {name: fields[name] for name in required},
            optional={name: fields[name] for name in fields.keys() - required} | wild,
        )

    return st.one_of([of(operation) for operation in ops.OPERATIONS.values()])
