"""A plugin of pytest: the tests run in several copies of the process that has collected them. `-p tests.forks --forks 4`.

The live tests are few and use pytest-xdist, whose processes each import and collect all tests. With eight thousand of them that
took as long as a third of the tests themselves. Here one process imports and collects, then forks, so another costs next to
nothing, and there are three for each processor: those that wait keep nobody up.

`Forks` is the parent: it takes in reports and shows them as if it had run the tests itself. `Worker` is a child as the parent
knows it. Who has time takes the next few tests out of a pipe, in which the numbers of all lie from the start. Tests of one module
stay together as far as that goes, for their fixtures. A process that dies fails the test that it was at.

`-n` or `--pdb` on the command line switches this off: then xdist or this very process runs the tests.
"""

from __future__ import annotations

import os
import random
import signal
import struct
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import groupby
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TextIO, cast

import gevent
import pytest
from _pytest.config import create_terminal_writer

ROOT = Path(__file__).parents[1]
TOGETHER = 12
"""Tests that one process takes at a time, at most."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--forks", type=int, default=0, help="processes that run the tests (0: this one)")


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """On a fresh checkout the test modules have to be compiled, longer than all else until the first test takes: all help."""
    folders = [folder for one in session.config.args if (folder := ROOT / one).is_dir()]
    ignored = [ROOT / path for path in session.config.getoption("ignore") or ()]
    modules = [
        path
        for folder in folders
        for path in sorted(folder.rglob("test_*.py"))
        if (path.parent / "__init__.py").exists() and not any(path.is_relative_to(one) for one in ignored)
    ]
    compiled = {path.name.partition(".")[0] for path in (ROOT / "tests").rglob(f"*.{sys.implementation.cache_tag}-pytest-*.pyc")}
    fresh = [path for path in modules if path.stem not in compiled]
    if count_of_forks(session.config) and len(fresh) > 30 and not sys.dont_write_bytecode:
        cpus = len(os.sched_getaffinity(0))
        for pid in [fork(compile_modules, fresh[number::cpus]) for number in range(cpus)]:
            os.waitpid(pid, 0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    count = count_of_forks(session.config)
    if not count or not session.items or session.testsfailed or session.config.option.collectonly:
        return None
    Forks(session, count).run()
    return True


def count_of_forks(config: pytest.Config) -> int:
    """0 where this process is to run the tests itself, or xdist."""
    alone = config.option.usepdb or config.getoption("numprocesses", None) is not None
    return 0 if alone else int(config.getoption("forks"))


def fork(work: Callable[..., None], *args: Any) -> int:
    """A copy of this process that does `work` and ends. Returns its number."""
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        return pid
    status = 1
    try:
        gevent.reinit()  # Where a module asks for the hub when it is imported, all would wait on one epoll.
        work(*args)
        status = 0
    finally:
        os._exit(status)  # What waits for the end of this process, such as files of pytest's cache, is the parent's.


def compile_modules(paths: list[Path]) -> None:
    for path in paths:
        import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


# ---- the parent ----


class Worker:
    """A child as its parent knows it: its number, where its news come from, and the tests that it has taken and not finished."""

    def __init__(self, pid: int, news: Connection) -> None:
        self.pid = pid
        self.news = news
        self.taken: list[int] = []
        """Numbers of tests, the one under way first."""
        self.last_words = ""


class Forks:
    """The processes that run the tests of a session, and what becomes of their news."""

    def __init__(self, session: pytest.Session, count: int) -> None:
        self.session = session
        self.groups = list(groups_of(session.items))
        self.count = min(count, len(self.groups))
        self.workers: dict[Connection, Worker] = {}

    def run(self) -> None:
        """Raises what pytest raises where tests run in one process: `Interrupted`, `Failed`, `KeyboardInterrupt`."""
        take, give = os.pipe()
        os.set_blocking(give, False)
        numbers = struct.pack(f"{len(self.groups)}I", *range(len(self.groups)))
        assert os.write(give, numbers) == len(numbers), "a pipe has room for 16,384 numbers"
        os.close(give)
        base = self.session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        try:
            for place in range(self.count):
                news, tell = Pipe(duplex=False)
                pid = fork(run_tests, self.session, self.groups, take, tell, base / f"fork-{place}")
                tell.close()
                self.workers[news] = Worker(pid, news)
            while self.workers:
                for ready in wait(list(self.workers), timeout=1) or self.the_dead():
                    self.take_in(self.workers[ready])
        finally:
            os.close(take)
            self.end_all()

    def end_all(self) -> None:
        """Those that are left may end their test as Ctrl-C does, and end what it has started."""
        for worker in self.workers.values():
            os.kill(worker.pid, signal.SIGINT)
        until = monotonic() + 5
        while len(self.the_dead()) < len(self.workers) and monotonic() < until:
            sleep(0.01)
        for worker in self.workers.values():
            os.kill(worker.pid, signal.SIGKILL)
            os.waitpid(worker.pid, 0)

    def the_dead(self) -> list[Any]:
        """Whoever has ended without a word of it: a process of its own may still hold its end of the pipe open."""
        return [
            news for news, worker in self.workers.items() if os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        ]

    def take_in(self, worker: Worker) -> None:
        hook = self.session.config.hook
        try:
            kind, *parts = worker.news.recv() if worker.news.poll() else ("ended",)
        except EOFError:
            kind, parts = "ended", []
        match kind, parts:
            case "took", [first, end]:
                worker.taken += range(first, end)
            case "done", [reports]:
                item = self.session.items[worker.taken.pop(0)]
                read = [hook.pytest_report_from_serializable(config=item.config, data=data) for data in reports]
                location = read[0].location  # To find it out costs a third of a millisecond; the child has done so.
                hook.pytest_runtest_logstart(nodeid=item.nodeid, location=location)
                for report in read:
                    hook.pytest_runtest_logreport(report=report)
                hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=location)
                if self.session.shouldfail:
                    raise self.session.Failed(self.session.shouldfail)
                if self.session.shouldstop:
                    raise self.session.Interrupted(self.session.shouldstop)
            case "warned", [message, filename, lineno, more]:
                told = warnings.WarningMessage(message, type(message), filename, lineno)
                hook.pytest_warning_recorded.call_historic(kwargs={"warning_message": told, **more})
            case "broke", [text]:
                worker.last_words = text
            case "ended", _:
                self.ended(worker)

    def ended(self, worker: Worker) -> None:
        """What it had taken and not done has failed: the first by its end, those behind it for they were never run."""
        del self.workers[worker.news]
        status = os.waitstatus_to_exitcode(os.waitpid(worker.pid, 0)[1])
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        for place, number in enumerate(worker.taken):
            item = self.session.items[number]
            why = (
                f"its process ended while it ran: {how}\n{worker.last_words}"
                if place == 0
                else f"not run, its process had ended: {how}"
            )
            report = pytest.TestReport(item.nodeid, item.location, {}, "failed", why, "call")
            item.config.hook.pytest_runtest_logreport(report=report)
        if status and not worker.taken:
            raise RuntimeError(f"a process ended behind its last test: {how}\n{worker.last_words}")


def groups_of(items: list[pytest.Item]) -> Iterator[range]:
    """Numbers of tests that stand side by side in one module, a few at a time."""
    for _, some in groupby(range(len(items)), key=lambda number: items[number].path):
        numbers = list(some)
        for first in range(numbers[0], numbers[-1] + 1, TOGETHER):
            yield range(first, min(first + TOGETHER, numbers[-1] + 1))


# ---- a child ----


class News:
    """A plugin in each child: it tells the parent what pytest tells of the tests here."""

    def __init__(self, config: pytest.Config, tell: Connection) -> None:
        self.config = config
        self.tell = tell
        self.reports: list[Any] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.reports.append(self.config.hook.pytest_report_to_serializable(config=self.config, report=report))

    def pytest_runtest_logfinish(self) -> None:
        self.tell.send(("done", self.reports))
        self.reports = []

    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: Any) -> None:
        said = warning_message
        more = {"when": when, "nodeid": nodeid, "location": location}
        message = Warning(f"{said.category.__name__}: {said.message}")  # One of their own might not go through a pipe.
        self.tell.send(("warned", message, said.filename, said.lineno, more))


class NoTerminal:
    """What plugins in a child take for the terminal: pytest-timeout writes there where each thread is."""

    def __init__(self, config: pytest.Config) -> None:
        self._tw = create_terminal_writer(config, cast(TextIO, self))

    def write(self, text: str) -> None:
        sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()

    def isatty(self) -> bool:
        return False


def run_tests(session: pytest.Session, groups: list[range], take: int, tell: Connection, tmp: Path) -> None:
    """`take`: a pipe with the numbers of groups that nobody has. `tmp`: the folder for the folders of the tests here."""
    try:
        random.seed()
        plugins = session.config.pluginmanager
        plugins.unregister(name="terminalreporter")
        plugins.register(NoTerminal(session.config), "terminalreporter")
        plugins.register(News(session.config, tell))
        # The files into which output goes would be those of all processes.
        capture = plugins.getplugin("capturemanager")
        capture.stop_global_capturing()
        capture.start_global_capturing()
        capture.suspend_global_capture()
        # Numbers of folders count up from 0 in each process.
        tmp.mkdir(0o700)
        session.config._tmp_path_factory._basetemp = tmp  # type: ignore[attr-defined]
        number = take_one(groups, take, tell)
        while number is not None:
            # Known before this one's last test, for it says which fixtures are to be taken down.
            following = take_one(groups, take, tell)
            after = [] if following is None else [session.items[groups[following].start]]
            items = [session.items[one] for one in groups[number]]
            for item, nextitem in zip(items, [*items[1:], *(after or [None])], strict=True):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=nextitem)
            number = following
    except BaseException as error:
        if not isinstance(error, KeyboardInterrupt):
            tell.send(("broke", traceback.format_exc()))
        session._setupstate.teardown_exact(None)
        raise


def take_one(groups: list[range], take: int, tell: Connection) -> int | None:
    some = os.read(take, 4)
    if not some:
        return None
    (number,) = struct.unpack("I", some)
    tell.send(("took", groups[number].start, groups[number].stop))
    return int(number)
