"""What is read of a certificate, what is refused by name, and what a folder of them may hold."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from smartedge.http.certificates import PemFiles, covers, files_in, read_certificate
from tests.certificates import Authority, context_of
from tests.live.peers import CERTS

LOCALHOST = str(CERTS / "localhost.pem")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.mark.parametrize("kind", ["ECDSA", "RSA"])
def test_names_kind_of_key_and_time_are_read(authority: Authority, kind: str, tmp_path: Path) -> None:
    path = authority.sign(tmp_path / "a.pem", "Shop.Example", "*.shop.example", "10.0.0.1", "fd00::1", kind=kind, days=30)
    read = read_certificate(PemFiles(path))
    assert (read.names, read.kind) == (("shop.example", "*.shop.example", "10.0.0.1", "fd00::1"), kind)
    assert read.begins_at == pytest.approx(time.time() - 86_400, abs=60)
    assert read.expires_at == pytest.approx(time.time() + 30 * 86_400, abs=60)


@pytest.mark.parametrize("days", [-0.5, 30])
def test_one_that_has_expired_or_is_not_valid_yet_is_read_too(authority: Authority, days: float, tmp_path: Path) -> None:
    """The operator is told; clients decide for themselves."""
    path = authority.sign(tmp_path / "a.pem", "shop.example", days=days, begun_days=1 if days < 0 else -1)
    assert read_certificate(PemFiles(path)).names == ("shop.example",)


def test_an_old_one_without_names_is_known_by_its_subject(authority: Authority, tmp_path: Path) -> None:
    path = authority.sign(tmp_path / "a.pem", subject=[(NameOID.COMMON_NAME, "Old.Example")])
    assert read_certificate(PemFiles(path)).names == ("old.example",)


def test_one_that_is_not_for_servers_is_refused(authority: Authority, tmp_path: Path) -> None:
    for_clients = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH])
    path = authority.sign(tmp_path / "a.pem", "a.example", extensions=[for_clients])
    with pytest.raises(ValueError, match=r"no client can use it: un\w+ certificate purpose"):
        read_certificate(PemFiles(path))


@pytest.mark.parametrize("content", [b"", b"text", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_files_that_are_no_certificate_are_refused_by_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.pem"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.pem holds no certificate with its key in PEM form"):
        context_of(str(file))
    with pytest.raises(ValueError, match=r"localhost\.pem and .*a\.pem hold no certificate"):
        context_of(LOCALHOST, str(file))


@pytest.mark.parametrize("kind", ["ECDSA", "RSA"])
def test_a_key_of_another_certificate_is_refused(authority: Authority, kind: str, tmp_path: Path) -> None:
    """OpenSSL has other words for it where the keys are of different kinds."""
    other = authority.sign(tmp_path / "a.pem", "a.example", kind=kind)
    with pytest.raises(ValueError, match="the key does not belong to the certificate"):
        context_of(LOCALHOST, key_alone(tmp_path, other))


def key_alone(directory: Path, pem: str) -> Path:
    path = directory / "alone.key"
    text = Path(pem).read_bytes()
    path.write_bytes(text[text.index(b"-----BEGIN PRIVATE") :])
    return path


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        context_of(str(tmp_path / "none.pem"))


def test_an_encrypted_key_is_refused_and_nobody_is_asked(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    lines = ["-----BEGIN RSA PRIVATE KEY-----", "Proc-Type: 4,ENCRYPTED", "DEK-Info: AES-128-CBC," + "0" * 32, "", "AAAA"]
    file.write_text("\n".join([*lines, "-----END RSA PRIVATE KEY-----", ""]))
    with pytest.raises(ValueError, match="encrypted"):
        context_of(LOCALHOST, str(file))


@pytest.mark.parametrize(
    ("host", "covered"),
    [
        ("shop.example", True),
        ("SHOP.example.", True),
        ("www.shop.example", True),
        ("a.b.shop.example", False),
        ("other.example", False),
        ("10.0.0.1", True),
        ("10.0.0.2", False),
        ("", False),
    ],
)
def test_a_wildcard_stands_for_one_label(authority: Authority, host: str, covered: bool, tmp_path: Path) -> None:
    read = read_certificate(PemFiles(authority.sign(tmp_path / "a.pem", "shop.example", "*.shop.example", "10.0.0.1")))
    assert covers([read], host) is covered


def test_a_folder_may_hold_pairs_single_files_and_what_certbot_makes(authority: Authority, tmp_path: Path) -> None:
    whole = authority.sign(tmp_path / "c.pem", "c.example")
    text = Path(whole).read_bytes()
    cut = text.index(b"-----BEGIN PRIVATE")
    (tmp_path / "a.crt").write_bytes(text[:cut])
    (tmp_path / "a.key").write_bytes(text[cut:])
    live = tmp_path / "b.example"
    live.mkdir()
    (live / "fullchain.pem").write_bytes(text[:cut])
    (live / "privkey.pem").write_bytes(text[cut:])
    (tmp_path / ".hidden").write_text("x")
    (tmp_path / "README").write_text("x")
    assert list(files_in(str(tmp_path))) == [
        PemFiles(str(tmp_path / "a.crt"), str(tmp_path / "a.key")),
        PemFiles(str(live / "fullchain.pem"), str(live / "privkey.pem")),
        PemFiles(whole),
    ]


def test_what_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "b.key").write_text("x")
    (tmp_path / "c").mkdir()
    assert [str(entry) for entry in files_in(str(tmp_path))] == [
        "a.txt is no certificate: their names end in .pem, .crt or .cer, those of their keys in .key",
        "c has no fullchain.pem and no privkey.pem",
        "b.key is a key without a certificate",
    ]


def test_a_pipe_in_the_folder_is_named_and_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.pem")
    (tmp_path / "b.pem").symlink_to(tmp_path / "gone")
    assert list(files_in(str(tmp_path))) == ["a.pem is no file", "b.pem is no file"]
