"""What a running edge will need, looked at: what is wrong, and what to do; for the command `doctor`.

Nothing is changed, and no request but a probe is sent. Each check is a function that gives findings; the configuration comes
first, for without one there is little to look at.
"""

from __future__ import annotations

import errno
import http.client
import os
import re
import resource
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from random import Random
from typing import Final, Literal

from gevent.pool import Pool

from smartedge.balancer.backend import Backend
from smartedge.balancer.learned import Learned
from smartedge.config.model import Config, ConfigError, admin_token, load
from smartedge.config.values import listen_name, origin
from smartedge.discovery.ask_once import ask_once
from smartedge.discovery.menu import Surroundings, make_sources
from smartedge.edge.cautions import cautions
from smartedge.health.probe import HttpProbe
from smartedge.http.resources import FEWEST_DESCRIPTORS, OwnTrouble, most_clients
from smartedge.http.server_tls import UnusableTls, read_shown
from smartedge.process.preflight import check_usable
from smartedge.process.tls_settings import tls_settings
from smartedge.process.whereabouts import running_edges
from smartedge.workers.state_dir import StateDir, StateError, bases

Level = Literal["good", "warn", "bad"]

FEW_DESCRIPTORS: Final = 4096
SHORT_QUEUE: Final = 511
"""What nginx and gunicorn's own documents ask of net.core.somaxconn."""
DAY_S: Final = 86_400.0
SOON_S: Final = 14 * DAY_S
CLOCK_S: Final = 5.0
"""A backend whose Date is so far from ours: one of both clocks is wrong."""
FREE_BYTES: Final = 100 * 1024 * 1024
ASKED_AT_ONCE: Final = 32
SOURCE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has found. check: what was looked at. said: one sentence. remedy: what to do, empty when all is well."""

    level: Level
    check: str
    said: str
    remedy: str = ""


def examine(path: str, flags: Mapping[str, str | None]) -> Iterator[Finding]:
    """Give what there is to say, in the order of the checks. path: of the configuration file. flags: of `run`, by their key."""
    config = None
    try:
        config = load(path, os.environ, flags)
        token = admin_token(os.environ)
        check_usable(config, os.environ, flags, path)
        yield Finding("good", "configuration", f"{path} is right")
        for text in cautions(config, os.environ, has_token=token is not None):
            yield Finding("warn", "configuration", text)
    except ConfigError as error:
        for problem in error.problems:
            yield Finding("bad", "configuration", str(problem), f"mend {path}; `smartedge check` says it again")
    for check in (_descriptors, _queue, _state_directory, _server):
        yield from check()
    if config is not None:
        for of_config in (_processors, _ports, _certificates, _backends, _sources):
            yield from of_config(config, path)


# ---- the machine ----


def _descriptors() -> Iterator[Finding]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = None if hard == resource.RLIM_INFINITY else hard
    clients = most_clients(limit)
    if limit is not None and limit < FEW_DESCRIPTORS:
        remedy = "raise it: `ulimit -Hn 65536`, LimitNOFILE=65536 in a systemd unit, --ulimit nofile=65536 of a container"
        level: Level = "bad" if limit < FEWEST_DESCRIPTORS else "warn"
        yield Finding(level, "descriptors", f"at most {limit} may be open, enough for {clients:,} clients at a time", remedy)
    else:
        yield Finding("good", "descriptors", f"enough for {clients:,} clients at a time")


def _queue() -> Iterator[Finding]:
    text = _read("/proc/sys/net/core/somaxconn")
    if text is not None and int(text) < SHORT_QUEUE:
        remedy = "sysctl -w net.core.somaxconn=4096, and in /etc/sysctl.d/ for the next start"
        yield Finding("warn", "kernel", f"only {int(text)} new connections may wait to be accepted (net.core.somaxconn)", remedy)
    reach = _read("/proc/sys/net/ipv4/ip_local_port_range")
    if reach is not None:
        low, high = map(int, reach.split())
        if high - low < 10_000:
            remedy = 'sysctl -w net.ipv4.ip_local_port_range="10240 65000"'
            yield Finding("warn", "kernel", f"only {high - low:,} ports for connections to one backend", remedy)


def _state_directory() -> Iterator[Finding]:
    remedy = "name a directory of your own, mode 0700, on a local disk, by SMARTEDGE_STATE_DIR"
    try:
        StateDir.check(os.environ)
    except StateError as error:
        yield Finding("bad", "state directory", str(error), remedy)
        return
    base = bases(os.environ)[0]
    there = next(path for path in (base, *base.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < FREE_BYTES:
        yield Finding("bad", "state directory", f"{free // 1024:,} kB are free at {there}", "make room: the board needs some MB")
    elif _filesystem(there) in ("nfs", "nfs4", "cifs", "fuse.sshfs", "9p"):
        yield Finding("warn", "state directory", f"{there} is on a file system of another machine", remedy)
    else:
        yield Finding("good", "state directory", f"{base} can be used")


def _server() -> Iterator[Finding]:
    """Look for what is known to go wrong with gevent and gunicorn."""
    words = os.environ.get("GUNICORN_CMD_ARGS", "")
    worker = re.search(r"(?:-k|--worker-class)[ =]?(\S+)", words)
    if worker and worker[1] not in ("gevent", "smartedge.worker.EdgeWorker"):
        remedy = "take -k smartedge.worker.EdgeWorker, or -k gevent"
        yield Finding("bad", "gunicorn", f"GUNICORN_CMD_ARGS has the worker {worker[1]}, which no greenlet runs under", remedy)
    if "ares" in os.environ.get("GEVENT_RESOLVER", ""):
        remedy = "unset GEVENT_RESOLVER"
        yield Finding("warn", "gevent", "GEVENT_RESOLVER=ares reads neither nsswitch.conf nor all of resolv.conf", remedy)
    if "uv" in os.environ.get("GEVENT_LOOP", ""):
        yield Finding("warn", "gevent", "GEVENT_LOOP=libuv takes 20% more of the processor than libev", "unset GEVENT_LOOP")
    if os.environ.get("GEVENT_MONITOR_THREAD_ENABLE"):
        yield Finding(
            "warn", "gevent", "its monitor thread is on, which is for finding faults", "unset GEVENT_MONITOR_THREAD_ENABLE"
        )


# ---- what the configuration names ----


def _processors(config: Config, _path: str) -> Iterator[Finding]:
    have = len(os.sched_getaffinity(0))
    if isinstance(config.workers, int) and config.workers > have:
        remedy = 'set workers to "auto"'
        yield Finding("warn", "processors", f"{config.workers} workers for {have} processors take turns", remedy)


def _ports(config: Config, path: str) -> Iterator[Finding]:
    file = os.path.realpath(path)
    if any(edge.config == file for edge in running_edges(os.environ)):
        yield Finding("good", "ports", "an edge runs with this configuration")
        return
    for key in ("bind", "admin_bind", "http_bind"):
        address = getattr(config, key)
        name = None if address is None else listen_name(address)
        if isinstance(name, str) and not os.path.isdir(os.path.dirname(os.path.abspath(name))):
            yield Finding("bad", "ports", f"{key} is in a directory that is not there: {address}", "make it, or name another")
        elif isinstance(name, tuple):
            yield from _can_listen(key, address, name)


def _can_listen(key: str, address: str, name: tuple[str, int]) -> Iterator[Finding]:
    try:
        family, kind, protocol, _, there = socket.getaddrinfo(*name, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with closing(socket.socket(family, kind, protocol)) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(there)
            sock.listen(1)
    except OSError as error:
        remedy = {
            errno.EADDRINUSE: f"end who listens there (ss -ltnp 'sport = :{name[1]}'), or take another port",
            errno.EACCES: "give it CAP_NET_BIND_SERVICE (AmbientCapabilities= in a unit), or take a port from 1024 on",
            errno.EADDRNOTAVAIL: "take an address of this machine",
        }.get(error.errno or 0, "take another address")
        yield Finding("bad", "ports", f"{key}: cannot listen on {address}: {(error.strerror or str(error)).lower()}", remedy)
    else:
        yield Finding("good", "ports", f"{key}: {address} is free")


def _certificates(config: Config, _path: str) -> Iterator[Finding]:
    settings = tls_settings(config, os.environ)
    if settings is None:
        return
    try:
        shown = read_shown(settings, None)
    except UnusableTls:
        return  # said with the configuration
    for one in shown.certificates:
        left_s, names = one.expires_at - time.time(), ", ".join(one.names) or one.files.cert_file
        if left_s < 0:
            yield Finding("bad", "certificates", f"{names}: has expired {_days(-left_s)} ago", f"renew {one.files.cert_file}")
        elif left_s < SOON_S:
            yield Finding("warn", "certificates", f"{names}: expires in {_days(left_s)}", f"renew {one.files.cert_file}")
        elif one.begins_at > time.time():
            yield Finding(
                "bad", "certificates", f"{names}: begins in {_days(one.begins_at - time.time())}", "is the clock right?"
            )
        else:
            yield Finding("good", "certificates", f"{names}: good for {_days(left_s)}")


def _backends(config: Config, _path: str) -> Iterator[Finding]:
    probe = HttpProbe()
    members = [Backend(spec, Learned(spec), None) for spec in config.specs()]
    yield from (one for found in Pool(ASKED_AT_ONCE).imap(lambda member: list(_probed(probe, member)), members) for one in found)


def _probed(probe: Callable[[Backend], object], member: Backend) -> Iterator[Finding]:
    spec = member.spec
    name = f"{spec.name} {spec.url}"
    try:
        result = probe(member)
    except OwnTrouble as error:
        yield Finding("bad", "backends", f"{name} could not be asked: {error}", "this is trouble of this machine")
        return
    ok, detail = result.ok, result.detail  # type: ignore[attr-defined]
    if not ok:
        remedy = "start it, or mend its URL; `health` in the configuration says what is asked"
        yield Finding("bad", "backends", f"{name}: {spec.health.question}: {detail}", remedy)
        return
    yield Finding("good", "backends", f"{name}: {detail}")
    behind_s = _clock_difference(spec.url)
    if behind_s is not None and abs(behind_s) > CLOCK_S:
        word = "ahead of" if behind_s > 0 else "behind"
        remedy = "have both machines keep time (systemd-timesyncd, chrony): logs, cookies and certificates go by it"
        yield Finding("warn", "clock", f"{name}: its clock is {abs(behind_s):.0f} s {word} ours", remedy)


def _clock_difference(url: str) -> float | None:
    """Say how far a backend's Date is from our time, in seconds; None where it says none, or is no plain HTTP server."""
    where = origin(url)
    if where.scheme != "http" or where.port is None:
        return None
    connection = http.client.HTTPConnection(where.host, where.port, timeout=2.0)
    try:
        with closing(connection):
            connection.request("HEAD", "/")
            said = connection.getresponse().getheader("Date")
        return None if said is None else parsedate_to_datetime(said).timestamp() - time.time()
    except (OSError, ValueError, http.client.HTTPException):
        return None


def _sources(config: Config, path: str) -> Iterator[Finding]:
    around = Surroundings(os.path.dirname(os.path.abspath(path)), config.resolve_s, os.environ, Random())
    for service in config.all_services():
        if service.config.discover is None:
            continue
        for made in make_sources(service.config.discover, around):
            answer, name = ask_once(made, SOURCE_S), f"{service.name} ({made.kind})"
            if answer.problem:
                yield Finding("bad", "sources", f"{name}: {answer.problem}", f"`smartedge discover {service.name}` asks it again")
            else:
                level: Level = "warn" if answer.findings or not answer.backends else "good"
                said = f"{name}: {len(answer.backends)} backends"
                yield Finding(level, "sources", "; ".join([said, *answer.findings]))


# ---- small things ----


def _days(seconds: float) -> str:
    days = int(seconds / DAY_S)
    return f"{days} days" if days > 1 else f"{seconds / 3600:.0f} h"


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None


def _filesystem(path: Path) -> str:
    """Return the kind of the file system that a path is on, empty where nobody says it."""
    mounts = [line.split() for line in (_read("/proc/self/mounts") or "").splitlines()]
    found = [(mount[1], mount[2]) for mount in mounts if os.path.commonpath([str(path), mount[1]]) == mount[1]]
    return max(found, key=lambda one: len(one[0]), default=("", ""))[1]
