"""Whether what a configuration names can be used on this machine; asked by `check`, and by `run` before it serves."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from smartedge.config.model import Config, ConfigError, Problem
from smartedge.config.sources import DEFAULT_PATH, Overlay
from smartedge.config.values import Origin, listen_name, origin, shown
from smartedge.observe.log_writer import LogWriter
from smartedge.process.http2_needed import lacking_http2

Address = IPv4Address | IPv6Address

_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # as a destination, Linux takes them for this very machine


def check_usable(
    config: Config, env: Mapping[str, str], overrides: Mapping[str, Any], path: str | None, *, listens: bool = True
) -> None:
    """Raise ConfigError with all that can't be used, each by the name that it was given by.

    listens: we listen on `bind` ourselves; else the service manager or gunicorn does, somewhere.
    """
    where = Overlay(env, overrides).where
    found = [
        *_certificates(config, env),
        *_access_log(config),
        *_databases(config),
        *lacking_http2(config),
        *(_circles(config) if listens else ()),
    ]
    if found:
        problems = [Problem(where(steps), message) for steps, message in found]
        raise ConfigError(problems, status=422, origin=path or DEFAULT_PATH)


def _certificates(config: Config, env: Mapping[str, str]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    from smartedge.acme.renewals import missing_library  # late: only those who have one need OpenSSL for this
    from smartedge.http.server_tls import UnusableTls, read_shown
    from smartedge.http.tls import backend_context
    from smartedge.process.tls_settings import tls_settings

    if config.automatic_names and (missing := missing_library()):
        yield ("acme",), missing
    if (settings := tls_settings(config, env)) is not None:
        try:
            read_shown(settings, None)
        except UnusableTls as error:
            yield from error.problems
    for index, spec in enumerate(config.specs()):
        if spec.tls is not None:
            try:
                backend_context(spec.tls)
            except (OSError, ValueError) as error:  # an ssl.SSLError is an OSError
                yield ("backends", index, "tls"), f"cannot be used: {error}"


def _databases(config: Config) -> Iterator[tuple[tuple[str | int, ...], str]]:
    from smartedge.proxy.place_database import open_reader, what_is_wrong

    for service in config.all_services():
        path = service.config.locality.database
        if path is not None:
            try:
                open_reader(path)
            except (OSError, ValueError) as error:
                yield (*service.steps, "locality", "database"), f"names {shown(path)}, which {what_is_wrong(error)}"


def _access_log(config: Config) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if not isinstance(config.access_log, str):
        return
    there = os.path.lexists(config.access_log)
    try:
        LogWriter(config.access_log).close()
    except OSError as error:
        yield ("access_log",), f"{shown(config.access_log)} cannot be written: {error.strerror}"
        return
    if not there:
        os.unlink(config.access_log)  # whoever only looks leaves nothing behind


def _circles(config: Config) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Backends that are this edge itself: their requests would come back to it for ever."""
    for steps, backend in (
        ((*service.steps, "backends", index), backend)
        for service in config.all_services()
        for index, backend in enumerate(service.config.backends)
    ):
        there = origin(backend.url)
        for key in ("bind", "admin_bind", "http_bind"):
            bind = getattr(config, key)
            if bind is None:
                continue
            if _is_there(listen_name(bind), there):
                message = f"{shown(backend.url)} is this edge itself, which listens on {bind} ({key})"
                yield steps, f"{message}: its requests would go round in circles"


def _is_there(bound: str | tuple[str, int], there: Origin) -> bool:
    if isinstance(bound, str):
        return there.scheme == "unix" and os.path.realpath(there.host) == os.path.realpath(bound)
    host, port = bound
    return there.scheme != "unix" and port != 0 and there.port == port and _is_same(host, there.host)


def _is_same(bound: str, asked: str) -> bool:
    """Whether a connection to `asked` arrives at a listener on `bound`, both names or addresses, on the same port."""
    ours = {_plain(bound)} if bound in _ANY else _addresses(bound)
    for there in _addresses(_ANY.get(asked, asked)):
        if there in ours or (bound == "0.0.0.0" and there.version == 4 and _is_local(there)):
            return True
        if bound == "::" and _is_local(there):
            return True
    return False


def _addresses(host: str) -> set[Address]:
    if host == "localhost":  # with or without a line in /etc/hosts
        return {ip_address("127.0.0.1"), ip_address("::1")}
    try:
        return {_plain(host)}
    except ValueError:
        pass
    try:
        return {_plain(str(found[4][0])) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return set()


def _plain(text: str) -> Address:
    """Read an address; one of IPv4 in the clothes of IPv6 is that of IPv4."""
    found = ip_address(text.partition("%")[0])
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


def _is_local(there: Address) -> bool:
    """Whether an address is one of this machine's: a socket can be bound to it."""
    family = socket.AF_INET if there.version == 4 else socket.AF_INET6
    try:
        with closing(socket.socket(family, socket.SOCK_DGRAM)) as sock:
            sock.bind((str(there), 0))
    except OSError:
        return False
    return True
