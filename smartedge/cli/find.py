"""Which balancer a command means: told by --url or SMARTEDGE_URL, else the one that runs with this configuration.

A balancer that runs has written down where it answers (process/whereabouts.py), flags and port 0 included. The file's own word
counts where none of them has this file: one that runs with another state directory, or on another machine's copy.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

from smartedge.cli.errors import Stop
from smartedge.config.model import ConfigError, config_path, load
from smartedge.config.sources import Overlay
from smartedge.config.values import escaped, listen_name, printable
from smartedge.process.tls_settings import first_certificate
from smartedge.process.whereabouts import Whereabouts, running_edges, url_of

DEFAULT_BIND = "127.0.0.1:8080"
UNIX = "unix:"
"""How the address of a unix socket begins, before its path."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a balancer answers: what `find_target` returns, and `remote` asks.

    url: http://HOST:PORT, https://HOST:PORT, with a prefix or without, HOST:PORT, or unix:/PATH. cacert: PEM file of the
    authority that its certificate is of, None for those of the system. own_certificate: cacert is that certificate itself,
    whatever names it has.
    """

    url: str
    cacert: str | None = None
    own_certificate: bool = False

    @property
    def shown(self) -> str:
        """The address as it may stand in a message."""
        return escaped(self.url) if self.url.startswith(UNIX) else printable(self.url)


def find_target(url: str | None, cacert: str | None, config: str | None, env: Mapping[str, str]) -> Target:
    """Return where to ask. url, cacert, config: the flags, None for not given. Raises Stop where that is not clear."""
    if named := url or env.get("SMARTEDGE_URL", "").strip():
        return Target(named, cacert)
    file = os.path.realpath(config_path(config, env))
    edges = running_edges(env)
    same = [edge for edge in edges if edge.config == file and _is_trusted(edge, file)]
    if not same:
        where = _target_of_configuration(config, file, env)
        if where is None and not edges:
            where = Whereabouts(f"http://{DEFAULT_BIND}")
        if where is not None:
            _refuse_other_owner(where, edges, file)
            return _target(where, cacert)
    return _target(_only_one(same or edges), cacert)


def _target_of_configuration(config: str | None, file: str, env: Mapping[str, str]) -> Whereabouts | None:
    """Return what file and variables say; None if they are not there. Raises Stop when they are wrong."""
    if os.path.exists(file) or config:
        try:
            loaded = load(config, env)
        except ConfigError as error:
            raise Stop(f"{error}\n  so it is not known where the balancer answers: name it with --url") from error
        bind, admin_bind, secure, certificate = loaded.bind, loaded.admin_bind, loaded.speaks_tls, first_certificate(loaded)
    else:
        said = Overlay(env, {}).settings
        if not said.keys() & {"bind", "admin_bind"}:
            return None
        bind, admin_bind, certificate = said.get("bind", DEFAULT_BIND), said.get("admin_bind"), said.get("certfile")
        secure = bool(certificate)
    secure = secure and admin_bind is None
    try:
        name = listen_name(admin_bind or bind)
    except ValueError as error:
        raise Stop(f"{error}; name the balancer with --url") from error
    if not isinstance(name, str) and name[1] == 0:
        raise Stop("the port is 0, and no balancer that runs says which one it has got: name it with --url")
    return Whereabouts(url_of(name, secure=secure), file, os.path.abspath(certificate) if secure and certificate else None)


def _refuse_other_owner(where: Whereabouts, edges: list[Whereabouts], file: str) -> None:
    """Raise Stop where another balancer answers than the one that is meant, which does not run."""
    for edge in edges:
        if edge.url == where.url and edge.config != file and os.path.exists(file):
            theirs = escaped(str(edge.config))
            raise Stop(f"the balancer at {where.url} runs with {theirs}, not {escaped(file)}: name that with --config, or --url")


def _is_trusted(edge: Whereabouts, file: str) -> bool:
    """Whether an edge's word that it runs with this file counts: only its owner's and ours, for any user could write it down."""
    with contextlib.suppress(OSError):
        return edge.uid in (os.geteuid(), os.stat(file).st_uid)
    return edge.uid == os.geteuid()


def _only_one(edges: list[Whereabouts]) -> Whereabouts:
    """Return the one that there is; raises Stop when there are several."""
    if len(edges) > 1:
        lines = [f"  {edge.url}  {escaped(edge.config or 'without a file')}" for edge in edges]
        raise Stop("\n".join(["several balancers run here; name one with --url:", *lines]))
    return edges[0]


def _target(where: Whereabouts, cacert: str | None) -> Target:
    """A certificate that we can read vouches for itself: whoever shows it has its key."""
    if cacert is None and where.certificate is not None and os.access(where.certificate, os.R_OK):
        return Target(where.url, where.certificate, own_certificate=True)
    return Target(where.url, cacert)
