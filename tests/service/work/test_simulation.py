"""The simulation of the queue's protocol holds, and notices when a fence is gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from types import ModuleType

import pytest
from tests.service.simulation import (
    FAULTS,
    MUTANTS,
    REJECTS,
    Simulator,
    Violation,
    not_met,
    without,
)
from tests.thorough import thorough_but

from telecine.service.db import queue

SEEDS = 100


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    made = Simulator()
    yield made
    made.close()


def run_seeds(
    simulator: Simulator, code: ModuleType = queue, *, sweeps: bool = True
) -> Counter[str]:
    seen: Counter[str] = Counter()
    for seed in range(SEEDS):
        seen += simulator.run(seed, code, sweeps=sweeps)
    return seen


def test_ten_seeds_hold(simulator: Simulator) -> None:
    """Too few for each planned fault to occur, and enough for most."""
    assert sum((simulator.run(seed) for seed in range(10)), Counter()).keys() & set(FAULTS)


@pytest.mark.thorough
def test_a_hundred_seeds_hold(simulator: Simulator) -> None:
    """No job lost, one end each, one commit a task, counters right. Void, and so failed, when a
    planned fault or a way of being refused did not occur."""
    assert not_met(run_seeds(simulator)) == []


@pytest.mark.parametrize(
    "fence", thorough_but(sorted(MUTANTS), *(MUTANTS.keys() - {"commit of a cancelled task"}))
)
def test_without_a_fence_it_fails(simulator: Simulator, fence: str) -> None:
    code = without(fence)
    with pytest.raises(Violation):
        run_seeds(simulator, code)


def test_without_the_sweeper_jobs_are_lost(simulator: Simulator) -> None:
    with pytest.raises(Violation, match="a job was lost"):
        run_seeds(simulator, sweeps=False)


def test_a_seed_is_the_same_each_time(simulator: Simulator) -> None:
    assert simulator.run(7) == simulator.run(7)


def test_a_run_without_a_planned_fault_is_void() -> None:
    every = Counter((*FAULTS, *REJECTS))
    assert not_met(every) == []
    for name in every:
        assert not_met(every - Counter([name])) == [name]
