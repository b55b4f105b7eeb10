"""Certificates for tests: made as they are needed, by an authority of their own or by themselves."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from smartedge.http.certificates import PemFiles, read_certificate
from smartedge.http.server_tls import TlsSettings, server_context


def context_of(cert_file: str | Path, key_file: str | Path | None = None) -> Any:
    """A context for a server that shows this certificate, as the edge makes it."""
    files = PemFiles(str(cert_file), None if key_file is None else str(key_file))
    return server_context(TlsSettings(), read_certificate(files))


class Authority:
    """Signs certificates. pem: its own, for whoever is to trust it."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        signed = _builder(self.name, self.key.public_key(), self.name, -1, 30).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        # RFC 5280 section 4.2.1, which Python 3.13 insists on: what the key is for, and by which key a certificate is signed.
        signed = signed.add_extension(_usage(), critical=True).add_extension(
            x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False
        )
        self.pem = signed.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def sign(
        self,
        path: Path,
        *names: str,
        kind: str = "ECDSA",
        days: float = 30,
        begun_days: float = 1,
        subject: Sequence[tuple[x509.ObjectIdentifier, str]] = (),
        extensions: Sequence[x509.ExtensionType] = (),
    ) -> str:
        """Write a certificate with its key and give the file's name. days: until it expires, which may be past."""
        key = ec.generate_private_key(ec.SECP256R1()) if kind == "ECDSA" else rsa.generate_private_key(65537, 2048)
        who = x509.Name([x509.NameAttribute(oid, text) for oid, text in subject])
        builder = _builder(who, key.public_key(), self.name, -begun_days, days)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=not subject)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        pem = builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        path.write_bytes(pem + pem_of(key))
        return str(path)


def _usage() -> x509.KeyUsage:
    """For certificates and lists of revoked ones, and nothing else."""
    others = "digital_signature content_commitment key_encipherment data_encipherment key_agreement encipher_only decipher_only"
    return x509.KeyUsage(**dict.fromkeys(others.split(), False), key_cert_sign=True, crl_sign=True)


def pem_of(key: Any) -> bytes:
    """A private key as it stands in files."""
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    written: bytes = key.private_bytes(encoding, form, serialization.NoEncryption())
    return written


def trusting(authority: Authority, **settings: Any) -> ssl.SSLContext:
    """A client's context that trusts this authority. settings: attributes to be set."""
    context = ssl.create_default_context(cadata=authority.pem.decode())
    for name, value in settings.items():
        setattr(context, name, value)
    return context


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(subject: x509.Name, key: Any, issuer: x509.Name, begins_days: float, ends_days: float) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=begins_days))
        .not_valid_after(now + datetime.timedelta(days=ends_days))
    )
