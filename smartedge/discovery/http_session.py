"""HTTP to the servers that sources ask (etcd, Consul): a `requests.Session` on gevent's sockets.

Errors say in plain words what went wrong; an answer has a limit in size and in time.

The sockets are gevent's own, also where nothing is patched: a source waits for minutes and must not hold up the process.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gevent
import gevent.socket
import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    SSLError,
)

from smartedge.balancer.spec import TlsSpec
from smartedge.http.tls import context_for

MAX_BYTES = 64 * 1024 * 1024
"""The longest answer that is read."""

CONNECT_RATIO = 2 / 3
"""Of the time for an answer, so much is for the connection, if nothing else is said."""


class FetchFailed(Exception):
    """A request that had no answer, or not a whole one; the text is the cause, without the address.

    sent: whether the server may have acted on it.
    """

    def __init__(self, cause: str, *, sent: bool) -> None:
        super().__init__(cause)
        self.sent = sent


@dataclass(frozen=True)
class Reply:
    """An answer as it came; header names in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def make_session(tls: TlsSpec) -> requests.Session:
    """Make a session that takes nothing from the environment (proxies, .netrc). tls: for https; changed files are read again."""
    session = requests.Session()
    session.trust_env = False
    adapter = _GeventAdapter(tls)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def fetch(
    session: requests.Session,
    method: str,
    url: str,
    *,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
    params: Any = None,
    json: Any = None,
    connect_s: float | None = None,
    max_bytes: int = MAX_BYTES,
) -> Reply:
    """Send a request and read the whole answer within timeout_s, of which connect_s for the connection. Raises FetchFailed."""
    with (
        gevent.Timeout(timeout_s, FetchFailed(f"no answer within {timeout_s:g} s", sent=True)),
        open_stream(
            session, method, url, timeout_s=timeout_s, connect_s=connect_s, headers=headers, params=params, json=json
        ) as answer,
    ):
        body = bytearray()
        for piece in pieces_of(answer):
            body += piece
            if len(body) > max_bytes:
                raise FetchFailed(f"the answer is longer than {max_bytes} bytes", sent=True)
        return Reply(answer.status_code, answer.headers, bytes(body))


@contextlib.contextmanager
def open_stream(
    session: requests.Session,
    method: str,
    url: str,
    *,
    timeout_s: float,
    connect_s: float | None = None,
    headers: Mapping[str, str] | None = None,
    params: Any = None,
    json: Any = None,
) -> Iterator[requests.Response]:
    """Send a request and give the answer once its head has come, within timeout_s; its body has no limit. Raises FetchFailed."""
    with _explained(), gevent.Timeout(timeout_s, FetchFailed(f"no answer within {timeout_s:g} s", sent=True)):
        answer = session.request(
            method,
            url,
            params=params,
            json=json,
            headers=dict(headers or {}),
            timeout=(connect_s or timeout_s * CONNECT_RATIO, None),  # less than all: who was not reached cannot have acted
            stream=True,
            allow_redirects=False,
        )
    try:
        yield answer
    finally:
        answer.close()


def pieces_of(answer: requests.Response) -> Iterator[bytes]:
    """Yield the body as it comes. Raises FetchFailed."""
    with _explained():
        yield from answer.iter_content(None)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Make what requests, urllib3 and the sockets raise our own error."""
    try:
        yield
    except (requests.RequestException, HTTPError, OSError, ValueError) as error:
        raise _failure(error) from error


def _failure(error: BaseException) -> FetchFailed:
    chain = list(_causes(error))
    innermost = chain[-1]
    is_early = any(isinstance(one, _BEFORE_SENDING) for one in chain)
    if any(isinstance(one, NameResolutionError) for one in chain):
        text = f"its name cannot be looked up: {_words(innermost)}"
    elif isinstance(innermost, ssl.SSLError):
        text = f"TLS: {getattr(innermost, 'verify_message', '') or getattr(innermost, 'reason', None) or innermost}"
    elif isinstance(error, requests.exceptions.ChunkedEncodingError) and not isinstance(innermost, OSError):
        text = "the connection was closed within the answer"
    elif isinstance(innermost, TimeoutError):
        text = "no connection in time" if is_early else "no answer in time"
    else:
        text = _words(innermost)
    return FetchFailed(text, sent=not is_early)


class _HandshakeFailed(SSLError):
    """TLS could not be agreed on, so that nothing of the request was sent; raised by a `_GeventTlsConnection`."""


_BEFORE_SENDING = (NewConnectionError, ConnectTimeoutError, _HandshakeFailed, requests.exceptions.InvalidURL)


def _words(error: BaseException) -> str:
    """An error in the system's words where it has some: "connection refused"."""
    words = str(getattr(error, "strerror", None) or error) or type(error).__name__
    return words[0].lower() + words[1:] if words[:2].istitle() else words


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what led to it, outermost first: libraries put it into `reason`, into their arguments, or chain it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        context = None if error.__suppress_context__ else error.__context__
        inner = [getattr(error, "reason", None), *error.args, error.__cause__, context]
        error = next((one for one in inner if isinstance(one, BaseException) and id(one) not in seen), None)


class _GeventAdapter(HTTPAdapter):
    """Makes connections of gevent's sockets, with the edge's own TLS settings; mounted into a session by `make_session`."""

    def __init__(self, tls: TlsSpec) -> None:
        self._tls = tls
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        super().init_poolmanager(*arguments, **more)
        self.poolmanager.pool_classes_by_scheme = {"http": _GeventPool, "https": _GeventTlsPool}

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        """A pool for each TLS context, of which there is a new one when a file has changed."""
        where, _ = super().build_connection_pool_key_attributes(request, False)
        if where["scheme"] != "https":
            return where, {}
        try:
            return where, {"ssl_context": context_for(self._tls)}
        except (OSError, ValueError) as error:  # ssl.SSLError among them
            named = getattr(error, "filename", None) or " or ".join(filter(None, (self._tls.ca_file, self._tls.cert_file)))
            raise FetchFailed(f"{named} cannot be used: {_words(error)}", sent=False) from error

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Nothing: requests would add authorities of its own to those of the context."""


def _connect(connection: Any) -> Any:
    """As urllib3's own `_new_conn`, with gevent's socket."""
    try:
        sock = gevent.socket.create_connection((connection._dns_host, connection.port), connection.timeout)
    except socket.gaierror as error:
        raise NameResolutionError(connection.host, connection, error) from error
    except TimeoutError as error:
        raise ConnectTimeoutError(connection, "timed out") from error
    except OSError as error:
        raise NewConnectionError(connection, str(error)) from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for level, option, value in _KEEP_ALIVE:
        sock.setsockopt(level, option, value)
    return sock


_KEEP_ALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
"""A machine that has vanished while an answer is waited for is noticed after 25 s."""


class _GeventConnection(HTTPConnection):
    """urllib3's connection on gevent's socket; made by its pool."""

    def _new_conn(self) -> Any:
        return _connect(self)


class _GeventTlsConnection(HTTPSConnection):
    """The same with TLS."""

    def _new_conn(self) -> Any:
        return _connect(self)

    def connect(self) -> None:
        try:
            super().connect()
        except OSError as error:
            raise _HandshakeFailed(str(error)) from error


class _GeventPool(HTTPConnectionPool):
    """urllib3's pool of those connections."""

    ConnectionCls = _GeventConnection


class _GeventTlsPool(HTTPSConnectionPool):
    """The same with TLS."""

    ConnectionCls = _GeventTlsConnection
