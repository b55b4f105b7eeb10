"""`smartedge top` on a real terminal, against a live edge."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.live.edges import LiveEdge, on_our_own_server
from tests.live.peers import Script, answers
from tests.live.processes import ROOT, wait_until


class Terminal:
    """The other side of a program's terminal."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.seen = ""

    def read(self) -> str:
        """What it has shown until now, without the escape sequences."""
        while select.select([self._fd], [], [], 0)[0]:
            try:
                data = os.read(self._fd, 65536)
            except OSError:  # the program has ended
                break
            if not data:
                break
            self.seen += data.decode("utf-8", "replace")
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][AB0]", "", self.seen)

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())


@contextmanager
def top(edge: LiveEdge) -> Iterator[tuple[Terminal, subprocess.Popen[bytes]]]:
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "smartedge", "top", "--url", edge.url, "--delay", "0.2"]
    env = {**os.environ, "TERM": "xterm-256color", "LINES": "30", "COLUMNS": "200"}
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, cwd=ROOT, env=env, start_new_session=True) as process:
        os.close(slave)
        try:
            yield Terminal(master), process
        finally:
            process.kill()
            os.close(master)


@on_our_own_server
def test_it_shows_drains_and_quits(edge: LiveEdge) -> None:
    with Script(answers()) as one, Script(answers()) as two:
        edge.configure({"id": "b1", "url": one}, {"id": "b2", "url": two})
        edge.ask()
        with top(edge) as (terminal, process):
            wait_until(lambda: "default/b2" in terminal.read(), 10, "the table")
            assert "REQ/S" in terminal.read()
            terminal.type("jd")
            wait_until(lambda: "drain default/b2? y/n" in terminal.read(), 10, "the question")
            terminal.type("y")
            wait_until(lambda: [one["state"] for one in edge.backends()] == ["enabled", "draining"], 10, "b2 to drain")
            terminal.type("q")
            assert process.wait(20) == 0


def command(edge: LiveEdge, *arguments: str) -> subprocess.CompletedProcess[str]:
    whole = [sys.executable, "-m", "smartedge", *arguments, "--url", edge.url]
    return subprocess.run(whole, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@on_our_own_server
def test_without_a_terminal_it_says_what_to_do_and_once_prints_a_table_without_colours(edge: LiveEdge) -> None:
    with Script(answers()) as one:
        edge.configure({"id": "b1", "url": one})
        refused = command(edge, "top")
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert "--once" in refused.stderr
        printed = command(edge, "top", "--once")
        assert printed.returncode == 0
        assert re.search(r"^default/b1 +enabled +healthy +closed ", printed.stdout, re.MULTILINE)
        assert "\x1b" not in printed.stdout
