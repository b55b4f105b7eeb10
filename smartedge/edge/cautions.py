"""What the operator should know although nothing is wrong: said by `check`, and once at the start."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_network

from smartedge.balancer.spec import DEFAULT_SERVICE
from smartedge.config.access_log import secret_headers
from smartedge.config.certificates import AUTO
from smartedge.config.model import Config
from smartedge.config.routes import unused_services
from smartedge.config.sources import misspelled
from smartedge.edge.access import UNIX_PEERS
from smartedge.edge.peer_owner import owned_by_us
from smartedge.edge.plain_routes import plain_table
from smartedge.edge.route_answer import warnings
from smartedge.edge.shared_cookies import shared_cookies
from smartedge.edge.unknown_zones import unknown_places, unknown_zones
from smartedge.http.request import Request
from smartedge.process.whereabouts import certificates_unused

log = logging.getLogger(__name__)

MOST_LOOKS = 100
"""A proxy of another user, which can do no harm, is not looked at for ever."""

_REMEDY = "give them an address of their own (admin_bind, such as unix:/run/smartedge/admin.sock) or set SMARTEDGE_ADMIN_TOKEN"
BEHIND_A_PROXY = (
    "requests come through a proxy on this machine that runs as the edge's own user or as root, and the admin pages are on the"
    f" same port: where it does not say that it forwards, its clients can administer. {_REMEDY[0].upper()}{_REMEDY[1:]}"
)


NOT_SHOWN = (
    "certificates: are shown to nobody, for gunicorn listens and has TLS of its own or none: take -k smartedge.worker.EdgeWorker,"
    " without --certfile"
)


def cautions(config: Config, env: Mapping[str, str], *, has_token: bool) -> list[str]:
    """Return a sentence for each; has_token: the admin pages have one, and go by nothing else."""
    found = misspelled(env)
    if config.trusted_proxies and config.admin_bind is None and not has_token:
        found.append(f"trusted_proxies: a proxy is in front of the port that has the admin pages, too; {_REMEDY}")
    proxies, allowed = ([ip_network(text) for text in texts] for texts in (config.trusted_proxies, config.admin_allow))
    if not has_token and any(a.version == p.version and a.overlaps(p) for a in allowed for p in proxies):
        found.append(f"admin_allow: holds trusted_proxies, whose clients could administer through them; {_REMEDY}")
    if any(entry.name == AUTO and not config.names_of(entry) for entry in config.certificates):
        found.append('certificates: "auto" stands for the hosts of the routes, and no route names one: nobody is served by https')
    if config.speaks_tls and config.admin_bind is None and (config.client_ca_file is not None or config.strict_sni):
        which = "client_ca_file" if config.client_ca_file is not None else "strict_sni"
        found.append(f"{which}: holds for the admin pages and the commands, too; give them an address of their own (admin_bind)")
    if config.http_bind is not None and not config.speaks_tls and config.https_port is None:
        found.append("http_bind: sends everybody to https, which bind does not speak: give it a certificate, or say https_port")
    found += [
        f"access_log_headers: {name} lets whoever reads the log in as the clients whose requests it holds"
        for name in secret_headers(config.access_log_headers)
    ]
    services = config.all_services()
    for service in services:
        backends = service.config.backends
        if backends and not any(backend.weight and backend.state == "enabled" for backend in backends):
            which = "" if service.name == DEFAULT_SERVICE else f" of {service.name}"
            found.append(f"no backend{which} takes new requests, as each has weight 0 or is not enabled: clients get 503")
    for spec in config.specs():
        if spec.health.type == "grpc" and spec.protocol == "http/1.1":
            found.append(f'{spec.name}: health.type "grpc" needs "protocol": "h2" or "h2c": it stays unhealthy')
    found += shared_cookies(config)
    found += [*unknown_zones(config), *unknown_places(config)]
    return found + warnings(plain_table(config.routes), unused_services(config.routes, [service.name for service in services]))


def log_cautions(config: Config, env: Mapping[str, str], *, has_token: bool) -> None:
    """Write each to the log, and what only a process that serves can know."""
    found = cautions(config, env, has_token=has_token)
    for text in [*found, NOT_SHOWN] if certificates_unused(config) else found:
        log.warning("%s", text)


class ProxyWatch:
    """Says once that requests come by a proxy whose clients could administer; called by Decisions with some that are sampled.

    is_open: whether the admin pages are on the traffic port, and have no token.
    """

    def __init__(self, is_open: Callable[[], bool]) -> None:
        self._is_open = is_open
        self._left = MOST_LOOKS

    def __call__(self, request: Request) -> None:
        """Look at a request: some microseconds, and a system call or two for one that was forwarded."""
        if self._left and was_forwarded(request) and self._is_open():
            self._left -= 1
            if is_taken_for_ours(request):
                self._left = 0
                log.warning(BEHIND_A_PROXY)


def was_forwarded(request: Request) -> bool:
    """Whether a request says that it came through a proxy."""
    return request.said.forwarded is not None or b"\nvia:" in b"\n" + request.block.lower()


def is_taken_for_ours(request: Request) -> bool:
    """Whether the peer is a process on this machine that the admin pages take for the operator's own."""
    peer = request.peer.decode("latin-1")
    try:
        local = peer in UNIX_PEERS or ip_address(peer).is_loopback
    except ValueError:
        return False
    return local and owned_by_us(request.sock)
