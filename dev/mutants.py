"""Change the pure modules in every small way and see a test fail: ``make mutants``.

mutmut makes the changes, all of them in one copy of the project (``mutants/``) in which a word chooses the one that
runs. The tests are run here: collected once, then one process for the mutants of each function, which meet the tests
that reach that function. mutmut's own runner collects anew for each mutant in a process that has collected before:
pytest escapes names of tests once more then and does not find them, which counts as noticed.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import os
import shutil
import signal
import sys
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from mutmut.__main__ import create_mutants
from mutmut.configuration import config
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.state import state
from mutmut.utils.file_utils import copy_also_copy_files, copy_src_dir, setup_source_paths
from mutmut.utils.format_utils import mangled_name_from_mutant_name

if TYPE_CHECKING:
    from collections.abc import Iterator

_COPY: Final = Path("mutants")
_AT_ONCE: Final = 2
_PATIENCE_SECONDS: Final = 5
_PATIENCE: Final = 3
"""These seconds, and so many times what the clean tests took, a mutant may compute; ten times as long it may wait."""
_OF_COROUTINES: Final = {"_function_scoped_runner", "event_loop_policy"}
"""What pytest-asyncio adds to a test that is one."""

NOTICED: Final = "noticed"
ALIVE: Final = "alive"
UNREACHED: Final = "reached by no test"
ENDLESS: Final = "endless"
DIED: Final = "died"


class _EndlessError(BaseException):
    """A mutant does not come to an end."""


class Run:
    """All mutants, as a plugin of pytest that takes the place of the tests' own loop.

    Args:
        mutants: Names of the mutants, by the function that they change.

    Attributes:
        found: What became of each.
    """

    def __init__(self, mutants: dict[str, list[str]]) -> None:
        self._mutants = mutants
        self._failed: str | None = None
        self._took: dict[str, float] = defaultdict(float)
        self._running: dict[int, tuple[int, str, list[str]]] = {}
        self._caches: list[Any] = []
        self.found: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep how long a test takes, and whether one failed."""
        self._took[report.nodeid] += report.duration
        if report.failed:
            self._failed = report.nodeid

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the tests as they are, then the mutants."""
        reached_by = self._run_clean(session.items)
        if self._failed or session.testsfailed:
            raise session.Failed(f"{self._failed or 'a file'} fails without a mutant")
        waiting = list(self._mutants.items())
        while waiting or self._running:
            if waiting and len(self._running) < _AT_ONCE:
                function, names = waiting.pop(0)
                if tests := reached_by.get(function):
                    self._fork(function, names, tests)
                else:
                    self.found |= dict.fromkeys(names, UNREACHED)
            elif self._running:
                waiting += self._wait()
        return True

    def _run_clean(self, items: list[pytest.Item]) -> dict[str, list[pytest.Item]]:
        set_mutant_under_test("stats")
        reached_by: dict[str, list[pytest.Item]] = defaultdict(list)
        for item, following in zip(items, [*items[1:], None], strict=True):
            state()._stats.clear()  # noqa: SLF001 - mutmut's own runner reads it like that
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            for function in state()._stats:  # noqa: SLF001
                reached_by[function].append(item)
        for tests in reached_by.values():
            tests.sort(key=lambda test: (_arguments(test) is None, self._took[test.nodeid]))
        set_mutant_under_test("")
        self._caches = [
            value
            for name, module in sys.modules.items()
            if name.startswith("shared.")
            for value in vars(module).values()
            if hasattr(value, "cache_clear")
        ]
        return reached_by

    def _fork(self, function: str, names: list[str], tests: list[pytest.Item]) -> None:
        reads, writes = os.pipe()
        if pid := os.fork():
            os.close(writes)
            self._running[pid] = reads, function, names
            return
        os.close(reads)
        tests[0].config.pluginmanager.unregister(name="terminalreporter")
        with os.fdopen(writes, "w") as out:
            noticing = []
            for name in names:
                end = self._end_of(name, tests)
                out.write(json.dumps((name, end)) + "\n")
                out.flush()
                noticing += tests[:1] * (end == NOTICED)
            if len(names) > 1 and self._end_of("", list(dict.fromkeys(noticing))) != ALIVE:
                out.write(json.dumps(("", DIED)) + "\n")
        os._exit(0)

    def _wait(self) -> list[tuple[str, list[str]]]:
        """Wait for one process.

        Returns:
            What is to be tried again: each alone where one left something behind that the others have met.
        """
        pid, _ = os.wait()
        reads, function, names = self._running.pop(pid)
        with os.fdopen(reads) as said:
            ends: dict[str, str] = dict(json.loads(line) for line in said)
        if ends.pop("", None):
            return [(function, [name]) for name in names]
        left = [name for name in names if name not in ends]
        self.found |= ends
        self.found |= dict.fromkeys(left[:1], DIED)
        return [(function, left[1:])] if left[1:] else []

    def _end_of(self, mutant: str, tests: list[pytest.Item]) -> str:
        """Run tests until one notices; who notices is asked first the next time."""
        set_mutant_under_test(mutant)
        for cache in self._caches:
            cache.cache_clear()
        patience = _PATIENCE_SECONDS + _PATIENCE * sum(self._took[test.nodeid] for test in tests)
        try:
            with _at_most(patience):
                for place, test in enumerate(tests):
                    if self._notices(test):
                        tests.insert(0, tests.pop(place))
                        return NOTICED
        except _EndlessError:
            return ENDLESS
        return ALIVE

    def _notices(self, test: pytest.Item) -> bool:
        arguments = _arguments(test)
        if arguments is None:
            self._failed = None
            test.config.hook.pytest_runtest_protocol(item=test, nextitem=None)
            return self._failed is not None
        try:
            found = test.obj(**arguments)  # type: ignore[attr-defined]
            if inspect.iscoroutine(found):
                asyncio.run(found)
        except (_EndlessError, KeyboardInterrupt):
            raise
        except BaseException:  # noqa: BLE001 - whatever a mutant does
            return True
        return False


def _arguments(test: pytest.Item) -> dict[str, Any] | None:
    """What a test is called with, if it needs nothing of pytest."""
    if not isinstance(test, pytest.Function):
        return None
    parameters: dict[str, Any] = test.callspec.params if hasattr(test, "callspec") else {}
    needs = set(test.fixturenames) - set(parameters) - _OF_COROUTINES
    return None if needs else {name: parameters[name] for name in inspect.signature(test.obj).parameters}


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    def end(_signal: int, _frame: object) -> None:
        raise _EndlessError

    signal.signal(signal.SIGPROF, end)
    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 10 * seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def make(patterns: list[str]) -> dict[str, list[str]]:
    """Make the copy with its mutants; their names by the function that they change."""
    shutil.rmtree(_COPY, ignore_errors=True)
    _COPY.mkdir()
    set_mutant_under_test("mutant_generation")
    copy_src_dir()
    copy_also_copy_files()
    setup_source_paths()
    create_mutants(_AT_ONCE)
    mutants: dict[str, list[str]] = defaultdict(list)
    for facts in sorted(_COPY.glob("shared/**/*.meta")):
        for name in json.loads(facts.read_text())["exit_code_by_key"]:
            if not patterns or any(fnmatch(name, pattern) for pattern in patterns):
                mutants[mangled_name_from_mutant_name(name)].append(name)
    return mutants


def main() -> int:
    """Make them, run them, and say which live."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", nargs="*", help="only mutants of such names, such as 'shared.core.brake.*'")
    began = time.monotonic()
    mutants = make(parser.parse_args().patterns)
    selection = [*config().pytest_add_cli_args_test_selection, *config().pytest_add_cli_args]
    os.chdir(_COPY)
    run = Run(mutants)
    code = pytest.main(["--rootdir=.", "-q", "-p", "no:cacheprovider", *selection], plugins=[run])
    if code:
        return int(code)
    for name, end in sorted(run.found.items()):
        if end != NOTICED:
            print(f"{end}: {name}")
    for module in sorted({name.rpartition(".")[0] for name in run.found}):
        ends = Counter(end for name, end in run.found.items() if name.rpartition(".")[0] == module)
        print(f"{module}: {', '.join(f'{count} {end}' for end, count in ends.most_common())}")
    noticed = sum(end in (NOTICED, ENDLESS, DIED) for end in run.found.values())
    spent = os.times()
    print(
        f"{noticed} of {len(run.found)} noticed ({noticed / max(1, len(run.found)):.1%}) in "
        f"{time.monotonic() - began:.0f} s, {sum(spent[:4]):.0f} s of processor time; "
        f"see one with `python -m mutmut show NAME`"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
