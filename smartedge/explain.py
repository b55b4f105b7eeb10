"""Who may have a request explained in its answer: whoever may see the admin pages, asking with `X-SmartEdge-Explain`."""

from __future__ import annotations

import socket
from collections.abc import Collection
from functools import partial

from smartedge.control.access import may_administer
from smartedge.control.peer_owner import owned_by_us
from smartedge.proxy.headers import pairs_of
from smartedge.proxy.request import Request

_NAMES = (socket.gethostname().lower(),)


def may_ask(request: Request, token: str | None, networks: Collection[str]) -> bool:
    """Whether a request that is forwarded, and has the field, may hear what was decided about it.

    The field says `1`, or `Bearer` and the token; what it says goes to no backend. A token in Authorization counts
    too, and then that field ends here as well: the secret of the admin pages is no backend's business.
    """
    said = (request.fields.explain or b"").decode("latin-1")
    headers = {name.lower(): value for name, value in pairs_of(request.block)}
    if said[:7].lower() == "bearer ":
        headers["authorization"] = said
    elif said != "1":
        return False
    peer = request.peer.decode("latin-1")
    ours = partial(owned_by_us, request.sock)
    if may_administer(peer, headers, is_ours=ours, token=token, networks=networks, names=_NAMES):
        return False
    if token and said == "1":
        request.fields.block = request.fields.without(b"authorization")
    return True
