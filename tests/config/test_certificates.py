"""The certificates of a configuration: entries of both kinds, and what is refused of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smartedge.config.model import Config, ConfigError, load, parse
from tests.certificates import Authority
from tests.live.peers import CERTS

LOCALHOST = str(CERTS / "localhost.pem")
AGREED = {"agree_tos": True}


def config(**settings: Any) -> Config:
    return parse(json.dumps({"backends": ["http://a"], **settings}))


def problems(**settings: Any) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        config(**settings)
    return {problem.path: problem.message for problem in caught.value.problems}


def test_a_text_is_the_name_of_a_host_for_which_one_is_got() -> None:
    found = config(certificates=["Shop.example.", {"certfile": LOCALHOST}, {"name": "www.shop.example"}], acme=AGREED)
    assert found.automatic_names == ("shop.example", "www.shop.example")
    assert found.speaks_tls
    assert parse(found.to_json()) == found


def test_without_certificates_the_port_is_plain() -> None:
    assert not config().speaks_tls
    assert config(certfile=LOCALHOST).speaks_tls
    assert config(certificates_dir=str(CERTS)).speaks_tls


@pytest.mark.parametrize(
    ("entry", "where", "said"),
    [
        (3, "certificates[0]", "must be the name of a host or an object"),
        ({}, "certificates[0].certfile", "is missing"),
        ({"keyfile": LOCALHOST}, "certificates[0].certfile", "is missing"),
        ({"name": "a.example", "certfile": LOCALHOST}, "certificates[0].certfile", "must not stand beside a name"),
        ({"certfile": "/none.pem"}, "certificates[0].certfile", "no file here"),
        ("*.shop.example", "certificates[0].name", "takes a record in DNS"),
        ("10.0.0.1", "certificates[0].name", "must be a host name"),
        ("a b", "certificates[0].name", "must be a host name"),
    ],
)
def test_an_entry_that_can_not_be_is_named(entry: object, where: str, said: str) -> None:
    found = problems(certificates=[entry], acme=AGREED)
    assert said in found[where]


def test_names_need_the_authoritys_terms_to_be_agreed_to() -> None:
    assert "agree_tos" in problems(certificates=["shop.example"])["acme"]


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"tls_ciphers": "nothing"}, "tls_ciphers"),
        ({"tls_min_version": "1.1"}, "tls_min_version"),
        ({"client_certificates": "perhaps"}, "client_certificates"),
        ({"certificates_dir": "/none"}, "certificates_dir"),
        ({"acme_webroot": "/none"}, "acme_webroot"),
        ({"http_bind": "127.0.0.1:8080"}, "http_bind"),
        ({"http_bind": "nowhere"}, "http_bind"),
        ({"acme": {"directory": "http://plain.example"}}, "acme.directory"),
        ({"hsts_s": -1}, "hsts_s"),
    ],
)
def test_other_keys_are_refused_by_name(settings: dict[str, Any], where: str, tmp_path: Path) -> None:
    assert list(problems(**settings)) == [where]


def loaded(env: dict[str, str] | None = None, **flags: Any) -> Config:
    return load("/nowhere/backends.json", env or {}, {"backends": ["http://a"], **flags})


def test_the_flag_domain_is_short_for_a_name_and_the_usual_ports() -> None:
    found = loaded(domain=["shop.example"])
    assert (found.automatic_names, found.bind, found.http_bind) == (("shop.example",), "0.0.0.0:443", "0.0.0.0:80")
    assert found.acme.agree_tos
    other = loaded({"SMARTEDGE_BIND": "127.0.0.1:1"}, domain=["shop.example"], http_bind="127.0.0.1:2")
    assert (other.bind, other.http_bind) == ("127.0.0.1:1", "127.0.0.1:2")


def test_what_the_file_says_of_the_authority_stays_beside_the_flag(tmp_path: Path) -> None:
    file = tmp_path / "backends.json"
    file.write_text('{"backends": ["http://a"], "bind": "127.0.0.1:1", "acme": {"email": "me@shop.example"}}')
    found = load(file, {}, {"domain": ["shop.example"]})
    assert (found.acme.email, found.acme.agree_tos, found.bind, found.http_bind) == (
        "me@shop.example",
        True,
        "127.0.0.1:1",
        "0.0.0.0:80",
    )


def test_a_domain_that_can_not_be_is_named_by_its_flag() -> None:
    with pytest.raises(ConfigError, match=r"^--domain\[0\]\.name: must be no wildcard"):
        loaded(domain=["*.shop.example"])


def test_auto_stands_for_the_exact_hosts_of_the_routes() -> None:
    routes = [
        {"host": ["shop.example", "*.shop.example"], "to": "default"},
        {"host": "www.example", "path": "/a", "to": "default"},
        {"host": "shop.example", "path": "/b", "to": "default"},
        {"path": "/c", "to": "default"},
    ]
    found = config(certificates="auto", acme=AGREED, routes=routes)
    assert found.automatic_names == ("shop.example", "www.example")
    assert config(certificates="auto", acme=AGREED).automatic_names == ()


def test_a_key_of_another_certificate_is_named_with_all_else_that_is_wrong(tmp_path: Path) -> None:
    """It was named only when everything else was right. What is wrong in itself, or encrypted, is passed over here."""
    authority = Authority()
    one = authority.sign(tmp_path / "one.pem", "one.example")
    keys = [authority.sign(tmp_path / f"{kind}.pem", "other.example", kind=kind) for kind in ("ECDSA", "RSA")]
    entries: list[object] = [{"certfile": one, "keyfile": key} for key in keys]
    found = problems(
        certfile=one, keyfile=keys[0], certificates=[{"certfile": one}, *entries, 3, {"certfile": one, "key": 1}], x=1
    )
    assert list(found) == ["certificates[3]", "certificates[4].key", "x", "certfile", "certificates[1]", "certificates[2]"]
    assert {found[path] for path in list(found)[3:]} == {"cannot be used: the key does not belong to the certificate"}
    assert list(problems(certfile=str(Path(__file__)), x=1)) == ["x"]
