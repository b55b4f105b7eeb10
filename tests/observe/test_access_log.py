from __future__ import annotations

import json
import os
from pathlib import Path
from random import Random
from typing import Any

import gevent
import pytest

from smartedge.app import create_app
from smartedge.balancer.errors import ClientError, ConnectFailed
from smartedge.config.model import parse
from smartedge.observe.access_log import MOST_TOGETHER, AccessLog, LineOutput, LogStyle
from smartedge.observe.log_writer import LOST
from smartedge.observe.rotation import Rotation
from smartedge.proxy.exchange import Exchange
from tests.fakes import FakeAnswer, local_client
from tests.house import House, request, served
from tests.live.peers import Script, answers


@pytest.mark.parametrize(
    ("trusted", "client"),
    [
        ([], "127.0.0.1"),
        (["127.0.0.0/8"], "192.0.2.7"),
        (["127.0.0.0/8", "192.0.2.0/24"], "203.0.113.9"),
        (["10.0.0.0/8"], "127.0.0.1"),
    ],
)
def test_access_log_and_explanation_name_the_client_and_not_the_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: list[str], client: str
) -> None:
    """Behind a trusted proxy every line said that the proxy was the client."""
    monkeypatch.setenv("SMARTEDGE_STATE_DIR", str(tmp_path / "state"))
    log = tmp_path / "access.log"
    settings: dict[str, Any] = {"trusted_proxies": trusted, "access_log": str(log), "explain": {"sample_ratio": 1}}
    with Script(answers()) as backend:
        app = create_app(parse(json.dumps({"backends": [backend.url], **settings})))
        asking = local_client(app)
        chain = {"X-Forwarded-For": "203.0.113.9, 192.0.2.7", "X-Request-Id": "r-1"}
        assert asking.get("/", headers=chain, buffered=True).status_code == 200
        assert asking.get("/smartedge/decisions/r-1").get_json()["client"] == client
        assert asking.get("/api/status", headers=chain).status_code == 403
        assert app.edge.access_log.flush(5)
        assert [json.loads(line)["client"] for line in log.read_text().splitlines()] == [client, "127.0.0.1", client]
        app.edge.stop()


def test_the_trace_of_a_request_is_in_its_log_line_its_decision_and_its_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMARTEDGE_STATE_DIR", str(tmp_path / "state"))
    log = tmp_path / "access.log"
    settings: dict[str, Any] = {"access_log": str(log), "explain": {"sample_ratio": 1}, "retry": {"wait_s": 0}}
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    traced = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01", "tracestate": "a=1,b=2"}
    with Script(answers()) as backend:
        app = create_app(parse(json.dumps({"backends": [backend.url], **settings})))
        asking = local_client(app)
        assert asking.get("/", headers=traced | {"X-Request-Id": "r-1"}, buffered=True).status_code == 200
        assert asking.get("/", headers={"X-Request-Id": "r-2"}, buffered=True).status_code == 200
        sent = backend.requests[0].lower()
        for line in traced.items():  # nobody traces here, so both go on as they are
            assert "{}: {}\r\n".format(*line).encode() in sent
        assert asking.get("/smartedge/decisions/r-1").get_json()["trace_id"] == trace_id
        assert asking.get("/smartedge/decisions/r-2").get_json()["trace_id"] is None
        backend_id = app.edge.pool.backends[0].id
        assert asking.post(f"/smartedge/backends/{backend_id}/disable").status_code == 200
        assert asking.get("/", headers=traced, buffered=True).get_json()["trace_id"] == trace_id
        assert "trace_id" not in asking.get("/", buffered=True).get_json()
        assert app.edge.access_log.flush(5)
        found = [(line["trace_id"], line["status"]) for line in lines(log) if line["path"] == "/"]
        assert found == [(trace_id, 200), (None, 200), (trace_id, 503), (None, 503)]
        app.edge.stop()


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_file_that_was_moved_away_is_followed_by_a_new_one(tmp_path: Path) -> None:
    """Regression: after logrotate the old file went on growing."""
    path = tmp_path / "access.log"
    log = LineOutput(str(path))
    log.write('{"request_id": "a"}\n')
    log.write('{"request_id": "b"}\n')
    assert log.flush(5)
    path.rename(tmp_path / "access.log.1")
    log.reopen()
    assert log.flush(5)
    log.write('{"request_id": "c"}\n')
    assert log.flush(5)
    log.close()
    assert [line["request_id"] for line in lines(tmp_path / "access.log.1")] == ["a", "b"]
    assert [line["request_id"] for line in lines(path)] == ["c"]


def test_true_means_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    log = LineOutput(True)
    log.write('{"request_id": "a"}\n')
    log.reopen()
    log.close()
    assert json.loads(capsys.readouterr().out)["request_id"] == "a"


def test_a_file_that_cannot_be_opened_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        LineOutput(str(tmp_path / "missing" / "access.log"))


class Log:
    """An access log that writes into a list."""

    def __init__(self, **style: Any) -> None:
        self.written: list[str] = []
        self.log = AccessLog(rng=Random(7))
        self.log.write_to(self, LogStyle(**style))  # type: ignore[arg-type]

    def write(self, lines: str) -> None:
        self.written.append(lines)

    def close(self) -> None:
        """Nothing to close."""

    def paths(self) -> list[str]:
        self.log.flush(0)
        return [json.loads(line)["path"] for line in "".join(self.written).splitlines()]

    def flush(self, _wait_s: float) -> bool:
        return True


def ended(*answers: object, target: bytes = b"/", **more: Any) -> Exchange:
    """An exchange that has ended, with these answers of its backends."""
    house = House(*[[answer] for answer in answers], **more)
    exchange = house.ask(target=target)
    served(exchange)
    return exchange


def test_what_ends_in_one_round_of_the_loop_goes_out_in_one_write() -> None:
    log = Log()
    for _ in range(3):
        log.log.write_exchange(ended(FakeAnswer(200, b"ok")))
    log.log.write_refused("r", b"127.0.0.1", ClientError("no"))
    log.log.write_admin(request(target=b"/health"), "r", 200)
    assert log.written == []
    gevent.sleep(0)
    assert [text.count("\n") for text in log.written] == [5]
    gevent.sleep(0)
    assert len(log.written) == 1


def test_so_many_requests_of_one_round_are_written_down_before_its_end() -> None:
    log = Log()
    exchange = ended(FakeAnswer(200, b"ok"))
    for _ in range(MOST_TOGETHER + 1):
        log.log.write_exchange(exchange)
    assert [text.count("\n") for text in log.written] == [MOST_TOGETHER]
    gevent.sleep(0)
    assert [text.count("\n") for text in log.written] == [MOST_TOGETHER, 1]


def test_no_request_fails_by_its_line(caplog: pytest.LogCaptureFixture) -> None:
    log, lost = Log(), LOST.total
    broken, whole = ended(FakeAnswer(200, b"ok")), ended(FakeAnswer(200, b"ok"), target=b"/whole")
    broken.duration_s = float("nan")  # which no format can write as a number of milliseconds
    log.log.write_exchange(broken)
    log.log.write_exchange(whole)
    assert log.paths() == ["/whole"]
    assert LOST.total == lost + 1
    assert "could not be written" in caplog.text


def test_of_usual_requests_a_share_is_written_and_of_the_others_all() -> None:
    none = Log(sample_ratio=0.0, slow_s=10.0)
    retried = (ConnectFailed("refused"), FakeAnswer(200, b"ok"))
    told = {
        b"/usual": [ended(FakeAnswer(200, b"ok"), target=b"/usual")],
        b"/error": [ended(FakeAnswer(404, b"no"), target=b"/error")],
        b"/retried": [ended(*retried, target=b"/retried")],
        b"/none": [ended(target=b"/none")],
    }
    (slow,) = told[b"/slow"] = [ended(FakeAnswer(200, b"ok"), target=b"/slow")]
    slow.duration_s = 10.0
    for exchange in (exchange for several in told.values() for exchange in several):
        none.log.write_exchange(exchange)
    none.log.write_refused("r", b"127.0.0.1", ClientError("no"))
    assert none.paths() == ["/error", "/retried", "/none", "/slow", None]

    some = Log(sample_ratio=0.25)
    for _ in range(1000):
        some.log.write_exchange(told[b"/usual"][0])
    assert 180 < len(some.paths()) < 320


def test_another_style_holds_for_the_lines_after_it() -> None:
    log = Log()
    exchange = ended(FakeAnswer(200, b"ok"))
    log.log.write_exchange(exchange)
    log.log.write_to(log, LogStyle("logfmt"))  # type: ignore[arg-type]
    log.log.write_exchange(exchange)
    log.log.flush(0)
    assert [text[:6] for text in log.written] == ['{"time', "time=2"]


def test_what_nobody_has_asked_for_goes_nowhere() -> None:
    log = AccessLog()
    log.write_refused("r", b"127.0.0.1", ClientError("no"))
    assert log.flush(0)
    log.close()


def test_a_file_that_cannot_be_moved_aside_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "access.log"
    path.write_text("old\n")
    log = LineOutput(str(path), Rotation(1, None, 3, compress=False))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "rename", refuse)
    log.write("new\n")
    assert log.flush(5)
    assert log.trouble() == "the access log cannot be moved aside, and goes on growing: Permission denied"
    assert log.trouble() is None
    assert path.read_text() == "old\nnew\n"
    log.close()
