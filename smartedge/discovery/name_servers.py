"""What name servers say: records, how long they hold, and in plain words why there are none.

dnspython does the talking: resolv.conf with its search domains, UDP, TCP after a truncated answer, the next server after one
that fails or is silent (RFC 1035, RFC 2308). It is imported when it is first used: under gunicorn that is after its patching.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from math import inf
from typing import Any, Final, NamedTuple

from smartedge.discovery.source import SourceError

RESOLV_CONF: Final = "/etc/resolv.conf"

MOST_ALIASES: Final = 8
"""How many answers that only name another name (CNAME) are followed."""

_NS: Final = 2
_SOA: Final = 6
_TRUNCATED: Final = 0x0200
"""The flag TC of an answer."""


class Records(NamedTuple):
    """What a name has. data: dnspython's rdata, none where the name has nothing of this type, or does not exist.

    ttl_s: how long that holds, inf where there are none and nobody says how long. came_along: addresses of other names that the
    answer has as well. exists: the name does.
    """

    data: tuple[Any, ...]
    ttl_s: float
    came_along: Mapping[str, tuple[str, ...]]
    exists: bool = True


def has_dnspython() -> bool:
    """Whether name servers can be asked."""
    return find_spec("dns") is not None


class NameServers:
    """Asks name servers, the one first that answered last; owned by a `DnsSource`, and called from several greenlets.

    servers: "10.0.0.2:53" each; none for those of resolv.conf, which is read again when it changes. timeout_s: for each name,
    over all tries.
    """

    def __init__(self, servers: Iterable[str], timeout_s: float, resolv_conf: str = RESOLV_CONF) -> None:
        self._servers = tuple(servers)
        self._timeout_s = timeout_s
        self._resolv_conf = resolv_conf
        self._stamp: object = None
        self._resolver: Any = None

    def ask(self, name: str, kind: str) -> Records:
        """Ask for the records of a name, "A", "AAAA" or "SRV"; raises SourceError where nobody says what there is.

        Where a search domain is in the way whose servers fail, the name as it is written is asked for besides.
        """
        try:
            return self._ask(name, kind, search=True)
        except SourceError:
            if "." not in name.rstrip(".") or name.endswith(".") or not self._ready().search:
                raise
            with contextlib.suppress(SourceError):
                found = self._ask(name, kind, search=False)
                if found.data:
                    return found
            raise

    def _ask(self, name: str, kind: str, *, search: bool) -> Records:
        import dns.exception
        import dns.resolver

        resolver, wanted, ttl_s = self._ready(), name, inf
        ends_at = time.monotonic() + self._timeout_s
        for _ in range(MOST_ALIASES):
            left_s = max(0.001, ends_at - time.monotonic())
            try:
                answer = resolver.resolve(wanted, kind, raise_on_no_answer=False, lifetime=left_s, search=search)
            except dns.resolver.NXDOMAIN as error:
                return Records((), min(ttl_s, _negative_ttl_s((error.kwargs.get("responses") or {}).values())), {}, exists=False)
            except (dns.resolver.NoNameservers, dns.resolver.LifetimeTimeout) as error:
                raise SourceError(f"{name} {kind}: {self._reasons(error.kwargs['errors'])}") from None
            except (dns.exception.DNSException, OSError) as error:
                raise SourceError(f"{name} {kind}: {_in_words(error)}") from None
            where = _host_and_port_text(answer.nameserver, answer.port)
            if answer.response.flags & _TRUNCATED:
                raise SourceError(f"{name} {kind}: {where} gives no whole answer, not even over TCP")
            self._prefer(resolver, answer, first=answer.rrset is not None)
            is_empty = answer.rrset is None and not answer.chaining_result.cnames
            ttl_s = min(ttl_s, _negative_ttl_s([answer.response]) if is_empty else answer.chaining_result.minimum_ttl)
            if answer.rrset is not None:
                return Records(tuple(answer.rrset), ttl_s, _came_along(answer.response))
            if is_empty:
                if _is_referral(answer.response):
                    raise SourceError(f"{name} {kind}: {where} sends us on to other servers, so it is none to ask")
                return Records((), ttl_s, {})
            wanted, search = answer.canonical_name, False
        raise SourceError(f"{name} {kind}: a chain of more than {MOST_ALIASES} aliases")

    def _ready(self) -> Any:
        """Return dnspython's resolver, made anew when resolv.conf has changed."""
        import dns.nameserver
        import dns.resolver

        try:
            found = os.stat(self._resolv_conf)
            stamp: object = (found.st_ino, found.st_mtime_ns, found.st_size)
        except OSError:
            stamp = "none"
        if self._resolver is None or stamp != self._stamp:
            try:
                resolver = dns.resolver.Resolver(self._resolv_conf)
            except (dns.resolver.NoResolverConfiguration, OSError):
                if not self._servers:
                    raise SourceError(f"{self._resolv_conf} names no name server") from None
                resolver = dns.resolver.Resolver(configure=False)
            texts = self._servers or tuple(_host_and_port_text(str(one), 53) for one in resolver.nameservers)
            resolver.nameservers = [dns.nameserver.Do53Nameserver(*_host_and_port(text)) for text in texts]
            # Each gets its try within the time, and one of them another.
            resolver.timeout = self._timeout_s / (len(resolver.nameservers) + 1)
            self._resolver, self._stamp = resolver, stamp
        return self._resolver

    def _prefer(self, resolver: Any, answer: Any, *, first: bool) -> None:
        """Ask the server that has answered first from now on; or last, where it knows nothing and others may."""
        servers = list(resolver.nameservers)
        at = next((i for i, one in enumerate(servers) if (one.address, one.port) == (answer.nameserver, answer.port)), None)
        if at is not None and len(servers) > 1:
            servers.insert(0 if first else len(servers) - 1, servers.pop(at))
            resolver.nameservers = servers

    def _reasons(self, errors: Iterable[Any]) -> str:
        """Say of each server that was asked what it did last. errors: dnspython's (server, tcp, port, exception, response)."""
        said = {_server(error[0]): self._reason(error[3]) for error in errors}
        if not said:  # not even the first one was done with
            said = {_host_and_port_text(one.address, one.port): self._reason(None) for one in self._ready().nameservers}
        return "; ".join(f"{server} {reason}" for server, reason in said.items())

    def _reason(self, error: Any) -> str:
        import dns.exception

        if error is None or isinstance(error, dns.exception.Timeout):
            return f"gave no answer within {self._timeout_s:g} s"
        if isinstance(error, str):  # the name of a response code
            return f"answers {error}"
        if isinstance(error, OSError):
            return f"cannot be asked ({_in_words(error)})"
        return f"answers rubbish ({_in_words(error)})"


def _negative_ttl_s(responses: Iterable[Any]) -> float:
    """How long it holds that there is no such name or record; inf where not all of these have a SOA to say so (RFC 2308)."""
    ttls = [one.resolve_chaining().minimum_ttl if _has(one, _SOA) else inf for one in responses]
    return float(inf if inf in ttls else min(ttls, default=inf))


def _came_along(response: Any) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for rrset in response.additional:
        if rrset.rdtype in (1, 28):  # A and AAAA
            name = name_text(rrset.name)
            found[name] = found.get(name, ()) + tuple(rdata.address for rdata in rrset)
    return found


def name_text(name: Any) -> str:
    """Write a name of dnspython's as people do, in lower case and without the dot at its end; "" for the root."""
    return str(name.to_text(omit_final_dot=True)).lower().removesuffix(".")


def _is_referral(response: Any) -> bool:
    """Whether a server only names others that may know (RFC 1034 section 4.3.1): it neither knows nor asks for us."""
    return _has(response, _NS) and not _has(response, _SOA)


def _has(response: Any, kind: int) -> bool:
    """Whether there is a record of this type in the part of an answer that says who knows."""
    return any(rrset.rdtype == kind for rrset in response.authority)


def _server(text: str) -> str:
    """Write a server as people do: dnspython calls it "Do53:10.0.0.2@53"."""
    host, _, port = text.partition(":")[2].rpartition("@")
    return _host_and_port_text(host, port)


def _host_and_port_text(host: str, port: object) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def _in_words(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
    return text[:1].lower() + text[1:].rstrip(".")
