"""`EdgeSession`: the requests.Session of one backend, with our adapter for its protocol mounted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Protocol

import requests
from requests.structures import CaseInsensitiveDict

from smartedge.http.headers import pairs_of
from smartedge.http.resources import HOLDERS
from smartedge.http.sockets import Destination
from smartedge.proxy.adapter import Limits
from smartedge.proxy.answer import Answer
from smartedge.proxy.outbound import Outbound

_FRESH = requests.Session()
"""What every session is at first: making one takes 0.2 ms, and an edge may have thousands."""
_FRESH.trust_env = False  # no ~/.netrc passwords, no proxy variables
_FRESH.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # one client's cookies are not the next one's


class Adapter(Protocol):
    """Sends requests to one backend: an `EdgeAdapter` by HTTP/1.1, an `Http2Adapter` by HTTP/2; owned by its EdgeSession."""

    to: Destination
    limits: Limits

    @property
    def context(self) -> Any:
        """The TLS settings of new connections, None without TLS."""

    def send(self, request: Outbound) -> Answer:
        """Send a request and wait for the answer's head; raises BackendError or ClientError."""

    def use(self, ips: Sequence[str], context: Any) -> bool:
        """Go to these IP addresses and with these TLS settings from here on; whether another server is there than before."""

    def close(self) -> None:
        """Close the idle connections and keep no more."""

    def close_idle(self, most: int) -> int:
        """Close so many idle connections at most; say how many it were."""


class EdgeSession(requests.Session):
    """The pooled session of one backend, its `transport`; made by the registry, called by Attempts and Race.

    It is requests' own, made safe to share between clients, with our adapter. It may be asked for the descriptors of idle
    connections (`HOLDERS`).

    send: the adapter's own, without a call between: the stock one follows redirects, runs hooks, stores cookies and keeps time.
    """

    __slots__ = ("adapter", "netloc", "send")

    def __init__(self, adapter: Adapter) -> None:
        vars(self).update(vars(_FRESH))
        mounted: Any = adapter
        self.adapters = OrderedDict({"https://": mounted, "http://": mounted})
        self.adapter = adapter
        self.send: Callable[[Outbound], Answer] = adapter.send  # type: ignore[assignment]
        self.netloc = adapter.to.authority
        HOLDERS.add(self)

    def close_idle(self, most: int) -> int:
        """Close so many idle connections at most; say how many it were."""
        return self.adapter.close_idle(most)


def as_response(answer: Answer, url: str = "") -> requests.Response:
    """Give an answer as requests' users know it; the body is read from the answer. url: what was asked."""
    response = requests.Response()
    response.status_code = answer.status_code
    response.reason = answer.status_line[4:-2].decode("latin-1")
    response.headers = CaseInsensitiveDict(pairs_of(answer.fields.block))
    response.url = url
    response.raw = _Raw(answer)
    return response


class _Raw:
    """An answer as requests reads it: urllib3's way to say so."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.close = answer.close

    def stream(self, *_size: int, **_options: object) -> Iterator[bytes]:
        """Give the body in the pieces it came in."""
        while piece := self._answer.read():
            yield piece
