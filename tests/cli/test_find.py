"""Which balancer a command means."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartedge.cli.errors import Stop
from smartedge.cli.find import Target, _is_trusted, find_target
from smartedge.process.whereabouts import Whereabouts, running_edges, write_whereabouts
from smartedge.workers.state_dir import StateDir


class Machine:
    """A directory with a configuration, and edges that run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.env = {"SMARTEDGE_STATE_DIR": str(directory / "state")}
        self.locks: list[object] = []

    def file(self, name: str = "backends.json", **settings: object) -> str:
        path = self.directory / name
        path.write_text(json.dumps({"backends": ["http://a:1"], **settings}))
        return str(path)

    def runs(self, url: str, config: str | None, certificate: str | None = None) -> StateDir:
        state = StateDir.find(f"edge-{len(self.locks)}", self.env)
        self.locks.append(state.take_slot())
        write_whereabouts(state, Whereabouts(url, None if config is None else os.path.realpath(config), certificate))
        return state

    def find(self, url: str | None = None, cacert: str | None = None, config: str | None = None, **env: str) -> Target:
        return find_target(url, cacert, config, {**self.env, **env})


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.chdir(tmp_path)
    machine = Machine(tmp_path)
    yield machine
    for lock in machine.locks:
        lock.release()  # type: ignore[attr-defined]


def test_a_flag_goes_before_a_variable_and_both_before_all_that_is_found(machine: Machine) -> None:
    machine.runs("http://127.0.0.1:1", machine.file())
    assert machine.find("http://10.0.0.1:2", "ca.pem", SMARTEDGE_URL="http://10.0.0.1:3") == Target("http://10.0.0.1:2", "ca.pem")
    assert machine.find(SMARTEDGE_URL=" http://10.0.0.1:3 ") == Target("http://10.0.0.1:3")


def test_the_edge_that_runs_with_this_file_is_meant_wherever_its_flags_have_put_it(machine: Machine) -> None:
    """`run --admin-bind 127.0.0.1:8091` as in the README: `status` and `reload` without --url went to the traffic port."""
    machine.runs("http://127.0.0.1:8091", machine.file())
    machine.runs("http://127.0.0.1:8092", machine.file("other.json"))
    assert machine.find() == Target("http://127.0.0.1:8091")
    assert machine.find(config="other.json") == Target("http://127.0.0.1:8092")
    assert machine.find(SMARTEDGE_CONFIG="other.json") == Target("http://127.0.0.1:8092")


def test_where_none_runs_with_it_the_file_and_variables_say_it(machine: Machine) -> None:
    machine.file(bind="0.0.0.0:9000")
    assert machine.find() == Target("http://127.0.0.1:9000")
    assert machine.find(SMARTEDGE_BIND="[::]:9001") == Target("http://[::1]:9001")
    assert machine.find(SMARTEDGE_ADMIN_BIND="127.0.0.1:9002") == Target("http://127.0.0.1:9002")
    machine.file(admin_bind="unix:/run/smartedge/admin.sock")
    assert machine.find() == Target("unix:/run/smartedge/admin.sock")


def test_without_a_file_the_variables_say_it_or_the_one_that_runs_or_the_default(machine: Machine) -> None:
    assert machine.find() == Target("http://127.0.0.1:8080")
    machine.runs("http://127.0.0.1:8091", "/etc/smartedge/backends.json")
    assert machine.find() == Target("http://127.0.0.1:8091")
    assert machine.find(SMARTEDGE_ADMIN_BIND="127.0.0.1:9002") == Target("http://127.0.0.1:9002")


def test_where_several_run_none_is_guessed(machine: Machine) -> None:
    machine.runs("http://127.0.0.1:1", "/a.json")
    machine.runs("http://127.0.0.1:2", None)
    with pytest.raises(Stop, match="several balancers run here; name one with --url") as caught:
        machine.find()
    assert [line.split() for line in str(caught.value).splitlines()[1:]] == [
        ["http://127.0.0.1:1", "/a.json"],
        ["http://127.0.0.1:2", "without", "a", "file"],
    ]


def test_two_arbiters_of_one_edge_on_one_address_are_one(machine: Machine) -> None:
    """SIGUSR2: the next arbiter serves beside the old one."""
    file = machine.file()
    machine.runs("http://127.0.0.1:1", file)
    machine.runs("http://127.0.0.1:1", file)
    assert machine.find() == Target("http://127.0.0.1:1")


def test_the_edge_of_another_file_is_not_taken_for_ours_because_it_has_our_address(machine: Machine) -> None:
    machine.file()
    machine.runs("http://127.0.0.1:8080", machine.file("other.json"))
    with pytest.raises(Stop, match=r"the balancer at http://127.0.0.1:8080 runs with .*other.json, not .*backends.json"):
        machine.find()


def test_another_users_edge_is_ours_to_ask_only_if_the_file_is_his(machine: Machine) -> None:
    """Root looks into the directories of all users, and any of them may write what he likes into his own."""
    file = machine.file()
    us = os.geteuid()
    assert _is_trusted(Whereabouts("http://127.0.0.1:1", file, uid=us), file)
    assert _is_trusted(Whereabouts("http://127.0.0.1:1", file, uid=os.stat(file).st_uid), file)
    assert not _is_trusted(Whereabouts("http://127.0.0.1:1", file, uid=us + 1), file)
    assert not _is_trusted(Whereabouts("http://127.0.0.1:1", "/none", uid=us + 1), "/none")
    machine.runs("http://127.0.0.1:1", file)
    assert [edge.uid for edge in running_edges(machine.env)] == [us]


def test_a_broken_file_and_a_port_that_nobody_knows_are_told(machine: Machine) -> None:
    machine.file(bind="127.0.0.1:0")
    with pytest.raises(Stop, match="the port is 0"):
        machine.find()
    Path("backends.json").write_text("{")
    with pytest.raises(Stop, match="name it with --url"):
        machine.find()
    machine.runs("http://127.0.0.1:8091", "backends.json")
    assert machine.find() == Target("http://127.0.0.1:8091")  # it runs on with what it has


def test_a_certificate_of_this_machine_vouches_for_itself(machine: Machine) -> None:
    certificate = machine.directory / "cert.pem"
    certificate.write_text("PEM")
    machine.file(certfile=str(certificate))
    itself = Target("https://127.0.0.1:8080", str(certificate), own_certificate=True)
    assert machine.find() == itself
    assert machine.find(cacert="ca.pem") == Target("https://127.0.0.1:8080", "ca.pem")
    machine.runs("https://127.0.0.1:8080", "backends.json", str(certificate))
    assert machine.find() == itself
    certificate.unlink()
    assert machine.find() == Target("https://127.0.0.1:8080")
