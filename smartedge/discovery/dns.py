"""Names in DNS as sources of backends: every address of a name, or what its SRV records say; asked again when that expires.

Where the name is local (/etc/hosts), or dnspython is not installed, the system's resolver is asked for its addresses; that says
nothing of how long they hold.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf
from random import Random
from typing import Any, Final, NamedTuple

import gevent
from gevent.pool import Pool

from smartedge.config.discover import DnsConfig
from smartedge.discovery import srv
from smartedge.discovery.name_servers import NameServers, Records, has_dnspython, name_text
from smartedge.discovery.names import LookUp, look_up, reachable
from smartedge.discovery.source import Entry, SourceError

FAMILIES: Final = ("A", "AAAA")

AT_ONCE: Final = 16
"""Targets of SRV records that are looked up at the same time."""

GRACE_S: Final = 0.3
"""How long one family of addresses is waited for that never was there, once the other has come: many servers drop AAAA."""

JITTER_S: Final = 0.5
JITTER_RATIO: Final = 0.1
"""How much later than at the end of its TTL a name is asked for at most, so that not all edges ask at once."""

ROUTES_S: Final = 60.0
"""How long it is believed which addresses this machine has a way to; to ask the kernel costs 10 µs for each."""

HOSTS_FILE: Final = "/etc/hosts"


class Addresses(NamedTuple):
    """What a name leads to. ttl_s: how long that holds, inf where nobody says.

    problem: what else could not be asked, which keeps what it last was.
    """

    ips: tuple[str, ...]
    ttl_s: float
    problem: str = ""


class DnsSource:
    """The backends that a name in DNS has; asked by a `SourceRunner`, one object for all its lives, so that it remembers.

    What part of an answer fails (one family of addresses, one target of many) stays as it last was, and is an error besides.

    resolve_s: how often the system's resolver is asked. rng: where chance comes from.
    ttl_s: how long the last answer holds. why_empty: why there was nothing in it. Both are for people.
    """

    def __init__(
        self,
        said: DnsConfig,
        resolve_s: float,
        rng: Random,
        servers: NameServers | None = None,
        look_up: LookUp = look_up,
        hosts_file: str = HOSTS_FILE,
    ) -> None:
        self.ttl_s: float | None = None
        self.why_empty = self._why = ""
        self._said = said
        self._resolve_s = resolve_s
        self._rng = rng
        self._servers = servers or (NameServers(said.servers, said.timeout_s) if has_dnspython() else None)
        self._look_up = look_up
        self._hosts_file = hosts_file
        self._kept: dict[tuple[str, str], tuple[str, ...]] = {}
        self._routes: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._routes_at = 0.0

    def snapshots(self) -> Iterator[Sequence[Entry]]:
        """Yield what the name has, and again after each look-up."""
        while True:
            self._why = ""  # apart: what was said of the answer before holds until there is another one
            entries, ttl_s, problem = self._ask_srv() if self._said.type == "SRV" else self._ask_addresses()
            if ttl_s == inf:  # an empty answer with no word of how long that holds: not to be kept (RFC 2308 section 5)
                ttl_s = 0.0
            self.ttl_s, self.why_empty = ttl_s, self._why
            yield entries
            if problem:
                raise SourceError(problem)
            gevent.sleep(self.wait_s(ttl_s))

    def wait_s(self, ttl_s: float) -> float:
        """Return how long to wait for the next look-up."""
        held_s = min(max(ttl_s, self._said.min_ttl_s), self._said.max_ttl_s)
        return held_s + self._rng.uniform(0, min(JITTER_S, held_s * JITTER_RATIO))

    def _ask_addresses(self) -> tuple[Sequence[Entry], float, str]:
        found = self._addresses(self._said.name)
        urls = [srv.url_of(self._said.scheme, ip, self._said.port or 0) for ip in found.ips]
        if self._said.scheme == "https":
            return [self._entry(url, {"server_name": self._said.name.rstrip(".")}) for url in urls], found.ttl_s, found.problem
        return urls, found.ttl_s, found.problem

    def _ask_srv(self) -> tuple[Sequence[Entry], float, str]:
        assert self._servers is not None  # refused by the configuration's check
        records = self._servers.ask(self._said.name, "SRV")
        targets = [srv.SrvRecord(name_text(one.target), one.port, one.priority, one.weight) for one in records.data]
        self._why = _why_empty(self._said.name, "SRV", records)
        if targets and not any(one.host for one in targets):  # "." (RFC 2782)
            self._why = f"{self._said.name} says that there is no such service"
        hosts = dict.fromkeys(one.host for one in targets if one.host)
        known = {host: Addresses(self._usable(records.came_along.get(host, ())), records.ttl_s) for host in hosts}
        lacking = [host for host in hosts if not known[host].ips]
        known |= dict(zip(lacking, Pool(AT_ONCE).map(self._addresses_or_problem, lacking), strict=True))
        self._kept = {key: ips for key, ips in self._kept.items() if key[0] in hosts}
        addresses = {host: one.ips for host, one in known.items()}
        problem = next((one.problem for one in known.values() if one.problem), "")
        if problem and not any(addresses.values()):
            raise SourceError(problem)
        entries = srv.entries_of(targets, addresses, self._said.scheme)
        return [self._entry(**entry) for entry in entries], min([records.ttl_s, *(one.ttl_s for one in known.values())]), problem

    def _entry(self, url: str, tls: Mapping[str, Any] | None = None, **more: Any) -> Entry:
        """Make an entry; a server_name that the operator has written for all found ones counts."""
        written = self._said.entry_defaults.get("tls") or {}
        return {"url": url, **more} if tls is None or written.get("server_name") else {"url": url, "tls": tls, **more}

    def _addresses_or_problem(self, host: str) -> Addresses:
        """Look up a target of SRV records; what fails is no error of the others."""
        try:
            return self._addresses(host)
        except SourceError as error:
            kept = tuple(ip for family in FAMILIES for ip in self._kept.get((host, family), ()))
            return Addresses(kept, self._said.max_ttl_s, str(error))

    def _addresses(self, name: str) -> Addresses:
        """Look a name up, wherever it is to be looked up; raises SourceError."""
        if self._servers is None or (not self._said.servers and _is_local(name, self._hosts_file)):
            return self._ask_system(name)
        found = self._ask_families(name)
        if found.ips or self._said.servers:
            return found
        try:  # what this machine knows by other ways than DNS and /etc/hosts
            return self._ask_system(name)
        except SourceError:
            return found

    def _ask_system(self, name: str) -> Addresses:
        try:
            ips = self._look_up(name)
        except (OSError, UnicodeError) as error:
            raise SourceError(f"{name}: {str(getattr(error, 'strerror', None) or error).lower()}") from None
        return Addresses(self._usable(ips), self._resolve_s)

    def _ask_families(self, name: str) -> Addresses:
        asked = {family: gevent.spawn(self._ask_family, name, family) for family in FAMILIES}
        gevent.wait(list(asked.values()), count=1)
        hoped_for = all(self._kept.get((name, family)) for family in FAMILIES)
        first = next(one.value for one in asked.values() if one.ready())
        came = isinstance(first, Records) and first.data
        gevent.joinall(list(asked.values()), timeout=GRACE_S if came and not hoped_for else None)
        gevent.killall([one for one in asked.values() if not one.ready()], block=False)
        late = SourceError(f"{name}: one family of addresses did not come in time")
        return self._joined(name, {family: one.value if one.successful() else late for family, one in asked.items()})

    def _usable(self, ips: Iterable[str]) -> tuple[str, ...]:
        """Leave out what is no server's address (a blocking resolver says 0.0.0.0), and what this machine has no way to."""
        given = tuple(ip for ip in dict.fromkeys(ips) if _is_a_servers(ip))
        if (now := time.monotonic()) - self._routes_at > ROUTES_S:
            self._routes, self._routes_at = {}, now
        if given not in self._routes:
            self._routes[given] = tuple(reachable(list(given)))
        return self._routes[given]

    def _ask_family(self, name: str, family: str) -> Records | SourceError:
        assert self._servers is not None
        try:
            return self._servers.ask(name, family)
        except SourceError as error:
            return error

    def _joined(self, name: str, found: Mapping[str, Records | SourceError]) -> Addresses:
        """Put both families together; one that could not be asked is as it last was."""
        errors = {family: one for family, one in found.items() if isinstance(one, SourceError)}
        answers = {family: one for family, one in found.items() if isinstance(one, Records)}
        said = {family: tuple(sorted(str(rdata.address) for rdata in one.data)) for family, one in answers.items()}
        kept = {family: self._kept.get((name, family), ()) for family in errors}
        ips = [ip for family in FAMILIES for ip in said.get(family, kept.get(family, ()))]
        if errors and not any(said.values()):
            raise next(iter(errors.values()))
        self._why = self._why or _why_empty(name, "A or AAAA", *answers.values())
        if ips:
            self._kept |= {(name, family): ips for family, ips in said.items()}
        problem = next((str(error) for family, error in errors.items() if kept[family]), "")
        return Addresses(self._usable(ips), min(one.ttl_s for one in answers.values()), problem)


def _why_empty(name: str, kinds: str, *records: Records) -> str:
    if any(one.data for one in records):
        return ""
    return f"{name} has no {kinds} record" if all(one.exists for one in records) else f"{name} does not exist"


def _is_a_servers(ip: str) -> bool:
    address = ipaddress.ip_address(ip)
    return not (address.is_unspecified or address.is_multicast)


def _is_local(name: str, hosts_file: str) -> bool:
    """Whether a name is of this machine: in its hosts file, or localhost (RFC 6761 section 6.3)."""
    plain = name.lower().rstrip(".")
    if plain == "localhost" or plain.endswith(".localhost"):
        return True
    try:
        with open(hosts_file, encoding="utf-8", errors="replace") as file:
            return any(plain in line.partition("#")[0].lower().split()[1:] for line in file)
    except OSError:
        return False
