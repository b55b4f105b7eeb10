"""Who may reload, and read status and metrics, and who may be told what was decided about a request.

A process of our own user or of root on this machine may, and a peer in a network that the operator named; but a web
page that the peer's browser shows may not, and neither may a client behind a proxy on this machine. Not every proxy says
that it is one (nginx with a bare `proxy_pass` does not), so whose process the peer is counts, besides what a browser or a
proxy adds to a request: Host (DNS rebinding), Origin and Sec-Fetch-Site (cross-site requests), Forwarded and its kin. With
a token set, only the token counts.
"""

from __future__ import annotations

import hmac
import re
import socket
from collections.abc import Callable, Collection, Mapping
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from smartedge.balancer.errors import Misdirected
from smartedge.edge.peer_owner import owned_by_us
from smartedge.http.headers import pairs_of
from smartedge.http.request import Request

OWN_NAMES: Final = (socket.gethostname().lower(),)
"""The names of this machine that the Host of an admin request may hold, besides addresses and localhost."""

UNIX_PEERS = frozenset(("", "unix"))
"""How servers write the address of a peer on a unix socket."""

_FORWARDED = frozenset(("forwarded", "via", "x-real-ip"))
_SAME_SITE = frozenset(("same-origin", "same-site", "none"))
_authorizations = re.compile(rb"^authorization:([^\r\n]*)", re.IGNORECASE | re.MULTILINE).findall


class Refusal(NamedTuple):
    """Why not: 401 or 403, and a sentence that says what would help."""

    status: int
    detail: str


def may_administer(
    peer: str,
    headers: Mapping[str, str],
    *,
    is_ours: Callable[[], bool],
    token: str | None = None,
    networks: Collection[str] = (),
    names: Collection[str] = (),
) -> Refusal | None:
    """Return None if the request may administer the edge, else why not.

    peer: the address of the connection's other end, never one from a header. headers: by lower-case name.
    is_ours: whether the process there is our own user's or root's; asked of peers on this machine only, and last.
    token: the secret, or None when there is none. networks: CIDR ranges of `admin_allow`. names: this
    machine's own host names, which a peer from `networks` may call it by (addresses and "localhost" are
    always fine).
    """
    if token:
        return _check_token(headers.get("authorization", ""), token)
    address = None if peer in UNIX_PEERS else _address(peer)
    local = peer in UNIX_PEERS or (address is not None and address.is_loopback)
    allowed = address is not None and any(address in ip_network(network) for network in networks)
    if not local and not allowed:
        return Refusal(403, "Only this machine, or a network in admin_allow, may do this. Or set SMARTEDGE_ADMIN_TOKEN.")
    if any(name in _FORWARDED or name.startswith("x-forwarded-") for name in headers):
        return Refusal(403, "The request was forwarded by a proxy. Ask the edge directly or set SMARTEDGE_ADMIN_TOKEN.")
    host = _host(headers.get("host", ""))
    if not (_is_loopback(host) or (allowed and (_address(host) is not None or host in names))):
        return Refusal(403, "The Host is not this machine's. Use its address or set SMARTEDGE_ADMIN_TOKEN.")
    if "origin" in headers:
        origin = _host_of_origin(headers["origin"])
        if not origin or not (_is_loopback(origin) or (allowed and origin == host)):
            return Refusal(403, "The request comes from another site's page.")
    if headers.get("sec-fetch-site", "none") not in _SAME_SITE:
        return Refusal(403, "The request comes from another site's page.")
    if not allowed and not is_ours():
        return Refusal(
            403,
            "The peer is a process of another user, such as a proxy. Ask as the edge's own user or as root,"
            " or set SMARTEDGE_ADMIN_TOKEN.",
        )
    return None


def holds_token(authorization: str, token: str) -> bool:
    """Whether the value of an Authorization field is our token (RFC 6750 section 2.1); compared in constant time."""
    scheme, _, given = authorization.strip().partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("utf-8", "replace"), token.encode())


def may_ask(request: Request, token: str | None, networks: Collection[str]) -> bool:
    """Whether a request that is forwarded asks for what was decided about it, and may hear that.

    The field says `1`, or `Bearer` and the token; what it says goes to no backend. A token in Authorization counts
    too, and then that field ends here as well: the secret of the admin pages is no backend's business. So whoever sends
    it and asks for nothing is told that it has come to the wrong place: raises Misdirected.
    """
    asks = request.said.explain is not None
    if token is None and not asks:
        return False
    has_token = token is not None and any(holds_token(said.decode("latin-1"), token) for said in _authorizations(request.block))
    if not (asks and _may_hear(request, token, networks)):
        if has_token:
            raise Misdirected(
                "The request carries the token of the admin pages, and this is none of them: it goes to no backend."
            )
        return False
    if has_token:
        request.fields = request.fields.with_block(request.fields.without(b"authorization"))
    return True


def _may_hear(request: Request, token: str | None, networks: Collection[str]) -> bool:
    said = (request.said.explain or b"").decode("latin-1")
    headers = {name.lower(): value for name, value in pairs_of(request.block)}
    if said[:7].lower() == "bearer ":
        headers["authorization"] = said
    elif said != "1":
        return False
    ours = partial(owned_by_us, request.sock)
    peer = request.peer.decode("latin-1")
    return may_administer(peer, headers, is_ours=ours, token=token, networks=networks, names=OWN_NAMES) is None


def _check_token(authorization: str, token: str) -> Refusal | None:
    if holds_token(authorization, token):
        return None
    if authorization[:7].lower() != "bearer ":
        return Refusal(401, "A bearer token is needed: send Authorization: Bearer with SMARTEDGE_ADMIN_TOKEN.")
    return Refusal(401, "The bearer token is wrong.")


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address; an IPv4 one in IPv6 clothes (::ffff:127.0.0.1) becomes what it is."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def _host(text: str) -> str:
    """Return the host of a Host field, without port and brackets; empty if it is none."""
    try:
        parts = urlsplit(f"//{text}")
        valid = parts.netloc == text and "@" not in text and parts.port != 0
        return (parts.hostname or "").removesuffix(".") if valid else ""
    except ValueError:
        return ""


def _host_of_origin(text: str) -> str:
    """Return the host of an Origin, empty for "null" and everything else that has none."""
    scheme, separator, rest = text.partition("://")
    return _host(rest) if separator and scheme.lower() in ("http", "https") else ""


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)
