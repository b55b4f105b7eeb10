"""TLS settings as contexts of gevent's: towards each backend as the operator wrote it, and towards clients."""

from __future__ import annotations

import os
import ssl
from functools import lru_cache
from typing import Any

from gevent.ssl import SSLContext

from smartedge.balancer.spec import TlsSpec


def context_for(tls: TlsSpec | None) -> Any:
    """TLS settings for a backend; made anew when one of its files has changed, as certificates do."""
    files = (tls.ca_file, tls.cert_file, tls.key_file) if tls else ()
    return _context(tls, tuple(os.stat(file).st_mtime_ns if file else 0 for file in files))


@lru_cache(maxsize=64)
def _context(tls: TlsSpec | None, _changed_ns: tuple[int, ...]) -> Any:
    # Loading the system's authorities takes milliseconds: too much for every probe.
    return backend_context(tls)


def backend_context(tls: TlsSpec | None) -> Any:
    """TLS settings for a backend; raises OSError, ssl.SSLError or ValueError when its files can't be used."""
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
    """What clients are shown; owned by the worker's `Edge`, which replaces `context`. Called, it gives that, None without TLS."""

    def __init__(self) -> None:
        self.context: Any = None

    def __call__(self) -> Any:
        """Give the context for a new connection."""
        return self.context


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
