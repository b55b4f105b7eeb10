"""The console in a process of its own: what `install` does to streams and loggers."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

from smartedge.observe import console

ROOT = Path(__file__).parents[2]


def run(script: str, stdout: object = subprocess.PIPE, stderr: object = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"from smartedge.observe import console\nimport logging, sys\n{script}\nconsole.flush()"]
    return subprocess.run(command, stdout=stdout, stderr=stderr, text=True, cwd=ROOT, timeout=60, check=False)  # type: ignore[call-overload,no-any-return]


def test_the_four_lines_stay_word_for_word_and_log_lines_have_a_time_and_a_level() -> None:
    done = run(
        "console.install(); console.log_at('info')\n"
        "console.say('🚀 SmartEdge iniciado na porta 1')\n"
        "logging.getLogger('smartedge.x').warning('a %s', 'b'); logging.getLogger('smartedge').debug('not this')"
    )
    assert done.stdout == "🚀 SmartEdge iniciado na porta 1\n"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING a b\n", done.stderr)


def test_what_the_system_has_no_more_of_is_a_line_without_a_traceback_once_a_minute() -> None:
    """Regression: with too few descriptors housekeeping wrote a traceback each second."""
    done = run(
        "import errno\nconsole.install(); console.log_at('info'); log = logging.getLogger('smartedge.x')\n"
        "for number in (errno.EMFILE, errno.EMFILE, errno.EPERM):\n"
        "    try: raise OSError(number, 'Too bad')\n"
        "    except OSError: log.exception('housekeeping failed, again in %g s', 1)\n"
        "log.error('another', exc_info=OSError(errno.EMFILE, 'Too many'))"
    )
    lines = done.stderr.splitlines()
    assert "ERROR housekeeping failed, again in 1 s: Too bad (EMFILE); at most " in lines[0]
    assert lines[0].endswith(" descriptors may be open (ulimit -n, LimitNOFILE)")
    assert lines[1].endswith("ERROR housekeeping failed, again in 1 s")
    assert lines[2].startswith("Traceback")
    assert "PermissionError" in lines[-2]
    assert "ERROR another: Too many (EMFILE)" in lines[-1]


def test_where_both_streams_are_one_lines_keep_their_order() -> None:
    script = "console.install()\nfor n in range(50): print('out', n); print('err', n, file=sys.stderr)"
    done = run(script, stderr=subprocess.STDOUT)
    assert done.stdout.split("\n")[:-1] == [line for n in range(50) for line in (f"out {n}", f"err {n}")]


def test_nothing_that_is_printed_fails(tmp_path: Path) -> None:
    script = (
        "console.install()\nprint('x'); console.say('y'); sys.stdout.buffer.write(b'z\\n'); sys.stdout.flush()\n"
        "from smartedge.observe.log_writer import LOST, flush_all\nflush_all(5)\nprint(LOST.total, file=sys.stderr)"
    )
    with open("/dev/full", "w") as full:
        done = run(script, stdout=full)
    assert (done.returncode, done.stderr) == (0, "3\n")


def test_loggers_that_had_the_old_streams_have_the_new_ones() -> None:
    """gunicorn's logger keeps the stream that it was made with."""
    done = run(
        "handler = logging.StreamHandler(); logging.getLogger('gunicorn.error').addHandler(handler)\n"
        "console.install(); print(handler.stream is sys.stderr, type(handler.stream).__name__)"
    )
    assert done.stdout == "True ConsoleStream\n"


def test_a_closed_standard_output_is_no_reason_to_fail() -> None:
    command = (
        f"{sys.executable} -c 'from smartedge.observe import console; console.install(); print(1); console.flush()' >&- 2>&-"
    )
    assert subprocess.run(command, shell=True, cwd=ROOT, timeout=60, check=False).returncode == 0


def test_text_without_a_line_break_waits_for_the_rest_or_for_flush() -> None:
    done = run("console.install(); sys.stdout.write('a'); sys.stdout.write('b\\nc'); sys.stdout.flush(); print('d')")
    assert done.stdout == "ab\ncd\n"


def test_an_embedding_program_that_has_handlers_of_its_own_keeps_them(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("smartedge")
    handlers, level = list(logger.handlers), logger.level
    console.log_at("error")
    assert (logger.handlers, logger.level) == (handlers, level)
