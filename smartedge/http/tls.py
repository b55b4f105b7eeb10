"""TLS settings as contexts of gevent's: towards each backend as the operator wrote it, and towards clients."""

from __future__ import annotations

import hashlib
import os
import ssl
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from gevent.ssl import SSLContext

from smartedge.balancer.spec import TlsSpec


def context_for(tls: TlsSpec | None) -> Any:
    """TLS settings for a backend; made anew when one of its files has changed, as certificates do."""
    files = (tls.ca_file, tls.cert_file, tls.key_file) if tls else ()
    return _context(tls, tuple(os.stat(file).st_mtime_ns if file else 0 for file in files))


class Contexts:
    """The TLS settings towards backends: one context for each TlsSpec, for traffic and probes alike."""

    def __init__(self) -> None:
        self._made: dict[TlsSpec | None, tuple[bytes, Any]] = {}

    def __call__(self, tls: TlsSpec | None) -> Any:
        """Give the context in use; raises OSError, ssl.SSLError or ValueError where there is none and none can be made."""
        if tls not in self._made:
            self.prepare(tls)()
        return self._made[tls][1]

    def prepare(self, tls: TlsSpec | None) -> Callable[[], bool]:
        """Read the files again; raises as above, or gives what puts them to use and says whether they hold something else."""
        files = (tls.ca_file, tls.cert_file, tls.key_file) if tls else ()
        digest = hashlib.sha256(b"".join(Path(file).read_bytes() for file in files if file)).digest()
        if tls in self._made and self._made[tls][0] == digest:
            return lambda: False
        context = _make(tls)

        def use() -> bool:
            renewed = tls in self._made and self._made[tls][0] != digest
            self._made[tls] = digest, context
            return renewed

        return use


@lru_cache(maxsize=64)
def _context(tls: TlsSpec | None, _changed_ns: tuple[int, ...]) -> Any:
    # Loading the system's authorities takes milliseconds: too much for every probe.
    return _make(tls)


def _make(tls: TlsSpec | None) -> Any:
    default = ssl.create_default_context(cafile=tls.ca_file if tls else None)
    context = SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # gevent's own, also where nothing is patched
    context.verify_flags = default.verify_flags  # Python 3.13 is stricter than 3.11
    context.options |= ssl.OP_NO_RENEGOTIATION
    if tls is not None and tls.ca_file:
        context.load_verify_locations(tls.ca_file)
    else:
        context.load_default_certs()
    if tls is not None and tls.cert_file:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    if tls is not None and not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class ServerTls:
    """The certificate that clients are shown; called, it gives the context for a new connection, None without TLS."""

    def __init__(self) -> None:
        self.context: Any = None
        self._digest = b""

    def __call__(self) -> Any:
        """Give the context in use."""
        return self.context

    def prepare(self, cert_file: str, key_file: str | None) -> Callable[[], bool]:
        """Read a certificate; raises ValueError, or gives what puts it to use and says whether it is another one."""
        context = server_context(cert_file, key_file)
        digest = hashlib.sha256(b"".join(Path(file).read_bytes() for file in (cert_file, key_file) if file)).digest()

        def use() -> bool:
            renewed = digest != self._digest
            self.context, self._digest = context, digest
            return renewed

        return use


def server_context(cert_file: str, key_file: str | None) -> Any:
    """TLS settings for clients: version 1.2 or later, HTTP/1.1 only; raises ValueError when the files can't be used.

    The files are PEM; `cert_file` may hold the key too, and any certificates that lead to the authority.
    """
    context = SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert_file, key_file, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError("the key does not belong to the certificate") from error
        where = f"{cert_file} and {key_file} hold" if key_file else f"{cert_file} holds"
        raise ValueError(f"{where} no certificate with its key in PEM form") from error
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}") from error
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted; nobody is there to type its password")
