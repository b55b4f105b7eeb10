"""Fields of forwarded requests that are for the edge: who may have a request explained, and the token, which goes no further."""

from __future__ import annotations

import re
import socket
from collections.abc import Collection
from functools import partial

from smartedge.balancer.errors import ClientError
from smartedge.edge.access import holds_token, may_administer
from smartedge.edge.peer_owner import owned_by_us
from smartedge.http.headers import pairs_of
from smartedge.http.request import Request

_said = re.compile(rb"^authorization:([^\r\n]*)", re.IGNORECASE | re.MULTILINE).findall

_NAMES = (socket.gethostname().lower(),)


class Misdirected(ClientError):
    """A request for the admin pages that would have gone to a backend (RFC 9110 section 15.5.20)."""

    status = 421
    title = "Misdirected request"


def may_ask(request: Request, token: str | None, networks: Collection[str]) -> bool:
    """Whether a request that is forwarded asks for what was decided about it, and may hear that.

    The field says `1`, or `Bearer` and the token; what it says goes to no backend. A token in Authorization counts
    too, and then that field ends here as well: the secret of the admin pages is no backend's business. So whoever sends
    it and asks for nothing is told that it has come to the wrong place: raises Misdirected.
    """
    asks = request.fields.explain is not None
    if token is None and not asks:
        return False
    has_token = token is not None and any(holds_token(said.decode("latin-1"), token) for said in _said(request.block))
    if not (asks and _may_ask(request, token, networks)):
        if has_token:
            raise Misdirected(
                "The request carries the token of the admin pages, and this is none of them: it goes to no backend."
            )
        return False
    if has_token:
        request.fields = request.fields.with_block(request.fields.without(b"authorization"))
    return True


def _may_ask(request: Request, token: str | None, networks: Collection[str]) -> bool:
    said = (request.fields.explain or b"").decode("latin-1")
    headers = {name.lower(): value for name, value in pairs_of(request.block)}
    if said[:7].lower() == "bearer ":
        headers["authorization"] = said
    elif said != "1":
        return False
    ours = partial(owned_by_us, request.sock)
    peer = request.peer.decode("latin-1")
    return may_administer(peer, headers, is_ours=ours, token=token, networks=networks, names=_NAMES) is None
