"""The sections of `backends.json`: a frozen model each, with every key's type, bounds, default, description.

Durations are seconds, sizes bytes. The documentation's reference table is made of the descriptions.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    ValidationInfo,
    field_validator,
)

from smartedge.balancer.rate_limit import RatePolicy
from smartedge.config import values
from smartedge.config.section import Cap, Count, Grace, Listed, Seconds, Section, Size, StatusItem, existing_file


def _secret_file(text: str) -> str:
    try:
        with open(existing_file(text), "rb") as file:
            secret = file.read(4096).strip()
    except OSError as error:
        raise ValueError(f"names {values.shown(text)}, which cannot be read: {error.strerror}") from None
    if len(secret) < values.LEAST_SECRET_BYTES:
        raise ValueError(f"names {values.shown(text)}, which must hold at least {values.LEAST_SECRET_BYTES} bytes")
    return text


def _sorted(items: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(set(items)))


class ServiceTimeoutsConfig(Section):
    """How long a service is waited for."""

    connect_s: Seconds = 2.0
    """For a connection to a backend, TLS included."""
    first_byte_s: Seconds = 30.0
    """For an answer's first byte once the request is sent."""
    idle_s: Seconds = 60.0
    """For the next bytes of a body, from a client or a backend."""
    tunnel_idle_s: Seconds = 3600.0
    """For the next byte either way in a tunnel (`Upgrade`, such as WebSocket)."""


class TimeoutsConfig(ServiceTimeoutsConfig):
    """How long the edge waits."""

    head_s: Seconds = 10.0
    """For a client's whole request head."""
    keepalive_s: Seconds = 75.0
    """For a client's next request on an open connection."""


class RetryConfig(Section):
    """When a request is tried again, and how often."""

    statuses: Annotated[tuple[Annotated[int, Field(ge=400, le=599)], ...], Listed, AfterValidator(_sorted)] = (500, 502, 503, 504)
    """Answers to try again, 400 to 599; idempotent methods only, of 5xx other than 502-504 only GET, HEAD, OPTIONS, and once."""
    attempts: Annotated[int, Field(ge=1, le=100)] = 3
    """Most tries of one request, the first included; 1 never repeats."""
    deadline_s: Seconds | None = None
    """Time for all tries together; null is 60, or `timeouts.first_byte_s` if that is more."""
    wait_s: Grace = 1.0
    """Longest that a request waits for a backend that is being restarted, when no other can serve; 0 has none wait."""
    body_bytes: Annotated[int, Field(ge=0, le=1 << 30)] = 65_536
    """Bytes of a request body kept to be sent again; a longer one is sent only once."""
    budget_ratio: Annotated[float, Field(ge=0, le=10)] = 0.2
    """Most retries and hedges of the last 10 s, as a share of its requests; what a backend can't have seen is free."""
    budget_per_s: Annotated[float, Field(ge=0, le=1_000_000)] = 10.0
    """So many more a second, so that little traffic has some, too."""
    hedge: bool = False
    """Ask another backend, too, when the first is late, and use the answer that comes first; idempotent methods only."""
    hedge_percentile: Annotated[float, Field(ge=0.5, le=0.999)] = 0.95
    """Late is what takes longer than this share of the recent answers to requests of the same kind."""

    @field_validator("hedge")
    @classmethod
    def _may_happen(cls, hedge: bool, info: ValidationInfo) -> bool:
        if hedge and info.data.get("attempts") == 1:
            raise ValueError("needs attempts to be at least 2, not 1")
        if hedge and info.data.get("budget_ratio") == 0 and info.data.get("budget_per_s") == 0:
            raise ValueError("needs a budget: budget_ratio or budget_per_s must be more than 0")
        return hedge


class FailureConfig(Section):
    """Which answers are failures of their backend; whether one is tried again is another question (`retry.statuses`)."""

    statuses: Annotated[tuple[StatusItem, ...], Listed] = ("500-599",)
    """Codes, classes ("5xx") or ranges ("500-599"), of 400 to 599; an empty list holds no answer against anybody."""

    @field_validator("statuses")
    @classmethod
    def _errors(cls, items: tuple[int | str, ...]) -> tuple[int | str, ...]:
        if any(code < 400 for code in values.status_codes(items)):
            raise ValueError('must hold only statuses from 400 to 599, such as 500 or "500-599"')
        return values.status_ranges(items)


class BreakerConfig(Section):
    """When a failing backend is ejected, and for how long."""

    failures: Count = 5
    """Failures in a row that eject a backend."""
    ratio: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of failures in the window that ejects a backend."""
    window_s: Seconds = 10.0
    """Length of that window."""
    min_requests: Count = 20
    """Requests in the window below which the share says nothing."""
    open_s: Seconds = 5.0
    """Time out of service at the first ejection; it doubles each time."""
    max_open_s: Annotated[Seconds, Field(validate_default=True)] = 300.0
    """Longest time out of service."""
    max_ejected_ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Largest share of the backends that may be ejected at once; the last available one never is."""
    observe: bool = False
    """Only say and count when a backend would be ejected."""

    @field_validator("max_open_s")
    @classmethod
    def _not_below_open(cls, max_open_s: float, info: ValidationInfo) -> float:
        if max_open_s < info.data.get("open_s", 0):
            raise ValueError(f"must be at least open_s ({info.data['open_s']:g}), not {max_open_s:g}")
        return max_open_s


class HashConfig(Section):
    """What `consistent_hash`, or a strategy of your own, knows a request by."""

    by: Annotated[str, AfterValidator(values.hash_by)] = "client"
    """`client` (its address), `path` (without query), `header:NAME` or `cookie:NAME`."""
    bounded_load_ratio: Annotated[float, Field(gt=1, le=1000)] | None = 1.25
    """Most open requests of a backend, as a multiple of its share; null sets no bound."""


class StickyConfig(Section):
    """Sessions that stay with their backend, by a cookie, whatever the strategy."""

    cookie: Annotated[str, AfterValidator(values.field_name)] | None = None
    """Name of the cookie; null has no sticky sessions."""
    secret_file: Annotated[str, AfterValidator(_secret_file)] | None = None
    """File with the secret that cookies are made with, 16 bytes or more; `SMARTEDGE_STICKY_SECRET` goes before it."""
    max_age_s: Annotated[int, Field(ge=1, le=34_560_000)] | None = None
    """How long a client keeps the cookie from when it was given, up to 400 days; null until it closes."""

    path: Annotated[str, AfterValidator(values.cookie_path)] | None = None
    """Requests below this path bring the cookie back; null is `/`, all of them."""
    domain: Annotated[str, AfterValidator(values.cookie_domain)] | None = None
    """Name below which all hosts get the cookie; null is the host that the client asked, alone."""
    same_site: Literal["lax", "strict", "none"] | None = None
    """Whether other sites' pages bring the cookie along: `none` always does, `strict` never; null is `lax`, links alone."""
    secure: bool | None = None
    """Whether the cookie comes back by https alone; null is yes for clients that came so, and wherever browsers ask for it."""

    @field_validator("secret_file", "max_age_s", "path", "domain", "same_site", "secure")
    @classmethod
    def _with_cookie(cls, value: object, info: ValidationInfo) -> object:
        if value is not None and info.data.get("cookie", "wrong in itself") is None:
            raise ValueError("needs a cookie beside it")
        return value

    @field_validator("path", "domain")
    @classmethod
    def _host_alone(cls, value: str | None, info: ValidationInfo) -> str | None:
        """RFC 6265bis section 4.1.3.2: browsers refuse it otherwise."""
        if (info.data.get("cookie") or "").lower().startswith("__host-") and value not in (None, "/"):
            raise ValueError('must not be set for a cookie whose name begins with "__Host-"')
        return value

    @field_validator("secure")
    @classmethod
    def _as_browsers_ask(cls, secure: bool | None, info: ValidationInfo) -> bool | None:
        """Refuse a cookie that browsers refuse (RFC 6265bis section 5.7)."""
        if secure is False and info.data.get("same_site") == "none":
            raise ValueError('must not be false with same_site "none": browsers refuse that')
        if secure is False and values.must_be_secure(info.data.get("cookie")):
            raise ValueError("must not be false for a cookie of that name: browsers refuse that")
        return secure


class ExplainConfig(Section):
    """Which requests' decisions are kept, to be asked for; those that were retried, hedged or failed always are."""

    sample_ratio: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of all other requests that are kept, too."""


class OutliersConfig(Section):
    """Which backends are ejected for being much worse than the others; at least two others are needed."""

    latency_factor: Annotated[float, Field(gt=1, le=1000)] | None = None
    """Eject one whose median latency is more than so many times that of the others; null never does."""
    failure_ratio: Annotated[float, Field(gt=0, le=1)] | None = None
    """Eject one whose share of failures is larger than that of the others by more than this; null never does."""
    interval_s: Seconds = 10.0
    """Time between two looks; each is at what happened since the last one."""
    min_requests: Count = 20
    """Requests in that time below which a backend is not judged."""
    max_ejected_ratio: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Largest share of the backends that may be out, those that breakers ejected included."""
    observe: bool = False
    """Only say and count what would be ejected."""


class ServiceLimitsConfig(Section):
    """How much a service takes in."""

    answer_head_bytes: Size = 65_536
    """Largest head of a backend's answer; beyond it 502."""
    connections_per_backend: Annotated[int, Field(ge=0, le=65_536)] = 128
    """Most idle connections kept open to each backend."""
    in_flight_per_backend: Cap | None = None
    """Most requests open at once on each backend, in all workers; `"adaptive"` finds it out; null sets no limit."""
    shared_by_nodes: bool = False
    """In a cluster, have each node take its share of `in_flight_per_backend` and of `max_in_flight`, at least 1 each."""
    queue: Annotated[int, Field(ge=0, le=1_000_000)] = 128
    """Most requests that wait while all backends are full; beyond it 503. 0 has none wait."""
    queue_s: Seconds = 1.0
    """Longest that one waits; beyond it 503."""


class LimitsConfig(ServiceLimitsConfig):
    """How much the edge takes in."""

    target_bytes: Size = 8_192
    """Longest request target; beyond it 414."""
    head_bytes: Size = 65_536
    """Largest request head; beyond it 431."""
    headers: Annotated[int, Field(ge=16, le=10_000)] = 200
    """Most header fields of a request; beyond it 431."""
    body_bytes: Annotated[int, Field(ge=0, le=1 << 62)] = 0
    """Largest request body; beyond it 413. 0 sets no limit."""


class RateLimitConfig(Section):
    """How often one client may ask."""

    per_s: Annotated[float, Field(ge=0.0001, le=1_000_000)] | None = None
    """Requests a second, on average; beyond it 429. null sets no limit."""
    burst: Count | None = None
    """Requests at once; null is as many as `per_s`, at least 1."""
    by: Annotated[str, AfterValidator(values.rate_by)] = "client"
    """What a client is known by: `client` (its address; of IPv6 the /64), or `header:NAME` (its address, too, without that)."""
    shared_by_nodes: bool = False
    """In a cluster, have each node admit its share of `per_s` and `burst`: right where clients are spread over all."""

    def policy(self, nodes: int = 1) -> RatePolicy | None:
        """The same as the balancer's own value; None for as often as clients like. nodes: of the cluster, that are alive."""
        if self.per_s is None:
            return None
        policy = RatePolicy(self.per_s, self.burst or max(1, int(self.per_s)))
        return policy.share(nodes) if self.shared_by_nodes else policy

    @field_validator("burst")
    @classmethod
    def _with_rate(cls, burst: int | None, info: ValidationInfo) -> int | None:
        if burst is not None and info.data.get("per_s", "wrong in itself") is None:
            raise ValueError("needs a per_s beside it")
        return burst
