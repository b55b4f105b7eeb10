"""The cluster's keys on a real etcd: who wins, what is lost with an answer, who is there, and what comes back by itself."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any, TypeVar

import gevent
import gevent.socket
import pytest
from gevent.server import StreamServer

from smartedge.cluster.applied import applied_in, wait_applied
from smartedge.cluster.errors import Foreign, OutcomeUnknown, PermissionDenied, TooLarge, Unavailable
from smartedge.cluster.keys import will_key
from smartedge.cluster.nodes import SOON_S, Nodes
from smartedge.cluster.proposals import Proposals
from smartedge.cluster.secret_keys import Secrets
from smartedge.cluster.store import Conflict, Store
from smartedge.cluster.stored import Stored
from smartedge.cluster.view import View
from smartedge.cluster.watch import ClusterWatch
from smartedge.cluster.will import Will
from smartedge.discovery.etcd_client import EtcdClient
from tests.live.etcd_server import EtcdServer, etcd, etcd_of_three
from tests.live.processes import running

P = "/test"
Truth = TypeVar("Truth")


def eventually(condition: Callable[[], Truth], timeout_s: float = 40.0) -> Truth:
    """Wait, letting greenlets run, until something is true."""
    deadline = monotonic() + timeout_s
    while not (found := condition()):
        assert monotonic() < deadline, "not in time"
        gevent.sleep(0.01)
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    """One etcd for all tests that leave it running."""
    with etcd(tmp_path_factory.mktemp("etcd")) as found:
        yield found


@pytest.fixture
def client(server: EtcdServer) -> Iterator[EtcdClient]:
    """Of an etcd without keys."""
    found = EtcdClient([server.url])
    found.delete("", prefix=True)
    yield found
    found.close()


class Eye:
    """A ClusterWatch, and what it has told."""

    def __init__(self, client: EtcdClient, name: str = "eye", held: View | None = None, **more: Any) -> None:
        self.told: list[tuple[View, frozenset[str]]] = []
        self.watch = ClusterWatch(
            client, P, name, lambda view, changed: self.told.append((view, changed)), Random(1), held=held, **more
        )

    def __enter__(self) -> Eye:
        self.watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.watch.stop()

    @property
    def generation(self) -> int | None:
        """That of the configuration that is known."""
        return self.watch.view.stored and self.watch.view.stored.generation

    def sees(self, condition: Callable[[View], object]) -> None:
        """Wait until the view is like this."""
        assert self.watch.wait_for(condition, 40), self.watch


def at_generation(number: int) -> Callable[[View], bool]:
    return lambda view: view.stored is not None and view.stored.generation == number


# The configuration.


def test_the_first_node_makes_the_configuration_and_the_next_gets_what_is_there(client: EtcdClient) -> None:
    store = Store(client, P, now=lambda: 1000.0)
    assert store.read() is None
    first, created = store.create_if_absent('{"a": 1}', "one")
    assert (created, first.generation, first.text, first.by, first.at) == (True, 1, '{"a": 1}', "one", 1000.0)
    again, created = store.create_if_absent('{"b": 2}', "two")
    assert (created, again) == (False, first)
    second = store.write("é\n", "two", first)
    assert (second.generation, second.id, store.read()) == (2, first.id, second)


def test_of_writers_at_once_one_wins_and_the_others_are_shown_what_it_wrote(client: EtcdClient) -> None:
    store = Store(client, P)
    seen, _ = store.create_if_absent("first", "one")

    def write(number: int) -> Stored | Conflict:
        try:
            return Store(client, P).write(f"text {number}", f"node {number}", seen)
        except Conflict as error:
            return error

    results = [greenlet.get(timeout=40) for greenlet in [gevent.spawn(write, number) for number in range(8)]]
    winners = [result for result in results if isinstance(result, Stored)]
    assert winners == [store.read()]
    assert [result.stored for result in results if isinstance(result, Conflict)] == winners * 7
    assert winners[0].generation == 2


def test_a_text_that_etcd_does_not_take_is_refused_and_changes_nothing(client: EtcdClient) -> None:
    """Above 1.5 MiB etcd itself refuses, above 2 MiB its gRPC does, in other words."""
    store = Store(client, P)
    seen, _ = store.create_if_absent("first", "one")
    assert len(store.write("x" * 1_500_000, "one", seen).text) == 1_500_000
    for size in (1_600_000, 5_000_000):
        with pytest.raises(TooLarge, match=r"longer than what etcd takes .* 1\.5 MiB .* --max-request-bytes"):
            store.write("y" * size, "one", store.read() or seen)
    assert (store.read() or seen).generation == 2


def test_a_key_that_is_none_of_ours_is_named_and_left_alone(client: EtcdClient) -> None:
    store = Store(client, P)
    seen, _ = store.create_if_absent("first", "one")
    for value in (b"", b"\xff", b"3", b"{}", b'{"generation": true, "text": "", "by": "", "at": 1, "nonce": "", "id": ""}'):
        client.put(f"{P}/config", value)
        for ask in (store.read, lambda: store.create_if_absent("x", "one"), lambda: store.write("x", "one", seen)):
            with pytest.raises(Foreign, match="the key /test/config in etcd holds no configuration of SmartEdge's"):
                ask()
        assert client.range(f"{P}/config")[1][0].value == value


class Lossy:
    """Stands before etcd. lose: called in place of the next transaction, which it may hand on; no answer goes back.

    keeps_back: of a watch, all but the first piece, as a proxy does that buffers. watches: of how many that has come.
    """

    def __init__(self, url: str) -> None:
        self._target = ("127.0.0.1", int(url.rpartition(":")[2]))
        self.lose: Callable[[Callable[[], object]], object] | None = None
        self.keeps_back = False
        self.watches = 0
        self._server = StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.stop(timeout=0)

    def _serve(self, sock: Any, _address: object) -> None:
        there = gevent.socket.create_connection(self._target)
        back = gevent.spawn(self._copy, there, sock)
        try:
            while data := sock.recv(1 << 20):
                if self.lose is not None and b"/v3/kv/txn" in data:
                    lose, self.lose = self.lose, None
                    while len(data.partition(b"\r\n\r\n")[2]) < int(data.lower().partition(b"content-length: ")[2].split()[0]):
                        data += sock.recv(1 << 20)
                    back.kill()

                    def hand_on(data: bytes = data) -> object:
                        there.sendall(data)
                        return there.recv(1 << 20)

                    lose(hand_on)
                    return
                if self.keeps_back and b"/v3/watch" in data:
                    back.kill()
                    back = gevent.spawn(self._copy_first, there, sock)
                there.sendall(data)
        finally:
            back.kill()
            there.close()
            sock.close()

    def _copy_first(self, source: Any, target: Any) -> None:
        target.sendall(source.recv(1 << 20))
        self.watches += 1
        while source.recv(1 << 20):
            pass

    @staticmethod
    def _copy(source: Any, target: Any) -> None:
        while data := source.recv(1 << 20):
            target.sendall(data)


@pytest.fixture
def lossy(server: EtcdServer) -> Iterator[Lossy]:
    found = Lossy(server.url)
    yield found
    found.close()


def test_a_write_whose_answer_was_lost_is_known_again(client: EtcdClient, lossy: Lossy) -> None:
    store = Store(EtcdClient([lossy.url]), P)
    lossy.lose = lambda hand_on: hand_on()
    first, created = store.create_if_absent("first", "one")
    assert (created, lossy.lose) == (True, None)
    lossy.lose = lambda hand_on: hand_on()
    second = store.write("second", "one", first)
    assert (second.generation, second.text, second, lossy.lose) == (2, "second", store.read(), None)


def test_a_write_that_was_lost_itself_is_sent_again_unless_another_came_before_it(client: EtcdClient, lossy: Lossy) -> None:
    store, direct = Store(EtcdClient([lossy.url]), P), Store(client, P)
    first, _ = store.create_if_absent("first", "one")
    lossy.lose = lambda _: None
    second = store.write("second", "one", first)
    assert (second.generation, direct.read()) == (2, second)
    lossy.lose = lambda _: direct.write("another's", "two", second)
    with pytest.raises(Conflict, match="generation 3 of the configuration meanwhile, written by two") as caught:
        store.write("third", "one", second)
    assert caught.value.stored == direct.read()


def test_a_write_whose_answer_was_lost_was_in_effect_although_another_has_followed(client: EtcdClient, lossy: Lossy) -> None:
    """The history of the key knows; once that is compacted nobody does, and that is what is said."""
    store, direct = Store(EtcdClient([lossy.url]), P), Store(client, P)
    first, _ = store.create_if_absent("first", "one")

    def follow(hand_on: Callable[[], object]) -> None:
        hand_on()
        for _ in range(2):
            direct.write("later", "two", direct.read() or first)

    lossy.lose = follow
    second = store.write("second", "one", first)
    assert (second.generation, second.text) == (2, "second")
    latest = direct.read()
    assert latest is not None
    assert latest.generation == 4

    def follow_and_forget(hand_on: Callable[[], object]) -> None:
        follow(hand_on)
        now = client.put("/other", b"")
        client._call("kv/compaction", {"revision": str(now)}, bool)

    lossy.lose = follow_and_forget
    with pytest.raises(OutcomeUnknown, match="has generation 7 by now, written by two"):
        store.write("fifth", "one", latest)


# What the operator says, and secrets.


def test_the_will_is_a_key_for_each_thing_and_many_are_said_at_once(client: EtcdClient) -> None:
    will = Will(client, P)
    key = will_key("backends", "web", "a/b", "state")
    assert key == "backends/web/a%2Fb/state"
    revision = will.set(key, "draining")
    assert will.set_many({f"weights/{number}": number for number in range(250)}) > revision
    assert will.all() == {key: "draining", **{f"weights/{number}": number for number in range(250)}}
    will.set_many({f"weights/{number}": None for number in range(250)})
    will.unset(key)
    assert will.all() == {}


def test_secrets_are_made_once_and_are_new_every_day_by_one_node(client: EtcdClient) -> None:
    """However wrong a node's clock is, a lease of half a day (here of half a thousand seconds) keeps them."""
    made = [one.get(timeout=40) for one in [gevent.spawn(Secrets(client, P, 1000).current, 5000.0) for _ in range(5)]]
    assert len({one.sticky for one in made}) == 1
    first = made[0]
    assert [len(one) for one in (*first.sticky, *first.tickets)] == [32, 32, 80, 80]
    assert Secrets(client, P, 1000).rotate_if_due(5999.0, first) is None
    assert Secrets(client, P, 1000).rotate_if_due(9e9, first) is None  # a clock that is wrong
    client.revoke(client.range(f"{P}/secrets-fresh")[1][0].lease)  # half a day later
    tried = [gevent.spawn(Secrets(client, P, 1000).rotate_if_due, 6000.0, first) for _ in range(5)]
    rotated = [one for greenlet in tried if (one := greenlet.get(timeout=40)) is not None]
    assert len(rotated) == 1
    assert rotated[0].sticky[:2] == (first.sticky[1], first.sticky[0])  # tomorrow's is today's, and yesterday's is accepted
    assert rotated[0].tickets[:2] == (first.tickets[1], first.tickets[0])
    assert Secrets(client, P, 1000).current(0.0) == rotated[0]
    assert len(client.range(f"{P}/secrets-fresh")[1]) == 1


# The watch.


def test_a_watch_tells_of_everything_that_changes(client: EtcdClient) -> None:
    store, will = Store(client, P), Will(client, P)
    first, _ = store.create_if_absent("first", "one")
    secrets = Secrets(client, P).current(0.0)
    with Eye(client) as eye:
        eye.sees(at_generation(1))
        eventually(lambda: eye.told)
        assert eye.told[0][1] == {"config", "secrets"}
        assert eye.watch.view.secrets == secrets
        store.write("second", "one", first)
        eye.sees(at_generation(2))
        will.set("edge/draining", True)
        eye.sees(lambda view: view.will == {"edge/draining": True})
        will.unset("edge/draining")
        eye.sees(lambda view: view.will == {})
        client.put(f"{P}/will/x", b"not JSON")
        client.put(f"{P}/config", b"not JSON")
        eye.sees(lambda view: view.problems.keys() == {f"{P}/will/x", f"{P}/config"})
        assert eye.generation == 2  # what stood there before is used on
        client.delete(f"{P}/config")  # as the message says; and what was there is put back
        eventually(lambda: store.read() is not None)
        eye.sees(lambda view: view.problems.keys() == {f"{P}/will/x"})
        assert (eye.generation, (store.read() or first).text) == (2, "second")
        assert (eye.watch.state, eye.watch.age_s < 10) == ("live", True)


def test_what_cannot_be_put_to_use_does_not_end_the_watch(client: EtcdClient) -> None:
    store = Store(client, P)
    first, _ = store.create_if_absent("first", "one")
    told = []

    def use(view: View, changed: frozenset[str]) -> None:
        told.append((view.stored and view.stored.generation, changed))
        if len(told) == 1:
            raise RuntimeError("as a test wants it")

    watch = ClusterWatch(client, P, "one", use, Random(1))
    watch.start()
    try:
        eventually(lambda: told)
        store.write("second", "one", first)
        eventually(lambda: len(told) > 1)
        assert told[:2] == [(1, {"config"}), (2, {"config"})]
    finally:
        watch.stop()


def test_events_that_are_kept_back_are_missed(client: EtcdClient, lossy: Lossy) -> None:
    """A node behind a proxy that buffers would never hear of a reload, and say that it is live."""
    store = Store(client, P)
    first, _ = store.create_if_absent("first", "one")
    lossy.keeps_back = True
    with Eye(EtcdClient([lossy.url]), look_s=0.2) as eye:
        eye.sees(at_generation(1))
        eventually(lambda: lossy.watches >= 1)
        store.write("second", "one", first)
        eye.sees(at_generation(2))
        eventually(lambda: lossy.watches >= 2)
        Will(client, P).set("edge/draining", True)
        eye.sees(lambda view: view.will == {"edge/draining": True})
        eventually(lambda: eye.watch.state == "live")


def test_sixty_four_nodes_hear_of_a_change(client: EtcdClient) -> None:
    store = Store(client, P)
    first, _ = store.create_if_absent(json.dumps({"backends": ["http://10.0.0.1:80"] * 1000}), "one")
    eyes = [Eye(client, f"n{number}") for number in range(64)]
    try:
        for eye in eyes:
            eye.watch.start()
        for eye in eyes:
            eye.sees(at_generation(1))
        store.write("second", "one", first)
        for eye in eyes:
            eye.sees(at_generation(2))
    finally:
        for eye in eyes:
            eye.watch.stop()


# Nodes.


def cards(client: EtcdClient) -> list[dict[str, Any]]:
    """Those that lie in etcd, by name."""
    return [json.loads(pair.value) for pair in client.range(f"{P}/nodes/", prefix=True)[1]]


@pytest.fixture
def join(client: EtcdClient) -> Iterator[Callable[..., Nodes]]:
    """Makes nodes, which look after their leases every second or two."""
    joined: list[Nodes] = []

    def make(name: str, address: str = "10.0.0.1:80", **card: Any) -> Nodes:
        nodes = Nodes(client, P, Random(1), lease_s=5)
        joined.append(nodes)
        nodes.join({"node": name, "address": address, **card})
        return nodes

    yield make
    for nodes in joined:
        nodes.leave()


def test_a_card_lies_there_while_its_node_lives_and_says_what_it_is_told(client: EtcdClient, join: Callable[..., Nodes]) -> None:
    one, two = join("one", "10.0.0.1:80", generation=1), join("two/é", "10.0.0.2:80")
    assert (one.problem, two.problem) == (None, None)
    assert [card["node"] for card in cards(client)] == ["one", "two/é"]
    one.update(requests=4)  # which is written now and then
    one.update(requests=5, since=1)
    for _ in range(9):
        client.put("/other", b"")  # which takes as long as writing a card would
    assert cards(client)[0]["generation"] == 1
    one.update(generation=2)
    eventually(lambda: cards(client)[0].get("generation") == 2)
    one.update(generation=2, requests=5)
    assert (cards(client)[0]["requests"], cards(client)[0]["since"]) == (5, 1)
    assert client.range(f"{P}/nodes/one")[1][0].version == 2
    two.leave()
    assert [card["node"] for card in cards(client)] == ["one"]
    client.revoke(client.range(f"{P}/nodes/one")[1][0].lease)  # taken for dead
    assert cards(client) == []
    eventually(lambda: [card["generation"] for card in cards(client)] == [2])


def test_a_name_belongs_to_one_machine_and_a_restart_takes_it_over(client: EtcdClient, join: Callable[..., Nodes]) -> None:
    first = join("one", "10.0.0.1:80")
    stranger = join("one", "10.0.0.9:80")
    assert stranger.problem is not None
    assert 'there is a node called "one" already, at 10.0.0.1:80; each node needs a name of its own' in stranger.problem
    restarted = join("one", "10.0.0.1:80", generation=7)
    assert restarted.problem is None
    first.update(generation=3)
    eventually(lambda: first.problem)
    assert "another process at 10.0.0.1:80 has taken over" in (first.problem or "")
    assert [card.get("generation") for card in cards(client)] == [7]
    restarted.leave()
    eventually(lambda: cards(client) and not (first.problem and stranger.problem))  # whoever looks first


def test_a_node_that_was_held_is_away_and_comes_back_by_itself(client: EtcdClient, server: EtcdServer) -> None:
    store = Store(client, P)
    first, _ = store.create_if_absent("first", "one")
    command = [sys.executable, "-m", "tests.live.small_node", server.url, P]
    with (
        Eye(client) as eye,
        running([*command, "held"], "ready") as held,
        running([*command, "other"], "ready"),
    ):
        eye.sees(lambda view: [card["generation"] for card in view.cards.values()] == [1, 1])
        # All are asked, and what they say is gone with the question.
        proposals = Proposals(client, P)
        verdicts = proposals.ask("lacking", "eye", lambda: eye.watch.view.cards, 40)
        assert (verdicts.ok, verdicts.refused, verdicts.silent) == ((), {"held": "no such file", "other": "no such file"}, ())
        assert proposals.ask("good", "eye", lambda: eye.watch.view.cards, 40).is_accepted
        assert client.range(f"{P}/proposals/", prefix=True)[1] == client.range(f"{P}/answers/", prefix=True)[1] == []
        held.process.send_signal(signal.SIGSTOP)
        asking = gevent.spawn(proposals.ask, "good", "eye", lambda: ["held", "other"], 3)
        answered = eventually(lambda: client.range(f"{P}/answers/", prefix=True)[1])
        asked = client.range(f"{P}/proposals/", prefix=True)[1]
        assert [one.lease for one in answered] == [one.lease for one in asked] != [0]  # gone with it, should it die now
        said = asking.get(timeout=40)
        assert (said.ok, said.silent, said.is_accepted) == (("other",), ("held",), False)
        second = store.write("second", "eye", first)
        wait_applied(eye.watch, 2, 0.0)
        eye.sees(lambda view: view.cards.keys() == {"other"})  # its lease is over
        assert wait_applied(eye.watch, 2, 40).late == ()
        store.write("third", "eye", second)
        held.process.send_signal(signal.SIGCONT)
        eye.sees(lambda view: {name: card["generation"] for name, card in view.cards.items()} == {"held": 3, "other": 3})
        assert applied_in(eye.watch.view, 3).applied == 2


# etcd away.


def test_while_etcd_is_away_nothing_changes_and_what_was_answered_is_there_afterwards(tmp_path: Path) -> None:
    with etcd(tmp_path) as server:
        client = EtcdClient([server.url], timeout_s=1)
        store, will = Store(client, P, write_s=0.5), Will(client, P)
        first, _ = store.create_if_absent("first", "one")
        nodes = Nodes(client, P, Random(1), lease_s=2)
        nodes.join({"node": "one", "address": "a:80"})
        with Eye(client) as eye:
            eye.sees(at_generation(1))
            server.kill()
            with pytest.raises(Unavailable, match="the configuration cannot be written to etcd: etcd at http"):
                store.write("second", "one", first)
            with pytest.raises(Unavailable):
                will.set("a", 1)
            eventually(lambda: eye.watch.state == "stale")
            assert eye.generation == 1
            server.start()
            second = store.write("second", "one", store.read() or first)
            client._call("kv/compaction", {"revision": str(second.mod_revision)}, bool)  # what the watch would ask for
            eye.sees(at_generation(2))
            assert eye.watch.state == "live"
            eye.sees(lambda view: "one" in view.cards)
            # An etcd that is held answers nobody; whether it will write cannot be known.
            server.pause()
            with pytest.raises(
                OutcomeUnknown, match="etcd went away while the configuration was written: generation 3 is in effect"
            ):
                store.write("third", "one", second)
            eventually(lambda: eye.watch.state == "stale")
            server.resume()
            eventually(lambda: eye.watch.state == "live")
            there = eventually(store.read)
            eye.sees(at_generation(there.generation))
        nodes.leave()


def test_what_etcd_has_lost_is_put_back_by_the_nodes(tmp_path: Path) -> None:
    """It is restored from a backup, then it has lost everything; then the cluster is begun anew, which counts."""
    with etcd(tmp_path) as server:
        client = EtcdClient([server.url], timeout_s=1)
        store, will, secrets = Store(client, P), Will(client, P), Secrets(client, P)
        first, _ = store.create_if_absent("first", "one")
        made = secrets.current(0.0)
        nodes = Nodes(client, P, Random(1), lease_s=5)
        nodes.join({"node": "one", "address": "a:80", "generation": 1})
        server.ctl("snapshot", "save", str(tmp_path / "backup.db"))
        latest = store.write("third", "one", store.write("second", "one", first))
        will.set_many({"a": 1, "b": 2})
        nodes.update(generation=3)
        eventually(lambda: cards(client)[0]["generation"] == 3)
        with Eye(client) as eye, Eye(client) as another:
            for one in (eye, another):
                one.sees(lambda view: at_generation(3)(view) and view.will == {"a": 1, "b": 2})
            server.kill()
            shutil.rmtree(server.data)
            server.ctl("snapshot", "restore", str(tmp_path / "backup.db"), "--data-dir", str(server.data))
            server.start()
            eventually(lambda: (found := store.read()) is not None and found.is_same(latest))
            eventually(lambda: will.all() == {"a": 1, "b": 2})
            for one in (eye, another):
                eventually(lambda one=one: one.watch.state == "live")
            # The backup has leases, too: that of the node, with an older card.
            eventually(lambda: [card["generation"] for card in cards(client)] == [3])
            server.kill()
            shutil.rmtree(server.data)
            server.start()
            eventually(lambda: (found := store.read()) is not None and found.is_same(latest))
            eventually(lambda: will.all() == {"a": 1, "b": 2})
            eventually(lambda: client.range(f"{P}/secrets")[1])
            assert secrets.current(0.0).sticky == made.sticky
            client.put(f"{P}/config", Stored(1, "anew", "x", 0.0, "nonce", "another id").to_value())
            for one in (eye, another):
                one.sees(at_generation(1))
        nodes.leave()


def test_a_backend_that_goes_down_is_on_the_card_soon_and_one_that_flaps_now_and_then(server: EtcdServer) -> None:
    """Regression: what was up was up to 10 s old on the card."""
    client = EtcdClient([server.url], timeout_s=1)
    nodes = Nodes(client, P, Random(1), lease_s=5)
    nodes.join({"node": "one", "address": "a:80", "backends": {"up": 2, "total": 2}, "requests": 0})
    nodes.update(requests=1)
    began = monotonic()
    nodes.update(backends={"up": 1, "total": 2}, requests=2)
    eventually(lambda: cards(client)[0]["backends"] == {"up": 1, "total": 2})
    assert monotonic() - began < 4  # figures alone take 8 and more
    assert cards(client)[0]["requests"] == 2
    written = cards(client)
    for up in (2, 1, 0):
        nodes.update(backends={"up": up, "total": 2})
        gevent.sleep(SOON_S)
    assert cards(client) == written
    nodes.leave()


def test_of_three_members_the_leader_may_be_killed(tmp_path: Path) -> None:
    with etcd_of_three(tmp_path) as servers:
        client = EtcdClient([server.url for server in servers], timeout_s=2)
        store = Store(client, P, write_s=40)
        stored, _ = store.create_if_absent("first", "one")
        nodes = Nodes(client, P, Random(1), lease_s=5)
        nodes.join({"node": "one", "address": "a:80"})
        with Eye(client) as eye:
            eye.sees(at_generation(1))
            leader = next(server for server in servers if server.is_leader())
            leader.kill()
            stored = store.write("second", "one", stored)
            eye.sees(at_generation(2))
            eventually(lambda: nodes.problem is None and "one" in eye.watch.view.cards)
            leader.start()
            held = next(server for server in servers if server.is_leader())
            held.pause()
            store.write("third", "one", stored)
            eye.sees(at_generation(3))
            others = [server.url for server in servers if server is not held]
            Will(EtcdClient([held.url, *others], timeout_s=1), P).set("a", 1)
            eye.sees(lambda view: view.will == {"a": 1})
        nodes.leave()


def test_several_etcds_are_no_cluster(tmp_path: Path, server: EtcdServer) -> None:
    """Each was started alone, and all are given as endpoints: every node that comes to another one would be on its own."""
    another = EtcdServer(tmp_path)
    with Eye(EtcdClient([server.url, another.url]), look_s=0.2) as eye:
        assert eye.watch.wait_until_live(40)
        try:
            another.start()
            said = "not members of one etcd, but of 2 that know nothing of each other"
            eventually(lambda: said in (eye.watch.problem or ""))
            assert f"{said}: {server.url} and {another.url}" in (eye.watch.problem or "")
            assert eye.watch.state == "stale"
        finally:
            another.kill()


def fill(store: Store, stored: Stored) -> None:
    """Write until it is refused."""
    for _ in range(20):
        stored = store.write("x" * 1_000_000, "one", stored)


def test_an_etcd_that_is_full_is_followed_and_says_what_helps(tmp_path: Path) -> None:
    with etcd(tmp_path, "--quota-backend-bytes", str(1 << 22)) as server:
        client = EtcdClient([server.url])
        store = Store(client, P)
        stored, _ = store.create_if_absent("first", "one")
        nodes = Nodes(client, P, Random(1), lease_s=5)
        nodes.join({"node": "one", "address": "a:80"})
        with Eye(client) as eye:
            eye.sees(lambda view: "one" in view.cards)
            with pytest.raises(Unavailable, match="space exceeded; compact and defragment it, then `etcdctl alarm disarm`"):
                fill(store, stored)
            stored = store.read() or stored
            eye.sees(at_generation(stored.generation))
            nodes.update(generation=stored.generation)
            eventually(lambda: nodes.problem)
            assert "this node cannot tell its cluster that it lives: " in (nodes.problem or "")
            assert (eye.watch.state, list(eye.watch.view.cards)) == ("live", ["one"])  # its lease is renewed
            client._call("kv/compaction", {"revision": str(stored.mod_revision)}, bool)
            server.ctl("defrag")
            server.ctl("alarm", "disarm")
            eventually(lambda: nodes.problem is None)
            assert store.write("small", "one", stored).generation == stored.generation + 1
        nodes.leave()


# Accounts.


def test_an_account_that_may_only_read_follows_and_says_what_it_may_not(tmp_path: Path) -> None:
    with etcd(tmp_path) as server:
        stored, _ = Store(EtcdClient([server.url]), P).create_if_absent("first", "one")
        for command in (
            "user add root:root",
            "user grant-role root root",
            "role add reader",
            f"role grant-permission reader read --prefix=true {P}/",
            "user add reader:pa55word",
            "user grant-role reader reader",
            "auth enable",
        ):
            server.ctl(*command.split())
        root, reader = (
            EtcdClient([server.url], user=name, password=word) for name, word in (("root", "root"), ("reader", "pa55word"))
        )
        with Eye(reader, held=View(99, Stored(7, "held", "x", 0.0, "n", stored.id))) as eye:
            eventually(lambda: eye.watch.state == "live")
            assert eye.generation == 7  # which it may not put back, and serves on
            client = EtcdClient([server.url], user="reader", password="wrong")
            for action in (
                lambda: Store(reader, P).write("x", "reader", stored),
                lambda: Will(reader, P).set("a", 1),
                lambda: Secrets(reader, P).current(0.0),
                lambda: Store(client, P).read(),
            ):
                with pytest.raises(PermissionDenied) as caught:
                    action()
                assert "pa55word" not in str(caught.value)
            assert reader.cluster_of(server.url, f"{P}/config") != ""  # what `disunity` asks
            nodes = Nodes(reader, P, Random(1), lease_s=2)
            nodes.join({"node": "reader", "address": "a:80"})
            assert "this node cannot join its cluster" in (nodes.problem or "")
            nodes.leave()
            Store(root, P).restore(Stored(8, "eighth", "root", 0.0, "m", stored.id), stored)
            eye.sees(at_generation(8))
