"""Where the edges of this machine answer their operator: written by each into its state directory, read by the commands.

    edge.json    {"url": "http://127.0.0.1:8091", "config": "/etc/smartedge/backends.json", "certificate": null}

The url is that of the admin pages. It goes with the directory, when the edge's last worker ends.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from smartedge.config.model import Config
from smartedge.config.private_file import write_private
from smartedge.process.gunicorn_worker import gunicorn_worker
from smartedge.process.tls_settings import first_certificate
from smartedge.workers.state_dir import StateDir, bases, is_alive

log = logging.getLogger(__name__)

FILE: Final = "edge.json"
MOST_BYTES: Final = 65536
_NEAR: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where an edge answers. config: its file, absolute, that there may not be. certificate: its PEM file.

    uid: whose it is, which `running` adds.
    """

    url: str
    config: str | None = None
    certificate: str | None = None
    uid: int | None = None


def url_of(name: object, *, secure: bool = False) -> str:
    """Return the URL for the name of a listening socket, as Python has it: a path, or host and port first."""
    if isinstance(name, str | bytes):
        return f"unix:{os.path.abspath(os.fsdecode(name))}"
    assert isinstance(name, tuple)
    host = _NEAR.get(str(name[0]), str(name[0]))
    return f"{'https' if secure else 'http'}://{f'[{host}]' if ':' in host else host}:{name[1]}"


def whereabouts_of(config: Config, path: str | None, listeners: Sequence[Any]) -> Whereabouts | None:
    """Say where an edge answers its operator; None if that can't be known.

    path: of its file. listeners: the names of its sockets, that of the admin pages last; where our own server did not say,
    gunicorn's worker is asked.
    """
    secure = config.speaks_tls and config.admin_bind is None
    certificate = first_certificate(config) if secure else None
    if not listeners and (worker := gunicorn_worker()) is not None:
        try:
            listeners = [sock.getsockname() for sock in worker.sockets]
        except OSError:
            return None  # it ends before it has begun
        if worker.cfg.is_ssl:
            secure, certificate = True, worker.cfg.certfile
        elif not getattr(worker, "speaks_tls", False):  # smartedge.worker's does, where the configuration has certificates
            secure, certificate = False, None
        if config.admin_bind is not None:
            return None  # gunicorn knows nothing of it: admin_door.py opens it, and says so
    if not listeners:
        return None
    return Whereabouts(
        url_of(listeners[-1], secure=secure),
        None if path is None else os.path.realpath(path),
        None if certificate is None else os.path.abspath(certificate),
    )


def certificates_unused(config: Config) -> bool:
    """Whether gunicorn speaks TLS itself, or not at all, and the configuration has certificates that nobody is shown."""
    worker = gunicorn_worker()
    unused = worker is not None and not getattr(worker, "speaks_tls", False)
    return unused and bool(config.certificates or config.certificates_dir)


def clients_port(listeners: Sequence[Any]) -> int | None:
    """Return the port that clients connect to, None if that can't be known. listeners: see `whereabouts_of`."""
    first = clients_listener(listeners)
    return int(first[1]) if isinstance(first, tuple) else None


def clients_listener(listeners: Sequence[Any]) -> Any:
    """Return the name of the socket that clients connect to, None if that can't be known. listeners: see `whereabouts_of`."""
    worker = gunicorn_worker()
    return worker.sockets[0].getsockname() if worker is not None else next(iter(listeners), None)


def write_whereabouts(state: StateDir | None, where: Whereabouts | None) -> None:
    """Have the commands find this edge, which works without that too. Every worker of it may: they all say the same."""
    if state is None or where is None:
        return
    text = json.dumps({name: said for name, said in asdict(where).items() if name != "uid"})
    try:
        write_private(state.path / FILE, text.encode(), sync=False)
    except OSError as error:
        log.warning("commands do not find this edge without --url: %s", error)


def running_edges(env: Mapping[str, str] = os.environ) -> list[Whereabouts]:
    """Return where the edges of this user that run now answer; root's question is for those of all users."""
    found = {}
    for base in bases(env):
        for home in _homes(base):
            for path in _entries(home):
                if (where := _read(path / FILE)) is not None and is_alive(path):
                    found[where.url] = replace(where, uid=int(home.name.rpartition("-")[2]))
    return list(found.values())


def _homes(base: Path) -> Iterator[Path]:
    """Give the directories in which users keep their edges': those that are really theirs, and that we may read."""
    us = os.geteuid()
    names = base.glob("smartedge-*") if us == 0 else [base / f"smartedge-{us}"]
    for home in names:
        with contextlib.suppress(OSError):
            found = home.lstat()
            if stat.S_ISDIR(found.st_mode) and home.name == f"smartedge-{found.st_uid}" and not found.st_mode & 0o022:
                yield home


def _entries(home: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(home.iterdir())
    return []


def _read(path: Path) -> Whereabouts | None:
    """Read what an edge has written; None if that is nothing, or of another version."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as file:
            said: Any = json.loads(file.read(MOST_BYTES))
        where = Whereabouts(**said)
    except (OSError, ValueError, TypeError):
        return None
    known = (where.url, where.config or "", where.certificate or "")
    return where if all(isinstance(text, str) for text in known) else None
