"""What the parts need of a configuration: worked out once, at start and at reload, so that nothing is on a request's way."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import sha256
from ipaddress import ip_address, ip_network
from math import inf
from socket import gethostname

from smartedge.balancer.cells import STRATEGY_FALLBACKS
from smartedge.balancer.learned import Learned
from smartedge.balancer.strategies.guard import Guarded
from smartedge.balancer.strategies.menu import STRATEGIES, ConsistentHash, Strategy
from smartedge.config import strategy as config_strategy
from smartedge.config.model import Config, ConfigError, Problem
from smartedge.config.values import must_be_secure
from smartedge.proxy.affinity import Affinity, IsTrusted, key_reader
from smartedge.proxy.limiter import ClientLimiter
from smartedge.proxy.outbound import Hop
from smartedge.proxy.service import ServicePolicy
from smartedge.proxy.sticky import Sticky
from smartedge.proxy.transport import Limits
from smartedge.server.front import ServerLimits

log = logging.getLogger("smartedge")


def own_via(identity: str) -> bytes:
    """Make what the edge calls itself in Via: all workers the same, and no other edge; a comment as in RFC 9110 section 7.6.3."""
    return b"smartedge (%b)" % sha256(f"{gethostname()} {identity}".encode()).hexdigest()[:8].encode()


def trusted(config: Config) -> IsTrusted:
    """Work out whose word of the way that a request came is believed."""
    networks = [ip_network(network) for network in config.trusted_proxies]

    @lru_cache(maxsize=1024)
    def is_trusted(peer: bytes) -> bool:
        try:
            address = ip_address(peer.decode("latin-1"))
        except ValueError:
            return False
        return any(address in network for network in networks)

    return is_trusted if networks else None


def hop(config: Config, via: bytes, is_trusted: IsTrusted) -> Hop:
    """Work out what backends are told of the way that requests came. via: see `own_via`."""
    return Hop(via, is_trusted, config.forwarded_header)


def service_policy(config: Config, affinity: Affinity | None, limiter: ClientLimiter | None) -> ServicePolicy:
    """Work out how requests are treated."""
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


def affinity(config: Config, is_trusted: IsTrusted, sticky_secret: bytes, backend_ids: Sequence[str] = ()) -> Affinity | None:
    """Work out what requests are known by; None when nobody asks, and a request's way is shorter."""
    strategy = config.strategy
    key_of = sticky = None
    if strategy == ConsistentHash.name or strategy not in STRATEGIES:  # the user's own may want a key
        key_of = key_reader(config.hash.by, is_trusted)
    if config.sticky.cookie is not None:
        assert sticky_secret
        sticky = make_sticky(config, sticky_secret, backend_ids)
    return None if key_of is None and sticky is None else Affinity(key_of, sticky, is_trusted)


def make_sticky(config: Config, secret: bytes, backend_ids: Sequence[str]) -> Sticky:
    """Work out the cookies of sticky sessions. Browsers want some of them to be `Secure`, whatever clients came by."""
    said = config.sticky
    assert said.cookie is not None
    secure = True if said.same_site == "none" or must_be_secure(said.cookie) else said.secure
    return Sticky(
        said.cookie,
        secret,
        backend_ids,
        said.max_age_s,
        said.path or "/",
        said.domain,
        said.same_site or "lax",
        secure,
    )


def backend_limits(config: Config) -> Limits:
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
        body_bytes=limits.body_bytes,
    )


TELL_EVERY_S = 60.0
"""One kind of trouble is logged once a minute; the metric counts every pick."""


class Strategist:
    """Makes strategies. own: the edge's own row, which counts what fell back. clock: gives seconds."""

    def __init__(self, own: Learned, clock: Callable[[], float]) -> None:
        self._own = own
        self._clock = clock
        self._told_at: dict[str, float] = {}

    def make(self, config: Config, current: Strategy | None = None) -> Strategy:
        """Return the strategy that a configuration asks for: the current one, if it is that. Raises ConfigError.

        A user's class is not imported again: its code is that of the process's start.
        """
        if current is not None and current.name == config.strategy:
            return current
        try:
            return config_strategy.make(config.strategy, config.hash.bounded_load_ratio, self._clock)
        except ValueError as error:
            raise ConfigError([Problem("strategy", str(error))], status=422) from error

    def retune(self, strategy: Strategy, config: Config) -> None:
        """Let a strategy that goes on follow its other settings."""
        if isinstance(strategy, ConsistentHash):
            strategy.bounded_load_ratio = config.hash.bounded_load_ratio or inf

    def tell(self, strategy: Strategy, now: float) -> None:
        """Count and log what a user's strategy has done wrong; called every second."""
        if not isinstance(strategy, Guarded):
            return
        for trouble in strategy.troubles():
            self._own.add(STRATEGY_FALLBACKS, trouble.picks)
            if now - self._told_at.get(trouble.kind, -inf) >= TELL_EVERY_S:
                self._told_at[trouble.kind] = now
                log.warning("strategy failed: %s: %s (%d picks by round robin)", strategy.name, trouble.detail, trouble.picks)
