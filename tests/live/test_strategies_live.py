"""Strategies on the wire: shares, keys that stay, sticky sessions, classes of the user's own; under every server."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.edges import GEVENT, OWN, WORKER, LiveEdge, request, start_edge
from tests.live.peers import Call, Script, answers, head, message
from tests.live.processes import ROOT, ask, free_port, running, wait_until

BUILT_IN = ["round_robin", "ewma", "least_requests", "random", "consistent_hash"]


@contextlib.contextmanager
def named(*names: str) -> Iterator[list[Script]]:
    """Backends that answer with their names."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Script(answers(body=name.encode()))) for name in names]


def who(edge: LiveEdge, headers: bytes = b"", target: bytes = b"/") -> str:
    answer = edge.ask(target, headers=headers)
    assert answer.status == 200, answer
    return answer.body.decode()


def owners(edge: LiveEdge, count: int = 40) -> dict[int, str]:
    """Who answers for each of these keys."""
    return {number: who(edge, b"X-Key: key %d\r\n" % number) for number in range(count)}


class Jar:
    """A client that keeps its cookies, as a browser does."""

    def __init__(self, edge: LiveEdge) -> None:
        self.edge = edge
        self.cookies: dict[bytes, bytes] = {b"theme": b"dark"}
        self.given: list[bytes] = []

    def ask(self, headers: bytes = b"", target: bytes = b"/") -> str:
        """Ask with the cookies that there are; who answered."""
        line = b"; ".join(b"%b=%b" % pair for pair in self.cookies.items())
        answer = self.edge.ask(target, headers=headers + b"Cookie: %b\r\n" % line)
        assert answer.status == 200, answer
        self.given = answer.all(b"set-cookie")
        for cookie in self.given:
            name, _, value = cookie.partition(b";")[0].partition(b"=")
            self.cookies[name] = value
        return answer.body.decode()


# Every strategy.


@pytest.mark.parametrize("strategy", BUILT_IN)
def test_every_strategy_serves_and_leaves_none_out(own: LiveEdge, strategy: str) -> None:
    with named("a", "b", "c") as backends:
        own.configure(*backends, strategy=strategy, hash={"by": "header:X-Key"})
        assert own.status()["strategy"] == strategy
        assert set(owners(own, 60).values()) == {"a", "b", "c"}


@pytest.mark.parametrize("strategy", ["round_robin", "least_requests", "random", "consistent_hash"])
def test_weights_are_kept(own: LiveEdge, strategy: str) -> None:
    with named("a", "b") as (a, b):
        own.configure({"url": a, "weight": 4}, b, strategy=strategy, hash={"by": "header:X-Key"})
        counts = Counter(owners(own, 250).values())
        assert counts["a"] == pytest.approx(200, abs=35)


def test_the_strategy_changes_between_two_requests(own: LiveEdge) -> None:
    with named("a", "b") as backends:
        own.configure(*backends)
        document = json.loads((own.directory / "backends.json").read_text())
        assert {who(own) for _ in range(4)} == {"a", "b"}
        own.admin("/api/reload", "POST", body=json.dumps(document | {"strategy": "consistent_hash", "hash": {"by": "path"}}))
        assert len({who(own, target=b"/same?%d" % number) for number in range(8)}) == 1


# Consistent hashing.


@pytest.mark.parametrize(
    ("by", "same", "other"),
    [
        ("header:X-Key", (b"/", b"X-Key: %d\r\n"), (b"/%d", b"X-Key: 1\r\n")),
        ("cookie:id", (b"/", b"Cookie: a=b; id=%d\r\n"), (b"/%d", b"Cookie: id=1; a=b\r\n")),
        ("path", (b"/%d", b""), (b"/same?%d", b"")),
    ],
)
def test_a_key_stays_and_keys_are_spread(own: LiveEdge, by: str, same: tuple[bytes, bytes], other: tuple[bytes, bytes]) -> None:
    """same: where the number is the key. other: where it is not."""

    def asked(template: tuple[bytes, bytes], number: int) -> str:
        target, headers = (part % number if b"%d" in part else part for part in template)
        return who(own, headers, target)

    with named("a", "b", "c") as backends:
        own.configure(*backends, strategy="consistent_hash", hash={"by": by})
        first = [asked(same, number) for number in range(30)]
        assert [asked(same, number) for number in range(30)] == first
        assert set(first) == {"a", "b", "c"}
        assert len({asked(other, number) for number in range(10)}) == 1


def test_a_client_stays_with_its_backend_by_its_address_and_behind_a_proxy_by_the_one_it_names(own: LiveEdge) -> None:
    with named("a", "b", "c") as backends:
        own.configure(*backends, strategy="consistent_hash")
        assert len({who(own, b"X-Forwarded-For: 1.1.1.%d\r\n" % number) for number in range(20)}) == 1
        own.configure(*backends, strategy="consistent_hash", trusted_proxies=["127.0.0.0/8"])
        assert {who(own, b"X-Forwarded-For: 1.1.1.%d\r\n" % number) for number in range(30)} == {"a", "b", "c"}
        assert len({who(own, b"X-Forwarded-For: 6.6.6.%d, 1.1.1.1\r\n" % number) for number in range(10)}) == 1


def test_a_backend_that_leaves_moves_only_its_own_keys(own: LiveEdge) -> None:
    with named("a", "b", "c", "d") as backends:
        members = [{"url": backend.url, "id": f"stays-{index}"} for index, backend in enumerate(backends)]
        own.configure(*members, strategy="consistent_hash", hash={"by": "header:X-Key"})
        before = owners(own)
        own.configure(*members[:3], strategy="consistent_hash", hash={"by": "header:X-Key"})
        after = owners(own)
        assert {key for key in before if before[key] != after[key]} == {key for key in before if before[key] == "d"}


def test_a_key_whose_backend_fails_is_answered_by_another_before_and_after_that_is_known(own: LiveEdge) -> None:
    with named("a", "b", "c") as backends:
        own.configure(*backends, strategy="consistent_hash", hash={"by": "header:X-Key"}, health={"interval_s": 1})
        first = who(own, b"X-Key: k\r\n")
        next(script for script, name in zip(backends, "abc", strict=True) if name == first).refuse()
        retried = who(own, b"X-Key: k\r\n")
        assert retried != first
        wait_until(lambda: "unhealthy" in {backend["health"] for backend in own.backends()}, 10, "the probes to notice")
        assert [who(own, b"X-Key: k\r\n") for _ in range(4)] == [retried] * 4


@pytest.mark.parametrize("server", [WORKER])
def test_workers_agree_on_keys_and_cookies(tmp_path: Path, server: str) -> None:
    """Both workers are asked, as the connections fall; what one of them has given, the other takes."""
    settings = {"strategy": "consistent_hash", "hash": {"by": "header:X-Key"}, "sticky": {"cookie": "SRV"}}
    with (
        named("a", "b", "c") as backends,
        start_edge(tmp_path, *backends, server=server, arguments=("-w", "2"), **settings) as edge,
    ):
        wait_until(lambda: len(edge.status()["workers"]) == 2, 10, "both workers")
        seen: dict[int, set[str]] = {}
        for _ in range(6):
            for key, owner in owners(edge, 10).items():
                seen.setdefault(key, set()).add(owner)
        assert all(len(found) == 1 for found in seen.values()), seen
        jars = [Jar(edge) for _ in range(5)]
        firsts = [jar.ask(b"X-Key: %d\r\n" % number) for number, jar in enumerate(jars)]
        for _ in range(8):
            assert [jar.ask(b"X-Key: other\r\n") for jar in jars] == firsts
            assert [jar.given for jar in jars] == [[]] * 5


def test_keys_stay_over_a_restart(tmp_path: Path) -> None:
    settings = {"strategy": "consistent_hash", "hash": {"by": "header:X-Key"}}
    found = []
    with named("a", "b", "c") as backends:
        for _ in range(2):
            with start_edge(tmp_path, *backends, **settings) as edge:
                found.append(owners(edge, 20))
    assert found[0] == found[1]


# Sticky sessions.


def test_a_client_stays_and_is_given_its_cookie_once(own: LiveEdge) -> None:
    with named("a", "b", "c") as backends:
        own.configure(*backends, sticky={"cookie": "SRV"})
        jar = Jar(own)
        first = jar.ask()
        assert [re.sub(rb"=[\w-]{43};", b"=...;", cookie) for cookie in jar.given] == [b"SRV=...; Path=/; HttpOnly; SameSite=Lax"]
        for _ in range(6):
            assert (jar.ask(), jar.given) == (first, [])
        assert {Jar(own).ask() for _ in range(6)} == {"a", "b", "c"}
        seen = b"".join(seen for backend in backends for seen in backend.requests)
        assert b"SRV" not in seen
        assert seen.count(b"Cookie: theme=dark\r\n") == 13


def test_nobody_can_choose_a_backend_by_a_cookie_that_the_edge_has_not_made(own: LiveEdge) -> None:
    with named("a", "b", "c") as backends:
        own.configure(*backends, sticky={"cookie": "SRV"}, strategy="round_robin")
        jar = Jar(own)
        jar.ask()
        right = jar.cookies[b"SRV"]
        ids = [backend["id"].encode() for backend in own.backends()]
        for forged in (*ids, b"", b"A" * 43, right[:-1], right[:16] + b"A" * 27, right + b"A", b'"%b"' % right):
            found = set()
            for _ in range(3):
                jar.cookies[b"SRV"] = forged
                found.add(jar.ask())
                assert len(jar.given) == 1
            assert found == {"a", "b", "c"}


def test_when_its_backend_is_gone_the_client_moves_and_stays_there(own: LiveEdge) -> None:
    with named("a", "b", "c") as backends:
        own.configure(*backends, sticky={"cookie": "SRV"})
        jar = Jar(own)
        first = jar.ask()
        next(script for script, name in zip(backends, "abc", strict=True) if name == first).refuse()
        second = jar.ask()
        assert second != first
        assert len(jar.given) == 1
        assert [jar.ask() for _ in range(4)] == [second] * 4


def test_a_backend_that_drains_keeps_its_sessions_and_gets_no_new_ones(own: LiveEdge) -> None:
    with named("a", "b") as backends:
        own.configure(*backends, sticky={"cookie": "SRV"})
        jar = next(jar for jar in (Jar(own) for _ in range(4)) if jar.ask() == "a")
        drained = own.backends()[0]["id"]
        assert own.admin(f"/smartedge/backends/{drained}/drain", "POST").status == 200
        assert {Jar(own).ask() for _ in range(6)} == {"b"}
        assert [(jar.ask(), jar.given) for _ in range(3)] == [("a", [])] * 3
        assert own.admin(f"/smartedge/backends/{drained}/disable", "POST").status == 200
        assert jar.ask() == "b"


def test_a_session_is_not_hedged_away_from_a_slow_backend(own: LiveEdge) -> None:
    def late(call: Call) -> None:
        while call.request():
            call.pause(1.3)
            call.send(message(body=b"a"))

    with Script(late) as a, Script(answers(body=b"b")) as b:
        members = [{"url": a, "id": "slow-one"}, {"url": b, "id": "quick-one"}]
        own.configure(*members, sticky={"cookie": "SRV"})
        jar = next(jar for jar in (Jar(own) for _ in range(4)) if jar.ask() == "a")
        own.configure(*members, sticky={"cookie": "SRV"}, retry={"hedge": True})
        assert [(jar.ask(), jar.given) for _ in range(2)] == [("a", [])] * 2
        quick = next(jar for jar in (Jar(own) for _ in range(4)) if jar.ask() == "b")

        def first_requests_are() -> bool:
            """Keep the slowest twentieth quick, so that a hedge is due long before the slow one has answered."""
            assert {quick.ask() for _ in range(60)} == {"b"}
            return {Jar(own).ask() for _ in range(4)} == {"b"}

        wait_until(first_requests_are, 30, "first requests to be hedged: their sessions have no backend yet")


def test_a_client_of_https_gets_a_cookie_for_https(own: LiveEdge) -> None:
    with named("a") as backends:
        own.configure(*backends, sticky={"cookie": "SRV", "max_age_s": 60}, trusted_proxies=["127.0.0.0/8"])
        jar = Jar(own)
        jar.ask(b"X-Forwarded-Proto: https\r\n")
        assert jar.given[0].endswith(b"; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure")


def test_a_websocket_goes_to_the_sessions_backend_and_is_given_a_cookie_if_it_has_none(own: LiveEdge) -> None:
    switches = head(101, [("Connection", "Upgrade"), ("Upgrade", "chat/1")])

    def chats(name: bytes) -> Script:
        def act(call: Call) -> None:
            if call.request():
                call.send(switches + name)

        return Script(act)

    def open_chat(cookie: bytes = b"") -> tuple[bytes, list[bytes]]:
        with own.client() as client:
            line = b"Cookie: SRV=%b\r\n" % cookie if cookie else b""
            client.send(request(headers=b"Connection: Upgrade\r\nUpgrade: chat/1\r\n" + line))
            answer = client.answer()
            assert answer.status == 101
            return client.stream.exactly(1), answer.all(b"set-cookie")

    with chats(b"a") as a, chats(b"b") as b:
        own.configure(a, b, sticky={"cookie": "SRV"})
        first, given = open_chat()
        assert len(given) == 1
        cookie = given[0].partition(b"=")[2].partition(b";")[0]
        assert [open_chat(cookie) for _ in range(4)] == [(first, [])] * 4


def test_a_secret_of_the_operators_outlives_the_edge_and_a_random_one_does_not(tmp_path: Path) -> None:
    cookies: list[bytes] = []
    with named("a") as backends:
        for secret in ("the operator's secret", "the operator's secret", "", ""):
            env = {"SMARTEDGE_STICKY_SECRET": secret}
            with start_edge(tmp_path, *backends, env=env, sticky={"cookie": "SRV"}) as edge:
                jar = Jar(edge)
                jar.ask()
                cookies.append(jar.cookies[b"SRV"])
    assert cookies[0] == cookies[1]
    assert len(set(cookies)) == 3


# A class of the user's own.


def own_class(directory: Path, body: str, name: str) -> str:
    """Put a module with one class beside backends.json; what the configuration calls it."""
    indented = "".join(f"        {line}\n" for line in body.splitlines())
    (directory / f"{name}.py").write_text(f"class Own:\n    def pick(self, candidates, now, rng, key):\n{indented}")
    return f"{name}:Own"


def fallbacks(edge: LiveEdge) -> float:
    pattern = r'^smartedge_strategy_fallbacks_total\{service="default"\} (\S+)$'
    return float(re.findall(pattern, edge.admin("/metrics").text, re.MULTILINE)[0])


def test_the_example_of_the_documentation_works_as_it_stands(own: LiveEdge) -> None:
    page = (ROOT / "docs" / "strategies.md").read_text()
    code = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    (own.directory / "routing.py").write_text(code)
    with named("a", "b", "c") as (a, b, c):
        members = [{"url": one, "labels": labels} for one, labels in ((a, {"price": "2"}), (b, {"price": "0.12"}), (c, {}))]
        own.configure(*members, strategy="routing:Cheapest")
        assert [who(own) for _ in range(5)] == ["b"] * 5
        assert own.backends()[1]["labels"] == {"price": "0.12"}
        assert fallbacks(own) == 0


def test_one_that_fails_harms_no_request_and_is_counted_and_logged(tmp_path: Path) -> None:
    strategy = own_class(tmp_path, "if key == b'/bad':\n    raise KeyError('price')\nreturn candidates[0]", "own_failing")
    with named("a", "b") as backends, start_edge(tmp_path, *backends, strategy=strategy, hash={"by": "path"}) as edge:
        assert [who(edge, target=b"/good") for _ in range(4)] == ["a"] * 4
        assert {who(edge, target=b"/bad") for _ in range(4)} == {"a", "b"}
        wait_until(lambda: fallbacks(edge) == 4, 5, "the fallbacks to be counted")
        edge.process.wait_for(rf"strategy failed: {strategy}: pick raised KeyError at .*own_failing.py:4: 'price'")
        edge.settled()


def test_one_that_is_slow_is_left_alone_after_its_third_pick(tmp_path: Path) -> None:
    strategy = own_class(tmp_path, "import time\ntime.sleep(0.03)\nreturn candidates[0]", "own_slow")
    with named("a", "b") as backends, start_edge(tmp_path, *backends, strategy=strategy) as edge:
        assert [who(edge) for _ in range(3)] == ["a"] * 3
        assert [who(edge) for _ in range(4)] == ["a", "b", "a", "b"]
        wait_until(lambda: fallbacks(edge) == 4, 5, "the fallbacks to be counted")
        edge.process.wait_for("strategy failed: own_slow:Own: pick took .* it is left alone for 30 s")


@pytest.mark.parametrize("server", [OWN, GEVENT])
def test_one_that_cannot_be_imported_refuses_the_start_with_one_clear_line(tmp_path: Path, server: str) -> None:
    (tmp_path / "own_needy.py").write_text("import not_installed_at_all\n")
    (tmp_path / "backends.json").write_text('{"backends": ["http://localhost:1"], "strategy": "own_needy:Own"}')
    import sys

    command = [sys.executable, "-m", "smartedge", "run", "--bind", f"127.0.0.1:{free_port()}"]
    if server != OWN:
        kind = "gevent" if server == GEVENT else "smartedge.worker.EdgeWorker"
        command = [sys.executable, "-m", "gunicorn", "-k", kind, "-b", f"127.0.0.1:{free_port()}", "smartedge:create_app()"]
    environment = {"PYTHONPATH": str(ROOT), "SMARTEDGE_STATE_DIR": str(tmp_path / "state")}
    with running(command, r"own_needy", cwd=tmp_path, env=environment) as process:
        assert process.wait(15) != 0
        assert (
            "\"own_needy:Own\" cannot be imported: ModuleNotFoundError: No module named 'not_installed_at_all'" in process.output
        )
        assert "own_needy.py line 1" in process.output


def test_a_reload_that_names_a_broken_one_changes_nothing(own: LiveEdge) -> None:
    with named("a", "b") as backends:
        own.configure(*backends)
        document = json.loads((own.directory / "backends.json").read_text())
        before = own.status()["strategy"]
        answer = ask(f"{own.url}/api/reload", "POST", body=json.dumps(document | {"strategy": "own_absent:Own"}))
        assert answer.status == 422
        assert "own_absent" in answer.text
        assert own.status()["strategy"] == before
        assert {who(own) for _ in range(10)} == {"a", "b"}
