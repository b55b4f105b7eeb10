"""https:// backends: whom the edge trusts, what it shows, what clients hear when it does not work out."""

from __future__ import annotations

import json
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from tests.live.edges import LiveEdge, request
from tests.live.peers import CERTS, Call, Script, answers, closes_idle, counts, echo, message, says, tls_server
from tests.live.processes import wait_until
from tests.live.tunnels import ASKS, SWITCHES, connected, converse, echoes, switching, websocket_echo

CA = str(CERTS / "ca.pem")
OWN_CERTIFICATE = str(CERTS / "localhost.pem")


def https(backend: Script, host: str = "localhost", **tls: Any) -> dict[str, Any]:
    return {"url": f"https://{host}:{backend.port}", "tls": {"ca_file": CA, **tls}}


def health(edge: LiveEdge) -> str:
    state: str = edge.backends()[0]["health"]
    return state


def test_a_backend_with_a_certificate_of_our_authority_is_served_from(own: LiveEdge) -> None:
    with Script(echo(), tls=tls_server()) as backend, own.client() as client:
        own.configure(https(backend))
        assert health(own) == "healthy"
        for body in (b"", b"z" * 1_000_000):
            client.send(request(method=b"POST", body=body))
            assert client.answer(b"POST").body.endswith(b"\r\n\r\n" + body)


def test_connections_are_used_again(own: LiveEdge) -> None:
    with Script(counts(), tls=tls_server()) as backend, own.client() as client:
        own.configure(https(backend))
        told = []
        for _ in range(5):
            client.send(request())
            told.append(json.loads(client.answer().body))
        assert [(each["connection"], each["request"]) for each in told] == [(1, number) for number in range(1, 6)]


def test_a_connection_that_went_stale_costs_nobody_a_request(own: LiveEdge) -> None:
    with Script(closes_idle(at_once=True), tls=tls_server()) as backend, own.client() as client:
        own.configure(https(backend))
        for method in (b"GET", b"POST", b"GET", b"POST"):
            client.send(request(method=method))
            assert client.answer(method).status == 200
            wait_until(lambda: backend.open_connections == 0, 5, "the backend to have closed")


def test_an_answer_behind_the_answer_goes_to_nobody(own: LiveEdge) -> None:
    """It comes in a TLS record of its own, so the reader of the first need not have seen it."""

    def lies(call: Call) -> None:
        while call.request():
            call.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)  # both at once: it must not come after the next request
            call.send(message(body=b"mine"))
            call.send(message(body=b"not yours"))
            call.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

    with Script(lies, tls=tls_server()) as backend, own.client() as client:
        own.configure(https(backend))
        for _ in range(20):
            client.send(request())
            assert client.answer().body == b"mine"


@pytest.mark.parametrize(
    ("host", "tls"),
    [
        ("127.0.0.1", {}),
        ("127.0.0.1", {"server_name": "backend.test"}),
        ("127.0.0.1", {"server_name": "wrong.test", "verify": False}),
        ("localhost", {"verify": False, "ca_file": None}),
    ],
    ids=["address", "server_name", "unchecked name", "unchecked authority"],
)
def test_names_and_authorities_that_are_accepted(own: LiveEdge, host: str, tls: dict[str, Any]) -> None:
    with Script(answers(), tls=tls_server()) as backend:
        own.configure(https(backend, host, **tls))
        assert own.ask().status == 200
        assert health(own) == "healthy"


@pytest.mark.parametrize(
    ("tls", "reason"),
    [({"ca_file": None}, "unable to get local issuer certificate"), ({"server_name": "wrong.test"}, "wrong.test")],
    ids=["unknown authority", "another name"],
)
def test_a_certificate_that_is_not_trusted_gets_no_request_and_is_unhealthy(
    own: LiveEdge, tls: dict[str, Any], reason: str
) -> None:
    with Script(answers(), tls=tls_server()) as backend:
        own.configure(https(backend, **tls), wait=False)
        assert problem_of(own)["status"] == 503
        wait_until(lambda: health(own) == "unhealthy", 5, "the probes to fail")
        assert reason in own.backends()[0]["last_check"]["detail"]
        assert problem_of(own)["status"] == 503
        assert backend.requests == []


def test_a_certificate_that_goes_wrong_between_two_probes_is_named_to_the_client(own: LiveEdge) -> None:
    with Script(answers(), tls=tls_server()) as backend:
        own.configure(https(backend), health={"interval_s": 60})
        assert health(own) == "healthy"
        unfit = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        unfit.load_cert_chain(CERTS / "localhost.pem")
        unfit.maximum_version = ssl.TLSVersion.TLSv1_2
        unfit.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")  # which a key on a curve can't serve
        backend.tls = unfit
        problem = problem_of(own)
        assert problem["status"] == 503  # not sent, and there is no other: as when it can't be connected to
        assert f"TLS with https://localhost:{backend.port} failed" in problem["detail"]


def problem_of(edge: LiveEdge) -> dict[str, Any]:
    answer = edge.ask()
    assert answer.get(b"content-type") == b"application/problem+json"
    problem: dict[str, Any] = json.loads(answer.body)
    assert problem["status"] == answer.status
    return problem


def test_a_certificate_of_ours_is_shown_to_a_backend_that_asks(own: LiveEdge) -> None:
    with Script(answers(), tls=tls_server(ask_for_client_certificate=True)) as backend:
        own.configure(https(backend, cert_file=OWN_CERTIFICATE))
        assert own.ask().status == 200
        own.configure(https(backend), wait=False)
        problem = problem_of(own)
        # With TLS 1.3 it says so only after it was sent the request, and its reset may be quicker than what it says.
        assert problem["status"] in (502, 503)
        assert "certificate" in problem["detail"].lower() or "reset" in problem["detail"]
        wait_until(lambda: health(own) == "unhealthy", 5, "the probes to fail")


def test_a_backend_that_speaks_plain_http_is_a_bad_gateway(own: LiveEdge) -> None:
    with Script(says(message())) as backend:
        own.configure(https(backend), wait=False)
        assert problem_of(own)["status"] == 503
        wait_until(lambda: health(own) == "unhealthy", 5, "the probes to fail")


def test_a_backend_that_never_shakes_hands_times_out(own: LiveEdge) -> None:
    with Script(lambda call: call.stall(), health=None) as backend:
        own.configure(https(backend), wait=False, timeouts={"connect_s": 0.5}, health={"timeout_s": 5})
        problem = problem_of(own)
        assert problem["status"] == 503
        assert "TLS with" in problem["detail"]


def test_an_answer_that_is_cut_is_never_ended_cleanly(own: LiveEdge) -> None:
    def cuts(call: Call) -> None:
        call.request()
        call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    with Script(cuts, tls=tls_server()) as backend:
        own.configure(https(backend))
        raw = own.raw(request(headers=b"Connection: close\r\n"))
        assert raw.endswith(b"half")
        assert own.log(path="/")["error"].startswith("The backend closed")


def test_tunnels_go_to_backends_over_tls(own: LiveEdge) -> None:
    with Script(websocket_echo, tls=tls_server()) as backend, own.client() as client:
        own.configure(https(backend))
        converse(connected(client.sock))
    with Script(switching(echoes, SWITCHES + b"hi "), tls=tls_server()) as backend, own.client() as client:
        own.configure(https(backend))
        client.send(request(headers=ASKS) + b"early")
        assert client.answer().status == 101
        assert client.stream.exactly(8) == b"hi early"


def test_a_replaced_authority_is_trusted_without_a_reload(own: LiveEdge, tmp_path: Path) -> None:
    """Probes used the new one, and all traffic was 503 until a restart."""
    ca = tmp_path / "ca.pem"
    ca.write_bytes(Path(OWN_CERTIFICATE).read_bytes())
    with Script(answers(), tls=tls_server()) as backend:
        own.configure(https(backend, ca_file=str(ca)), wait=False)
        wait_until(lambda: health(own) == "unhealthy", 5, "the probes to fail")
        fresh = tmp_path / "fresh.pem"
        fresh.write_bytes(Path(CA).read_bytes())
        fresh.rename(ca)
        wait_until(lambda: health(own) == "healthy", 10, "the new authority to be used")
        assert own.ask().status == 200
