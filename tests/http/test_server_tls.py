"""Which certificate a client is shown, whom it is not shown to, and what stays when the certificates change."""

from __future__ import annotations

import contextlib
import ssl
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from smartedge.http.certificates import Certificate, PemFiles
from smartedge.http.server_tls import Named, ServerTls, TlsSettings, UnusableTls, front_context, read_shown
from tests.certificates import Authority, trusting
from tests.live.peers import CERTS

LOCALHOST = str(CERTS / "localhost.pem")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def settings(*paths: str, **more: Any) -> TlsSettings:
    return TlsSettings(tuple(Named(("certificates", index), PemFiles(path)) for index, path in enumerate(paths)), **more)


def serving(*paths: str, **more: Any) -> ServerTls:
    tls = ServerTls()
    tls.use(read_shown(settings(*paths, **more), None))
    return tls


def connect(
    tls: ServerTls, client: ssl.SSLContext, name: str | None, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends of a connection, after the handshake; raises the server's or the client's ssl.SSLError."""
    client.check_hostname = False
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(down, up, server_hostname=name, session=session)
    theirs = tls().wrap_bio(up, down, server_side=True)
    for _ in range(6):
        for end in (ours, theirs):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    with contextlib.suppress(ssl.SSLWantReadError):
        ours.read(1)  # the session ticket of TLS 1.3, or an alert about the client's certificate
    with contextlib.suppress(ssl.SSLWantReadError):
        theirs.read(1)
    return ours, theirs


def shown(tls: ServerTls, authority: Authority, name: str | None, **client: Any) -> str:
    """The first name of the certificate that a client gets who asks for this name."""
    ours, _ = connect(tls, trusting(authority, **client), name)
    found = ours.getpeercert()
    assert found is not None
    return str(found["subjectAltName"][0][1])


@pytest.fixture(scope="module")
def pems(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pems")
    return {
        "shop": authority.sign(folder / "shop.pem", "shop.example", "www.shop.example"),
        "rsa": authority.sign(folder / "rsa.pem", "shop.example", kind="RSA"),
        "any": authority.sign(folder / "any.pem", "*.shop.example"),
        "other": authority.sign(folder / "other.pem", "other.example"),
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("shop.example", "shop.example"),
        ("WWW.shop.example", "shop.example"),
        ("cdn.shop.example", "*.shop.example"),
        ("a.cdn.shop.example", "other.example"),
        ("other.example", "other.example"),
        ("nobody.example", "other.example"),
        (None, "other.example"),
    ],
)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_certificate_for_the_clients_name_is_shown_else_the_first(
    version: ssl.TLSVersion, name: str | None, expected: str, authority: Authority, pems: dict[str, str]
) -> None:
    tls = serving(pems["other"], pems["any"], pems["shop"])
    assert shown(tls, authority, name, maximum_version=version) == expected


@pytest.mark.parametrize("name", ["nobody.example", None])
def test_strict_sni_refuses_names_of_no_certificate_and_no_name(
    name: str | None, authority: Authority, pems: dict[str, str]
) -> None:
    tls = serving(pems["shop"], strict_sni=True)
    assert shown(tls, authority, "shop.example") == "shop.example"
    with pytest.raises(ssl.SSLError):
        connect(tls, trusting(authority), name)


def test_a_client_that_knows_rsa_alone_gets_the_rsa_certificate_of_the_same_name(
    authority: Authority, pems: dict[str, str]
) -> None:
    tls = serving(pems["shop"], pems["rsa"])
    for suites, expected in (("ECDHE+aRSA", "RSA"), ("ECDHE+aECDSA", "ECDSA"), ("ECDHE", "ECDSA")):
        client = trusting(authority, maximum_version=ssl.TLSVersion.TLSv1_2)
        client.set_ciphers(suites)
        ours, _ = connect(tls, client, "shop.example")
        cipher = ours.cipher()
        assert cipher is not None
        assert expected in cipher[0]


def test_a_connection_knows_what_it_was_made_for(authority: Authority, pems: dict[str, str]) -> None:
    _, theirs = connect(serving(pems["shop"], pems["rsa"], pems["other"]), trusting(authority), "shop.example")
    certificates: tuple[Certificate, ...] = getattr(theirs.context, "certificates", ())
    assert [one.files.cert_file for one in certificates] == [pems["shop"], pems["rsa"]]


def test_what_is_wrong_is_named_all_at_once_and_changes_nothing(
    authority: Authority, pems: dict[str, str], tmp_path: Path
) -> None:
    tls = serving(pems["shop"])
    before = tls.certificates
    (tmp_path / "a.pem").write_text("nothing")
    (tmp_path / "b.txt").write_text("nothing")
    wrong = settings(pems["shop"], str(CERTS / "ca.pem"), str(tmp_path / "none.pem"), directory=str(tmp_path))
    with pytest.raises(UnusableTls) as caught:
        read_shown(wrong, tls.shown)
    assert [steps for steps, _ in caught.value.problems] == [
        ("certificates", 1),
        ("certificates", 2),
        ("certificates_dir",),
        ("certificates_dir",),
    ]
    assert "a.pem: " in caught.value.problems[2][1]
    assert tls.certificates is before
    assert shown(tls, authority, "shop.example") == "shop.example"


def test_what_is_the_same_is_not_read_again(pems: dict[str, str]) -> None:
    first = read_shown(settings(pems["shop"]), None)
    again = read_shown(settings(pems["shop"], pems["rsa"]), first)
    assert again.certificates[0] is first.certificates[0]
    assert again.digest != first.digest
    other = read_shown(settings(pems["other"]), None)
    both = read_shown(settings(pems["other"], pems["shop"]), other)
    assert both.table.find("other.example") is other.table.find("other.example")
    stricter = read_shown(settings(pems["other"], min_version="1.3"), other)
    assert stricter.table.find("other.example") is not other.table.find("other.example")


def test_without_certificates_nobody_begins_tls() -> None:
    tls = ServerTls()
    assert (tls(), tls.certificates) == (None, ())


def test_an_automatic_one_that_is_not_there_yet_is_no_error_and_nobody_is_served_for_it(authority: Authority) -> None:
    tls = ServerTls()
    tls.use(read_shown(TlsSettings((Named(("certificates", 0), PemFiles("/none/a.pem"), may_lack=True),)), None))
    assert tls() is not None
    with pytest.raises(ssl.SSLError):
        connect(tls, trusting(authority), "a.example")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_workers_whose_front_was_made_before_the_fork_resume_each_others_sessions_also_after_a_reload(
    version: ssl.TLSVersion, authority: Authority, pems: dict[str, str]
) -> None:
    front = front_context()
    workers = [ServerTls(front), ServerTls(front)]  # in one process a front serves one of them at a time
    client = trusting(authority, maximum_version=version)
    session = None
    for tls in (*workers, workers[0]):
        tls.use(read_shown(settings(pems["shop"]), tls.shown))
        ours, _ = connect(tls, client, "shop.example", session)
        assert ours.session_reused is (session is not None)
        session = ours.session
    stranger = serving(pems["shop"])
    ours, _ = connect(stranger, client, "shop.example", session)
    assert ours.session_reused is False


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_workers_and_nodes_with_the_same_secrets_resume_each_others_sessions_unless_their_clients_authorities_differ(
    version: ssl.TLSVersion, authority: Authority, pems: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    with_clients = {"client_ca_file": str(tmp_path / "ca.pem"), "client_certificates": "optional"}
    one, other, stranger = serving(pems["shop"]), serving(pems["shop"], pems["other"]), serving(pems["shop"], **with_clients)
    for tls, secrets in ((one, [b"a" * 32]), (other, [b"b" * 32, b"a" * 32]), (stranger, [b"a" * 32])):
        tls.use_secrets(secrets)
        assert tls.problem is None
    client = trusting(authority, maximum_version=version)
    ours, _ = connect(one, client, "shop.example")
    assert connect(other, client, "shop.example", ours.session)[0].session_reused is True
    assert connect(stranger, client, "shop.example", ours.session)[0].session_reused is False
    other.use(read_shown(settings(pems["shop"]), other.shown))
    assert connect(other, client, "shop.example", ours.session)[0].session_reused is True, "a reload keeps the keys"
    other.use(read_shown(settings(pems["shop"], **with_clients), other.shown))
    assert connect(other, client, "shop.example", ours.session)[0].session_reused is False


def test_versions_and_suites_are_those_of_mozillas_intermediate_list(authority: Authority, pems: dict[str, str]) -> None:
    tls = serving(pems["rsa"])
    for suites in ("AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA", "DHE-RSA-AES128-GCM-SHA256"):
        client = trusting(authority, maximum_version=ssl.TLSVersion.TLSv1_2)
        client.set_ciphers(suites)
        with pytest.raises(ssl.SSLError):
            connect(tls, client, "shop.example")
    only = serving(pems["rsa"], min_version="1.3")
    with pytest.raises(ssl.SSLError):
        connect(only, trusting(authority, maximum_version=ssl.TLSVersion.TLSv1_2), "shop.example")
    some = serving(pems["rsa"], ciphers="ECDHE-RSA-AES256-GCM-SHA384")
    ours, _ = connect(some, trusting(authority, maximum_version=ssl.TLSVersion.TLSv1_2), "shop.example")
    assert (ours.cipher() or ("",))[0] == "ECDHE-RSA-AES256-GCM-SHA384"


def client_with(authority: Authority, pem: str | None) -> ssl.SSLContext:
    client = trusting(authority)
    if pem is not None:
        client.load_cert_chain(pem)
    return client


def test_client_certificates_are_asked_for_and_checked(authority: Authority, pems: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    stranger = Authority().sign(tmp_path / "stranger.pem", "alice")
    alice = authority.sign(tmp_path / "alice.pem", "alice")
    for mode, alone_is_fine in (("required", False), ("optional", True)):
        tls = serving(pems["shop"], client_ca_file=str(tmp_path / "ca.pem"), client_certificates=mode)
        _, theirs = connect(tls, client_with(authority, alice), "shop.example")
        assert theirs.getpeercert()
        with pytest.raises(ssl.SSLError):
            connect(tls, client_with(authority, stranger), "shop.example")
        if alone_is_fine:
            assert connect(tls, client_with(authority, None), "shop.example")[1].getpeercert() in (None, {})
        else:
            with pytest.raises(ssl.SSLError):
                connect(tls, client_with(authority, None), "shop.example")


def test_who_was_let_in_by_other_authorities_resumes_no_session(
    authority: Authority, pems: dict[str, str], tmp_path: Path
) -> None:
    """A session that is resumed is not checked again."""
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    (tmp_path / "next.pem").write_bytes(Authority().pem)
    client = client_with(authority, authority.sign(tmp_path / "alice.pem", "alice"))
    tls = serving(pems["shop"], client_ca_file=str(tmp_path / "ca.pem"), client_certificates="required")
    ours, _ = connect(tls, client, "shop.example")
    resumed, theirs = connect(tls, client, "shop.example", ours.session)
    assert resumed.session_reused
    assert theirs.getpeercert()
    others = settings(pems["shop"], client_ca_file=str(tmp_path / "next.pem"), client_certificates="required")
    tls.use(read_shown(others, tls.shown))
    with pytest.raises(ssl.SSLError):
        connect(tls, client, "shop.example", ours.session)


def test_authorities_that_are_none_are_named(pems: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(UnusableTls, match=r"ca\.pem holds no certificate in PEM form"):
        read_shown(settings(pems["shop"], client_ca_file=str(tmp_path / "ca.pem"), client_certificates="required"), None)


def test_a_name_that_is_no_ascii_is_refused_without_a_word_on_stderr(
    authority: Authority, pems: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    front = serving(pems["shop"])()
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        trusting(authority).wrap_bio(down, up, server_hostname="marker.example").do_handshake()
    hello = ssl.MemoryBIO()
    hello.write(up.read().replace(b"marker", b"m\xc3\xa4rk\xff"))
    with pytest.raises(ssl.SSLError):
        front.wrap_bio(hello, down, server_side=True).do_handshake()
    assert told == []
    sys.unraisablehook(SimpleNamespace(object=b"else", exc_value=ValueError()))  # type: ignore[arg-type]
    assert len(told) == 1
