"""The access log of several workers that write into one file, and move it aside in the middle of it."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from smartedge.observe.rotation import rotated_files
from tests.live.acts import answers
from tests.live.edges import OWN, start_edge
from tests.live.peers import Script
from tests.live.processes import wait_until

REQUESTS = 160
USER_AGENT = b"User-Agent: %b\r\n" % (b"x" * 3000)

pytestmark = pytest.mark.timeout(90)


def test_two_workers_move_one_file_aside_and_no_line_is_lost_torn_or_doubled(tmp_path: Path) -> None:
    path = tmp_path / "access.log"

    def files() -> list[Path]:
        return [*map(Path, rotated_files(str(path))), path]

    def ids() -> Counter[str]:
        try:
            texts = [gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes() for file in files()]
        except FileNotFoundError:  # just compressed
            return Counter()
        lines = [json.loads(line) for text in texts for line in text.splitlines()]
        assert all(line["user_agent"] in (None, "x" * 3000) for line in lines)
        return Counter(line["request_id"] for line in lines if line["path"] == "/logged")

    settings = {"access_log_rotate_bytes": 65_536, "access_log_keep": 1000, "access_log_compress": True}
    with (
        Script(answers()) as backend,
        start_edge(tmp_path, backend, server=OWN, arguments=("--workers", "2"), **settings) as edge,
    ):
        wait_until(lambda: len(edge.status()["workers"]) == 2, 30, "both workers")
        for number in range(REQUESTS):
            edge.ask(b"/logged", b"GET", b"X-Request-Id: r-%d\r\n%b" % (number, USER_AGENT))
        wait_until(lambda: len(files()) > 4 and all(file.suffix == ".gz" for file in files()[:-1]), 30, "older files")
        wait_until(lambda: sum(ids().values()) >= REQUESTS, 30, "all lines")
        assert ids() == Counter(f"r-{number}" for number in range(REQUESTS))
        assert all(file.stat().st_size < 65_536 for file in files())
