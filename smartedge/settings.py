"""What the parts need of a configuration: worked out once, at start and at reload, so that nothing is on a request's way."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address, ip_network

from smartedge.config import Config
from smartedge.proxy.forward import Plan
from smartedge.proxy.reader import ServerLimits
from smartedge.proxy.transport import Limits


def plan(config: Config) -> Plan:
    """Work out what a request's way needs."""
    networks = [ip_network(network) for network in config.trusted_proxies]

    @lru_cache(maxsize=1024)
    def is_trusted(peer: bytes) -> bool:
        try:
            address = ip_address(peer.decode("latin-1"))
        except ValueError:
            return False
        return any(address in network for network in networks)

    timeouts = config.timeouts
    return Plan(
        config.retry_policy,
        is_trusted if networks else None,
        config.forwarded_header,
        timeouts.idle_s,
        timeouts.tunnel_idle_s,
    )


def backend_limits(config: Config) -> Limits:
    """Work out what the connections to backends need."""
    timeouts, limits = config.timeouts, config.limits
    return Limits(
        connect_s=timeouts.connect_s,
        first_byte_s=timeouts.first_byte_s,
        idle_s=timeouts.idle_s,
        idle_connections=limits.connections_per_backend,
        answer_head_bytes=limits.answer_head_bytes,
    )


def server_limits(config: Config) -> ServerLimits:
    """Work out what a client may take."""
    timeouts, limits = config.timeouts, config.limits
    return ServerLimits(
        head_s=timeouts.head_s,
        keepalive_s=timeouts.keepalive_s,
        idle_s=timeouts.idle_s,
        target_bytes=limits.target_bytes,
        head_bytes=limits.head_bytes,
        headers=limits.headers,
        body_bytes=limits.body_bytes,
    )
