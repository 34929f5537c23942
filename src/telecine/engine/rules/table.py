"""The table of rules, and the judgement by all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from telecine.engine.rules.found import Found

_SHOWN_PROBLEMS = 3


@dataclass(frozen=True, slots=True)
class RuleResult:
    """One rule's judgement; `figure` says what was measured, or where it is broken and how."""

    name: str
    passed: bool
    figure: str


@dataclass(frozen=True, slots=True)
class Verification:
    """Every rule that applies to a folder."""

    rules: tuple[RuleResult, ...]

    @property
    def passed(self) -> bool:
        return all(rule.passed for rule in self.rules)


Problems = Sequence[str]
Check = Callable[[Found], tuple[Problems, str]]


@dataclass(frozen=True, slots=True)
class Rule:
    """`check` gives what breaks the rule, and the figure where nothing does."""

    name: str
    source: str
    what: str
    check: Check
    applies: Callable[[Found], bool]


RULES: dict[str, Rule] = {}


def always(_: Found) -> bool:
    return True


def streams(found: Found) -> bool:
    return found.streaming


def shows(found: Found) -> bool:
    return bool(found.pictures)


def rule(
    name: str, source: str, applies: Callable[[Found], bool] = streams
) -> Callable[[Check], Check]:
    def register(check: Check) -> Check:
        what = " ".join((check.__doc__ or "").split())
        RULES[name] = Rule(name, source, what, check, applies)
        return check

    return register


def judge(found: Found) -> Verification:
    """Every rule that applies. What could not be read counts under the rule that it breaks."""
    faults: dict[str, list[str]] = {name: [] for name in RULES}
    for fault in found.faults:
        faults[fault.rule].append(fault.what)
    results = []
    for each in RULES.values():
        unreadable = faults[each.name]
        if unreadable or each.applies(found):
            broken, figure = each.check(found)
            results.append(_result(each.name, [*unreadable, *broken], figure))
    return Verification(tuple(results))


def _result(name: str, problems: Problems, figure: str) -> RuleResult:
    if not problems:
        return RuleResult(name, True, figure or "nothing to judge")
    more = len(problems) - _SHOWN_PROBLEMS
    tail = f" and {more} more" if more > 0 else ""
    return RuleResult(name, False, "; ".join(problems[:_SHOWN_PROBLEMS]) + tail)
