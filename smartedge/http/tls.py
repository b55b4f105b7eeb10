"""TLS settings towards backends, as contexts of gevent's; towards clients see server_tls.py."""

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
    if tls is not None and tls.h2:
        context.set_alpn_protocols(["h2"])
    if tls is not None and not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
