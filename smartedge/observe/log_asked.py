"""What lines of the access log say of who asks, which is the same from line to line for as long as a connection lasts."""

from __future__ import annotations

import re
from collections.abc import Callable

from smartedge.http.request import Request


class AskedText:
    """What a format says of one connection's requests, kept with what backends are told of it (`proxy.outbound.Onward`).

    So no memory of the log's own has to be searched, or to have an end. by: the format that made it. client: what stands at a
    line's beginning, made of the client's address and `method`. before: that with the path behind it, made of `target`, the last
    one. agent: what stands at its end, made of `block`, the fields as they came.
    """

    __slots__ = ("agent", "before", "block", "by", "client", "method", "target")

    def __init__(self, by: object, request: Request, client: str, agent: str) -> None:
        self.by = by
        self.method = request.method
        self.block = request.block
        self.client = client
        self.agent = agent
        self.target: bytes | None = None
        self.before = ""


class AskedLines:
    """Remembers what lines say of who asks; what all formats have in common. client_of: gives the address of a request's client.

    A format looks itself whether the connection's `AskedText` is still the request's, which most programs' is, for they send
    the same fields with every request (docs/performance.md):

        asked.block is request.known_block and asked.method == request.method and asked.by is self
    """

    def __init__(self, client_of: Callable[[Request], bytes]) -> None:
        self._client_of = client_of

    def _ask(self, request: Request) -> AskedText:
        """Give what lines say of a request, made anew as far as it is another."""
        onward = request.said.onward
        asked: AskedText | None = None if onward is None else onward.logged
        if asked is not None and asked.by is self and asked.method == request.method:
            asked.block, asked.agent = request.block, self._tell_agent(request)
            return asked
        asked = AskedText(self, request, self._tell_client(request), self._tell_agent(request))
        if onward is not None:
            onward.logged = asked
        return asked

    def _tell_client(self, request: Request) -> str:
        """Write what stands at a line's beginning."""
        raise NotImplementedError

    def _tell_agent(self, request: Request) -> str:
        """Write what stands at its end."""
        raise NotImplementedError


def in_any_case(name: str) -> bytes:
    """Write a pattern of a name whose letters may be small or capital: without a flag the search takes a fifth of the time."""
    return "".join(f"[{one.upper()}{one}]" if one.isalpha() else re.escape(one) for one in name).encode()


_SAID = re.compile(rb"\n(?:(%b)|%b):[ \t]*(.*)" % (in_any_case("user-agent"), in_any_case("referer")))
"""With a literal beginning; and `.*`, all but a line feed, is found quicker than a class."""


def agent_and_referer(block: bytes, only_first: bool = False) -> tuple[bytes | None, bytes | None]:
    """Give the values of a block's User-Agent and Referer; of those sent several times all, by commas, or the first."""
    agent = referer = None
    for is_agent, value in _SAID.findall(b"\n" + block):
        said = value.rstrip(b" \t\r")
        if is_agent:
            if agent is None or not only_first:
                agent = said if agent is None else agent + b", " + said
        elif referer is None or not only_first:
            referer = said if referer is None else referer + b", " + said
    return agent, referer
