"""Session tickets of several workers: one secret, also when it is replaced, or the cluster's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from smartedge.edge.tickets import Tickets
from smartedge.http.server_tls import ServerTls


class Worker:
    """What one worker has of it."""

    def __init__(self, directory: Path, *, in_cluster: bool = False) -> None:
        self.tls = ServerTls()
        self.tickets = Tickets(self.tls, in_cluster=in_cluster)
        self.tickets.join_workers(directory)

    @property
    def secrets(self) -> tuple[bytes, ...]:
        return tuple(self.tls._secrets)


def test_all_workers_have_one_secret_and_the_one_that_leads_makes_the_next(tmp_path: Path) -> None:
    one, other = Worker(tmp_path), Worker(tmp_path)
    first = one.secrets
    assert first == other.secrets != ()
    for worker, leading in ((one, True), (other, False)):
        worker.tickets.look(leading=leading)
    assert one.secrets == other.secrets == first, "it is not a day old"


def test_in_a_cluster_they_are_the_clusters_and_no_worker_makes_its_own(tmp_path: Path) -> None:
    one, other = (Worker(tmp_path, in_cluster=True) for _ in range(2))
    one.tickets.use_cluster_secrets([b"b" * 80, b"a" * 80])
    other.tickets.look(leading=False)
    assert one.secrets == other.secrets == (b"b" * 80, b"a" * 80)
    old = (tmp_path / "tickets.secret").read_text().splitlines()
    (tmp_path / "tickets.secret").write_text("\n".join(["1.0", *old[1:], ""]))
    for worker in (one, other):
        worker.tickets.look(leading=True)
    assert one.secrets == other.secrets == (b"b" * 80, b"a" * 80), "also when they are old: the cluster replaces them"


def test_a_state_directory_that_fails_is_said_once_and_the_keys_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = tmp_path / "state"
    state.mkdir()
    one = Worker(state)
    first = one.secrets
    shutil.rmtree(state)
    for _ in range(3):
        one.tickets.look(leading=True)
    assert one.secrets == first
    assert len([record for record in caplog.records if "keep the keys" in record.message]) == 1
