"""The tests. Run whole, they take every core that they may: a module at a time, in processes of their own."""

from __future__ import annotations

import gc
import os
import unittest
from collections.abc import Iterator
from typing import Any

_OUTCOMES = ("failures", "errors", "skipped", "expectedFailures")  # lists of (test, text)
# What takes longest begins first, or one core would work on it when all others have done.
_SLOW = (
    "test_faults",
    "test_dialect_faults",
    "test_mcp",
    "test_deadlines",
    "test_ledger",
    "test_connection",
    "test_loop",
    "test_once",
    "test_tasks",
    "test_money",
    "test_kills",
    "test_process",
    "test_door",
    "test_stalls",
)


def load_tests(loader: unittest.TestLoader, _: unittest.TestSuite, pattern: str | None) -> unittest.TestSuite:
    """What `python3 -m unittest` calls for this package."""
    here = os.path.dirname(__file__)
    return _Parallel(_modules(loader.discover(here, pattern or "test*.py", os.path.dirname(here))))


def _modules(suite: Any) -> list[Any]:
    """The suites of modules in one of folders."""
    parts = list(suite)
    if any(
        isinstance(test, unittest.TestCase)
        for part in parts
        if not isinstance(part, unittest.TestCase)
        for test in part
    ):
        return [suite]
    return [module for part in parts for module in ([part] if isinstance(part, unittest.TestCase) else _modules(part))]


class _Name(str):
    """What is left of a test that ran elsewhere."""

    __slots__ = ()

    def shortDescription(self) -> None:
        return None


class _Parallel(unittest.TestSuite):
    modules: list[Any]
    result: Any

    def run(self, result: Any, debug: bool = False) -> Any:
        _Parallel.modules = sorted(self, key=_rank)
        _Parallel.result = result
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if cores == 1 or debug or len(self.modules) == 1:
            return super().run(result, debug)
        import concurrent.futures
        import multiprocessing

        from . import forks

        forks.begin()
        gc.collect()
        gc.freeze()  # what the workers share is not looked at, and so not copied, again and again
        gc.set_threshold(100_000)  # as the command sets it for itself
        fork = multiprocessing.get_context("fork")  # what was loaded is there already
        with concurrent.futures.ProcessPoolExecutor(3 * cores, fork) as pool:  # most of the time is waiting
            for count, outcomes in pool.map(_run, range(len(self.modules))):
                result.testsRun += count
                for name, pairs in outcomes.items():
                    getattr(result, name).extend((_Name(test), text) for test, text in pairs)
        return result


def _rank(module: Any) -> tuple[int, int]:
    """Where a module's suite stands in the order in which they begin."""
    name = next((type(test).__module__.rpartition(".")[2] for test in _tests(module)), "")
    return _SLOW.index(name) if name in _SLOW else len(_SLOW), -module.countTestCases()


def _tests(suite: Any) -> Iterator[unittest.TestCase]:
    for part in suite:
        if isinstance(part, unittest.TestCase):
            yield part
        else:
            yield from _tests(part)


def _run(number: int) -> tuple[int, dict[str, list[tuple[str, str]]]]:
    """In a process of the pool: run a module's tests, showing the dots; how many there were, and what went wrong."""
    shown = _Parallel.result
    verbosity = 2 if shown.showAll else int(shown.dots)
    result = unittest.TextTestResult(shown.stream, shown.descriptions, verbosity)
    result.buffer = shown.buffer
    _Parallel.modules[number].run(result)
    result.failures += [(test, "unexpected success") for test in result.unexpectedSuccesses]
    return result.testsRun, {name: [(str(test), text) for test, text in getattr(result, name)] for name in _OUTCOMES}
