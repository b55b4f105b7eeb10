"""The listener without TLS: where it sends clients, and what it answers an authority."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smartedge.acme.storage import Storage
from smartedge.config.model import parse
from smartedge.edge.request_ids import RequestIds
from smartedge.http.environ_keys import REQUEST
from smartedge.process.http_door import HttpApp
from tests.house import request


class SmallEdge:
    """As much of an edge as this app asks for."""

    def __init__(self, **settings: Any) -> None:
        self.config = parse(json.dumps({"backends": ["http://a"], "bind": "0.0.0.0:443", **settings}))
        self.ids = RequestIds()
        self.listeners: list[tuple[str, int]] = []


def ask(target: bytes, host: bytes | None = b"shop.example", **settings: Any) -> tuple[str, dict[str, str], bytes]:
    block = b"" if host is None else b"Host: %b\r\n" % host
    answers: list[Any] = []
    environ = {REQUEST: request(target=target, block=block)}
    body = HttpApp(SmallEdge(**settings))(environ, lambda *said: answers.append(said))
    status, fields = answers[0]
    return status, dict(fields), b"".join(body)


@pytest.mark.parametrize(
    ("target", "host", "expected"),
    [
        (b"/", b"shop.example", "https://shop.example/"),
        (b"/a//b?c=%20&d", b"shop.example:80", "https://shop.example/a//b?c=%20&d"),
        (b"/", b"[::1]:8080", "https://[::1]/"),
        (b"*", b"shop.example", "https://shop.example/"),
        (b"/.well-known/acme-challenge/abc", b"shop.example", "https://shop.example/.well-known/acme-challenge/abc"),
    ],
)
def test_everybody_is_sent_to_https_with_path_and_query(target: bytes, host: bytes, expected: str) -> None:
    status, fields, body = ask(target, host)
    assert (status, fields["Location"], body) == ("308 Permanent Redirect", expected, b"")


@pytest.mark.parametrize(
    ("settings", "port"), [({"bind": "0.0.0.0:8443"}, ":8443"), ({"https_port": 443, "bind": "[::]:8443"}, "")]
)
def test_the_port_is_that_of_clients_or_the_one_that_is_named(settings: dict[str, Any], port: str) -> None:
    assert ask(b"/", **settings)[1]["Location"] == f"https://shop.example{port}/"


@pytest.mark.parametrize("host", [None, b"", b"a b", b"a/b"])
def test_who_names_no_host_is_sent_nowhere(host: bytes | None) -> None:
    status, _, body = ask(b"/", host)
    assert status == "400 Bad Request"
    assert json.loads(body)["status"] == 400


def test_the_authoritys_question_is_answered_from_the_webroot_and_from_the_storage(tmp_path: Path) -> None:
    folder = tmp_path / ".well-known" / "acme-challenge"
    folder.mkdir(parents=True)
    (folder / "to-ken_1").write_text("answer")
    (tmp_path / "secret").write_text("secret")
    storage = Storage(tmp_path / "acme")
    storage.make()
    (storage.challenges / "own").write_text("another")
    settings = {
        "acme_webroot": str(tmp_path),
        "certificates": ["shop.example"],
        "acme": {"agree_tos": True, "storage": str(storage.path)},
    }
    prefix = b"/.well-known/acme-challenge/"
    assert ask(prefix + b"to-ken_1", **settings)[::2] == ("200 OK", b"answer")
    assert ask(prefix + b"own", None, **settings)[::2] == ("200 OK", b"another")
    for token in (b"none", b"", b"../../secret", b"..%2f..%2fsecret", b"to-ken_1/", b"a" * 200):
        assert ask(prefix + token, **settings)[0] == "404 Not Found"
