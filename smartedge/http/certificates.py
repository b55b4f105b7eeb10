"""Certificates that clients may be shown: read from PEM files, and looked up by the name that a client asks for.

What is in a certificate is read by a TLS handshake in memory, between the certificate and a client that trusts it alone. That is
all that Python's own `ssl` offers for a certificate which is no authority's, and it shows besides that a client can use it.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal

from gevent.ssl import SSLContext

KeyKind = Literal["ECDSA", "RSA"]
"""What a certificate's key signs with; a context of OpenSSL's holds one of each, and a client takes the one that it knows."""

_FIRST = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_ANY_TIME_ANY_EXTENSION = 0x200000 | 0x10
"""X509_V_FLAG_NO_CHECK_TIME and _IGNORE_CRITICAL: an expired certificate is read, too, and said to be expired."""
_ROUNDS = 6
"""Turns that a handshake of TLS 1.2 takes at most in memory."""


@dataclass(frozen=True, slots=True)
class PemFiles:
    """Where a certificate and its key are, as the operator wrote it. key_file: None when `cert_file` holds the key, too."""

    cert_file: str
    key_file: str | None = None

    def digest(self) -> bytes:
        """Give what is the same exactly while the files hold the same; raises OSError."""
        return sha256(b"".join(Path(path).read_bytes() for path in (self.cert_file, self.key_file) if path)).digest()


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate as it was read by `read_certificate`; owned by the worker's `ServerTls`, read by status and metrics.

    names: the DNS names and addresses that it is for, in lower case. begins_at, expires_at: Unix time. digest: of its files.
    """

    files: PemFiles
    names: tuple[str, ...]
    kind: KeyKind
    begins_at: float
    expires_at: float
    digest: bytes = field(repr=False)

    def covers(self, host: str) -> bool:
        """Whether it is for a host, a name or an address in lower case; `*.` stands for one label (RFC 9525 section 6.3)."""
        return host in self.names or f"*.{host.partition('.')[2]}" in self.names


class ServerSide(ssl.SSLObject):
    """Our end of a client's TLS connection in memory.

    hello: what the client has said so far, while the handshake lasts. asked_for: the name that it has asked for (SNI).
    """

    hello = b""
    asked_for: str | None = None

    def _sslsock(self) -> ServerSide:
        """Be what is found behind gevent's own sockets: its contexts look there, whatever speaks TLS, to call `sni_callback`."""
        return self


class CertificateContext(SSLContext):  # type: ignore[misc]
    """A context that knows the certificates which it shows, so that a connection can tell what it was made for."""

    sslobject_class = ServerSide
    certificates: tuple[Certificate, ...] = ()


def covers(certificates: Iterable[Certificate], host: str) -> bool:
    """Whether one of the certificates that a client was shown is for this host: the Host field's, without port or brackets."""
    low = host.rstrip(".").lower()
    return any(certificate.covers(low) for certificate in certificates)


def read_certificate(files: PemFiles) -> Certificate:
    """Read a certificate and its key; raises ValueError with what is wrong.

    The files are PEM; `cert_file` may hold the key too, and any certificates that lead to the authority.
    """
    server = SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_chain(server, files)
    shown, cipher = _shown(server, _FIRST.search(Path(files.cert_file).read_bytes()))
    names = [str(_plain(name)) for kind, name in shown.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    if not names:  # before RFC 2818 took the place of that; no browser takes it any more
        names = [value.lower() for part in shown.get("subject", ()) for key, value in part if key == "commonName"]
    return Certificate(
        files,
        tuple(dict.fromkeys(names)),
        "ECDSA" if "ECDSA" in cipher else "RSA",
        ssl.cert_time_to_seconds(shown["notBefore"]),
        ssl.cert_time_to_seconds(shown["notAfter"]),
        files.digest(),
    )


def load_chain(context: Any, files: PemFiles) -> None:
    """Have a context show a certificate; raises ValueError when the files can't be used."""
    try:
        context.load_cert_chain(files.cert_file, files.key_file, password=_no_password)
    except ssl.SSLError as error:
        if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):
            raise ValueError("the key does not belong to the certificate") from error
        if error.reason in ("EE_KEY_TOO_SMALL", "CA_MD_TOO_WEAK", "CA_KEY_TOO_SMALL"):
            raise ValueError(f"{files.cert_file} is too weak for OpenSSL ({error.reason})") from error
        where = f"{files.cert_file} and {files.key_file} hold" if files.key_file else f"{files.cert_file} holds"
        raise ValueError(f"{where} no certificate with its key in PEM form") from error
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}") from error


def _no_password() -> str:
    raise ValueError("the key is encrypted; nobody is there to type its password")


def _shown(server: Any, pem: re.Match[bytes] | None) -> tuple[dict[str, Any], str]:
    """Give what a client that trusts this certificate alone is shown, and the cipher suite: TLS 1.2's tell the kind of key."""
    client = SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _ANY_TIME_ANY_EXTENSION
    if pem is not None:
        client.load_verify_locations(cadata=pem[0].decode("ascii", "replace"))
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)
    for _ in range(_ROUNDS):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                raise ValueError(f"no client can use it: {getattr(error, 'verify_message', '') or error.reason}") from error
    return ends[0].getpeercert() or {}, ends[0].cipher()[0]


def _plain(name: str) -> object:
    """Spell an address in its normal form, a name in lower case."""
    try:
        return ip_address(name.strip())
    except ValueError:
        return name.rstrip(".").lower()


# ---- a folder of certificates ----


def files_in(directory: str) -> Iterator[PemFiles | str]:
    """Give what lies in a folder, by name: each certificate's files, or a sentence about an entry that is none.

    `NAME.pem` holds both, or `NAME.crt` (`.cer`, `.pem`) lies beside `NAME.key`; a folder below has certbot's `fullchain.pem`
    and `privkey.pem`. Names that begin with a dot are passed over, and so is README. Raises OSError.
    """
    entries = sorted(entry for entry in Path(directory).iterdir() if not entry.name.startswith(".") and entry.name != "README")
    keys = {entry.stem: entry for entry in entries if entry.suffix == ".key"}
    used = set()
    for entry in entries:
        if entry.is_dir():
            pair = entry / "fullchain.pem", entry / "privkey.pem"
            missing = [path.name for path in pair if not path.is_file()]
            yield f"{entry.name} has no {' and no '.join(missing)}" if missing else PemFiles(str(pair[0]), str(pair[1]))
        elif not entry.is_file():
            yield f"{entry.name} is no file"  # a pipe would be read for ever
        elif entry.suffix in (".pem", ".crt", ".cer"):
            key = keys.get(entry.stem)
            used.add(entry.stem)
            yield PemFiles(str(entry), None if key is None else str(key))
        elif entry.suffix != ".key":
            yield f"{entry.name} is no certificate: their names end in .pem, .crt or .cer, those of their keys in .key"
    yield from (f"{key.name} is a key without a certificate" for stem, key in keys.items() if stem not in used)


def stamps_in(directory: str) -> dict[str, object]:
    """Give what tells each file of a folder from its successor; none when it can't be read."""
    paths = (os.path.join(place, name) for place, _, names in os.walk(directory) for name in names)
    return {path: file_stamp(path) for path in paths}


def file_stamp(path: str) -> object:
    """Give what tells a file from its successor."""
    try:
        found = os.stat(path)
    except OSError as error:
        return error.errno
    return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size
