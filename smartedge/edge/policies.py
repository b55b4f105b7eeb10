"""What the parts of an edge need of a configuration, each as its own value: worked out at reload, so that no request does it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network

from smartedge.balancer.spec import DEFAULT_SERVICE
from smartedge.balancer.strategies.menu import STRATEGIES, ConsistentHash
from smartedge.config.access_log import split_headers
from smartedge.config.model import Config
from smartedge.config.services import ServiceConfig
from smartedge.config.values import must_be_secure
from smartedge.http.forwarded import IsTrusted
from smartedge.observe.access_log import LogStyle
from smartedge.observe.log_line import HeaderNames
from smartedge.observe.rotation import Rotation
from smartedge.proxy.adapter import Limits
from smartedge.proxy.affinity import Affinity, Sticky, key_reader
from smartedge.proxy.client_places import ClientPlaces
from smartedge.proxy.limiter import ClientLimiter
from smartedge.proxy.networks import address_in
from smartedge.proxy.service import ServicePolicy
from smartedge.server.front import ServerLimits


def trust(config: Config) -> IsTrusted:
    """Work out whose word of the way that a request came is believed."""
    return trusting([ip_network(network) for network in config.trusted_proxies])


def trusting(networks: Sequence[IPv4Network | IPv6Network]) -> IsTrusted:
    """Make what tells whether a peer is in one of these networks; None where there are none."""

    @lru_cache(maxsize=1024)
    def is_trusted(peer: bytes) -> bool:
        address = address_in(peer)
        return address is not None and any(address in network for network in networks)

    return is_trusted if networks else None


def log_style(config: Config) -> LogStyle:
    """Work out how lines of the access log look, and who has one."""
    headers = HeaderNames(*split_headers(config.access_log_headers))
    return LogStyle(config.access_log_format, headers, config.access_log_sample_ratio, config.access_log_slow_s)


def log_rotation(config: Config) -> Rotation | None:
    """Work out when the access log's file is moved aside; None where others see to that."""
    most_bytes, every_s = config.access_log_rotate_bytes, config.access_log_rotate_s
    if most_bytes is None and every_s is None:
        return None
    return Rotation(most_bytes, every_s, config.access_log_keep, config.access_log_compress)


def service_policy(config: ServiceConfig, affinity: Affinity | None, limiter: ClientLimiter | None) -> ServicePolicy:
    """Work out how the requests of a service are treated."""
    return ServicePolicy(
        retry=config.retry_policy,
        failures=config.failures,
        idle_s=config.timeouts.idle_s,
        tunnel_idle_s=config.timeouts.tunnel_idle_s,
        queue=config.limits.queue,
        queue_s=config.limits.queue_s,
        affinity=affinity,
        limiter=limiter,
    )


def affinity_of(
    config: ServiceConfig,
    is_trusted: IsTrusted,
    secrets: Sequence[bytes],
    backend_ids: Sequence[str],
    service: str = DEFAULT_SERVICE,
    places: ClientPlaces | None = None,
) -> Affinity | None:
    """Work out what requests are known by; None when nobody asks, and a request's way is shorter.

    secrets: what sticky cookies are made with, newest first, none where there are no cookies. backend_ids: of the backends that
    they may name, all of this service.
    """
    key_of = sticky = None
    if config.strategy == ConsistentHash.name or config.strategy not in STRATEGIES:  # the user's own may want a key
        key_of = key_reader(config.hash.by, is_trusted)
    if config.sticky.cookie is not None:
        sticky = sticky_of(config, secrets, backend_ids, service)
    if key_of is None and sticky is None and places is None:
        return None
    return Affinity(key_of, sticky, is_trusted, places)


def sticky_of(
    config: ServiceConfig, secrets: Sequence[bytes], backend_ids: Sequence[str], service: str = DEFAULT_SERVICE
) -> Sticky:
    """Work out the cookies of sticky sessions. Browsers want some of them to be `Secure`, whatever clients came by."""
    said = config.sticky
    assert said.cookie is not None
    assert secrets
    secure = True if said.same_site == "none" or must_be_secure(said.cookie) else said.secure
    return Sticky(
        said.cookie,
        secrets,
        backend_ids,
        said.max_age_s,
        said.path or "/",
        said.domain,
        said.same_site or "lax",
        secure,
        service,
    )


def backend_limits(config: ServiceConfig) -> Limits:
    """Work out what the connections to backends need."""
    timeouts, limits = config.timeouts, config.limits
    deadline_s = config.retry_policy.deadline_s
    return Limits(
        connect_s=min(timeouts.connect_s, deadline_s),
        first_byte_s=min(timeouts.first_byte_s, deadline_s),
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
        body_bytes=largest_body(config),
    )


def largest_body(config: Config) -> int:
    """Work out the largest body that any route takes, which is all that the server can know; 0 for no limit."""
    common = config.limits.body_bytes
    sizes = [common if route.body_bytes is None else route.body_bytes for route in config.routes] or [common]
    return 0 if 0 in sizes else max(sizes)
