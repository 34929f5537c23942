"""Runs a plan's steps in threads: first what makes it playable, alone, then everything.

Chunks run `jobs` at once; copies, sound and the poster beside them. A step starts as soon as what
it needs is there. The first failure ends all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from telecine.engine.errors import Interrupted, MediaError
from telecine.engine.plan import Plan, Step
from telecine.engine.process import Cancel
from telecine.engine.steps.encode import StepResult

LIGHT_STEPS_AT_ONCE = 3  # they mostly wait for the disk
TRIES = 2  # of a step whose failure says that a retry can help


def run_steps(
    plan: Plan,
    run_one: Callable[[Step], StepResult],
    *,
    jobs: int,
    playable: threading.Event,
    cancel: Cancel,
) -> dict[str, StepResult]:
    """Run every step once its `needs` are done. Raises the first failure; `cancel` is set then, so
    that every child is dead when this returns."""
    results: dict[str, StepResult] = {}

    def attempt(step: Step) -> None:
        if cancel.is_set():
            raise Interrupted
        try:
            results[step.id] = _tried(step, run_one)
        except BaseException:
            cancel.set()
            playable.set()  # nobody waits for what will not come
            raise

    with (
        ThreadPoolExecutor(jobs, thread_name_prefix="chunk") as chunks,
        ThreadPoolExecutor(LIGHT_STEPS_AT_ONCE, thread_name_prefix="light") as light,
    ):
        waiting = list(plan.steps)
        running: dict[Future[None], Step] = {}

        def start(steps: Sequence[Step]) -> None:
            """Those of them that wait for nothing any more."""
            for step in [s for s in steps if s in waiting and results.keys() >= {*s.needs}]:
                waiting.remove(step)
                pool = chunks if step.kind == "encode" else light
                running[pool.submit(attempt, step)] = step

        try:
            opening = plan.opening if plan.hls else ()
            start(opening)
            if opening:
                _wait_for_play(_held_for(running), playable)
            while True:
                done = {future for future in running if future.done()}
                if any(future.exception() for future in done):
                    break
                start(plan.steps)
                busy = [future for future in running if future not in done]
                if not busy:
                    break
                wait(busy, return_when=FIRST_COMPLETED)
            _join(list(running))
        except BaseException:  # KeyboardInterrupt too: the pools' ends wait for what still runs
            cancel.set()
            raise
    return results


def _held_for(running: Mapping[Future[None], Step]) -> list[Future[None]]:
    """What everything else stands back for. Not while the whole sound is listened to, which would
    leave most processors idle: then for the picture alone."""
    kinds = [step.kind for step in running.values()]
    if "gain" not in kinds:
        return list(running)
    return [future for future, step in running.items() if step.kind != "gain"]


def _tried(step: Step, run_one: Callable[[Step], StepResult]) -> StepResult:
    for tries_left in range(TRIES - 1, -1, -1):
        try:
            return run_one(step)
        except Interrupted:
            raise
        except MediaError as error:
            if not error.retryable or not tries_left:
                raise
    raise AssertionError("a step has at least one try")


def _wait_for_play(running: Sequence[Future[None]], playable: threading.Event) -> None:
    """Until the job is playable, or cannot become so by these steps."""

    def until_done() -> None:
        wait(running)
        playable.set()

    threading.Thread(target=until_done, daemon=True).start()
    playable.wait()


def _join(running: Sequence[Future[None]]) -> None:
    """Wait for all; raise a failure rather than the interruptions that it caused."""
    wait(running)
    errors = [error for future in running if (error := future.exception()) is not None]
    if errors:
        raise next((e for e in errors if not isinstance(e, Interrupted)), errors[0])
