"""Reloads under way: nothing is dropped, the removed drain, what is unchanged goes on, what is wrong changes nothing."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

from tests.live.edges import LiveEdge, document_of, first_piece, request, start_edge
from tests.live.peers import Call, Script, answers
from tests.live.processes import wait_until

REQUESTS = 10_000
RELOADS = 100


def file_of(edge: LiveEdge) -> Path:
    return edge.directory / "backends.json"


def test_ten_thousand_requests_across_a_hundred_reloads_and_not_one_fails(own: LiveEdge) -> None:
    with Script(answers(body=b"a")) as one, Script(answers(body=b"b")) as two, Script(answers(body=b"c")) as three:
        configurations = [
            document_of(own.directory, one, two),
            document_of(own.directory, two, three, strategy="ewma"),
            document_of(own.directory, {"url": three, "weight": 3}, {"url": one}),
        ]
        own.configure(one, two)
        left = [REQUESTS]
        wrong: list[bytes] = []
        lock = threading.Lock()

        def client() -> None:
            with own.client() as connection:
                while True:
                    with lock:
                        if left[0] <= 0:
                            return
                        left[0] -= 1
                    connection.send(request())
                    answer = connection.answer()
                    if answer.status != 200 or answer.body not in (b"a", b"b", b"c"):
                        wrong.append(answer.raw)

        clients = [threading.Thread(target=client) for _ in range(6)]
        for thread in clients:
            thread.start()
        reloads = 0
        while reloads < RELOADS or any(thread.is_alive() for thread in clients):
            document = json.dumps(configurations[reloads % 3])
            assert own.admin("/api/reload", "POST", body=document).status == 200
            reloads += 1
            # Spread over the whole run: the next reload after another hundredth of the requests.
            wait_until(lambda: REQUESTS - left[0] >= min(reloads, RELOADS) * REQUESTS // RELOADS, 60)  # noqa: B023
        for thread in clients:
            thread.join(30)
        assert not any(thread.is_alive() for thread in clients)
        assert (left[0], wrong) == (0, [])
        assert reloads >= RELOADS


def test_a_request_in_flight_ends_on_the_backend_that_it_has(own: LiveEdge) -> None:
    go_on = threading.Event()

    def act(call: Call) -> None:
        call.request()
        call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        go_on.wait(5)
        call.send(b"last.")

    with Script(act) as old, Script(answers(body=b"new")) as new, own.client() as client:
        own.configure(old)
        client.send(request())
        first_piece(client, b"first")
        own.configure(new)
        assert [own.ask().body for _ in range(5)] == [b"new"] * 5
        go_on.set()
        assert client.answer().body == b"firstlast."
        wait_until(lambda: old.open_connections == 0, 5, "the removed backend's connections to be closed")


def test_an_unchanged_backend_keeps_its_health_its_counts_and_its_connections(own: LiveEdge) -> None:
    settled = {"health": {"interval_s": 60}, "strategy": "round_robin"}
    with Script(answers()) as stays, Script(answers()) as goes, Script(answers()) as comes:
        own.configure({"id": "stays", "url": stays}, {"id": "goes", "url": goes}, **settled)
        for _ in range(10):
            own.ask()
        before = own.backends()[0]
        assert before["requests"] == 5
        own.configure({"id": "stays", "url": stays}, {"id": "comes", "url": comes}, **settled, wait=False)
        after = own.backends()[0]
        assert {key: after[key] for key in ("health", "requests", "connections", "last_check")}.keys() <= before.keys()
        assert (after["health"], after["requests"], after["connections"]) == ("healthy", 5, 1)
        assert after["ewma_s"] > 0
        own.wait_probed()
        for _ in range(4):
            own.ask()
        assert [b["requests"] for b in own.backends()] == [7, 2]
        assert stays.connections == 1


def test_a_reload_answers_what_has_changed(own: LiveEdge) -> None:
    with Script() as one, Script() as two, Script() as three:
        own.configure({"id": "a", "url": one}, {"id": "b", "url": two})
        generation = own.status()["generation"]
        document = document_of(own.directory, {"id": "a", "url": one, "weight": 2}, {"id": "c", "url": three})
        told = own.admin("/api/reload", "POST", body=json.dumps(document)).json()
        assert told["generation"] == generation + 1
        assert [told[key] for key in ("changed", "added", "removed", "changed_backends")] == [True, ["c"], ["b"], ["a"]]


def test_an_unchanged_configuration_is_a_no_op_that_says_so(own: LiveEdge) -> None:
    with Script() as backend:
        own.configure(backend)
        before = own.status()
        lines = own.process.output.count("🔄 Backends atualizados via /api/reload")
        told = own.admin("/api/reload", "POST").json()
        assert told["changed"] is False
        assert own.status()["generation"] == before["generation"] == told["generation"]
        assert own.process.output.count("🔄 Backends atualizados via /api/reload") == lines


def test_a_reload_without_a_body_reads_the_file_again_and_says_so(own: LiveEdge) -> None:
    with Script(answers(body=b"old")) as old, Script(answers(body=b"new")) as new:
        own.configure(old)
        assert own.ask().body == b"old"
        lines = own.process.output.count("🔄 Backends atualizados via /api/reload")
        file_of(own).write_text(json.dumps(document_of(own.directory, new)))
        assert own.admin("/api/reload", "POST").status == 200
        wait_until(lambda: own.ask().body == b"new", 2, "the new backend to serve")
        wait_until(lambda: own.process.output.count("🔄 Backends atualizados via /api/reload") == lines + 1, 5, "the line")


def test_a_body_is_persisted_with_the_files_mode(own: LiveEdge) -> None:
    with Script() as one, Script() as two:
        own.configure(one)
        file_of(own).chmod(0o640)
        document = document_of(own.directory, two)
        assert own.admin("/api/reload", "POST", body=json.dumps(document)).status == 200
        assert json.loads(file_of(own).read_text()) == document
        assert file_of(own).stat().st_mode & 0o777 == 0o640
        assert [path.name for path in own.directory.iterdir() if "backends" in path.name and path.suffix != ".history"] == [
            "backends.json"
        ]


def test_what_is_invalid_names_all_errors_and_changes_nothing(own: LiveEdge) -> None:
    with Script(answers(body=b"old")) as old:
        own.configure(old)
        before, kept = own.status(), file_of(own).read_bytes()
        wrong = {"backends": [old.url, {"url": "ftp://x", "wieght": 2}, "http://u:secret@h/"], "strategy": "best", "colour": 1}
        answer = own.admin("/api/reload", "POST", body=json.dumps(wrong))
        assert answer.status == 422
        assert answer.header("content-type") == "application/problem+json"
        paths = {error["path"] for error in answer.json()["errors"]}
        assert paths >= {"backends[1].url", "backends[1].wieght", "backends[2]", "strategy", "colour"}
        assert "secret" not in answer.text
        assert own.admin("/api/reload", "POST", body="{").status == 400
        assert file_of(own).read_bytes() == kept
        assert own.status()["generation"] == before["generation"]
        assert own.ask().body == b"old"


def test_a_broken_file_is_refused_and_the_last_good_configuration_stays(own: LiveEdge) -> None:
    with Script(answers(body=b"old")) as old:
        own.configure(old)
        kept = file_of(own).read_bytes()
        file_of(own).write_text('{"backends": [')
        try:
            assert own.admin("/api/reload", "POST").status in (400, 422)
            assert own.ask().body == b"old"
        finally:
            file_of(own).write_bytes(kept)


def test_a_reload_changes_strategy_weights_timeouts_and_limits(own: LiveEdge) -> None:
    with Script(answers(body=b"a")) as one, Script(answers(body=b"b")) as two:
        own.configure({"id": "one", "url": one}, {"id": "two", "url": two})
        assert b"".join(own.ask().body for _ in range(4)) in b"ababab"
        own.configure(
            {"id": "one", "url": one, "weight": 3}, {"id": "two", "url": two}, limits={"target_bytes": 1024}, strategy="ewma"
        )
        assert own.status()["strategy"] == "ewma"
        assert own.ask(b"/" + b"x" * 2000).status == 414


def test_sighup_reads_the_file_again(tmp_path: Path) -> None:
    with Script(answers(body=b"old")) as old, Script(answers(body=b"new")) as new, start_edge(tmp_path, old) as edge:
        assert edge.ask().body == b"old"
        file_of(edge).write_text(json.dumps(document_of(tmp_path, new)))
        os.kill(edge.worker_pid(), signal.SIGHUP)
        edge.process.wait_for("🔄 Backends atualizados via /api/reload")
        wait_until(lambda: edge.ask().body == b"new", 2, "the new backend to serve")
        file_of(edge).write_text("{")
        os.kill(edge.worker_pid(), signal.SIGHUP)
        edge.process.wait_for("reload refused, nothing changed")
        assert edge.ask().body == b"new"


def test_persisted_backends_are_there_after_a_restart(tmp_path: Path) -> None:
    with Script(answers(body=b"old")) as old, Script(answers(body=b"new")) as new:
        with start_edge(tmp_path, old) as edge:
            edge.configure(new)
        with start_edge(tmp_path) as edge:
            assert edge.ask().body == b"new"


def test_if_match_keeps_two_editors_apart(own: LiveEdge) -> None:
    with Script() as one, Script() as two, Script() as three:
        own.configure(one)
        etag = own.admin("/api/status").header("etag")
        assert etag
        first, second = (json.dumps(document_of(own.directory, backend)) for backend in (two, three))
        assert own.admin("/api/reload", "POST", body=first, headers={"If-Match": etag}).status == 200
        assert own.admin("/api/reload", "POST", body=second, headers={"If-Match": etag}).status == 412
        assert own.backends()[0]["url"] == two.url


def test_removed_backends_make_room_for_others(own: LiveEdge) -> None:
    """The board has 1,024 rows: without letting go, an edge that is reloaded often enough would refuse the next backend."""

    def reloaded(name: str) -> bool:
        members = [{"id": f"{name}-{i}", "url": f"http://127.1.{i // 200}.{i % 200}:1"} for i in range(400)]
        document = document_of(own.directory, health={"interval_s": 60})
        return own.admin("/api/reload", "POST", body=json.dumps({**document, "backends": members})).status == 200

    with Script() as backend:
        for name in ("first", "second", "third"):
            wait_until(lambda: reloaded(name), 10, f"room for the {name} four hundred")  # noqa: B023
        own.configure(backend)
