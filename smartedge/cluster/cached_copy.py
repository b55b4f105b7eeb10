"""What a node has kept of its cluster on its own disk, for a start while etcd is away."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from smartedge.cluster.errors import Foreign
from smartedge.cluster.secret_keys import secrets_of
from smartedge.cluster.stored import stored_of
from smartedge.cluster.view import View
from smartedge.config.private_file import write_private

MOST_BYTES: Final = 64 * 1024 * 1024


class CopyDamaged(Exception):
    """The copy cannot be used; `str()` is a sentence that names the file and what is wrong."""


class CachedCopy:
    """The file `.NAME.cluster.json` beside the configuration file; read at the start of a node, written when something changes.

    It holds the configuration, what the operator has said, and the secrets, so it is for its owner alone (0600). prefix,
    endpoints: of the cluster. The copy of another one, by its prefix or because all endpoints are others, is not used: a node
    that has moved would put the configuration of its old cluster into the new one.
    """

    def __init__(self, config_path: str | os.PathLike[str], prefix: str, endpoints: Sequence[str] = ()) -> None:
        config = Path(config_path)
        self.path = config.with_name(f".{config.name}.cluster.json")
        self._prefix = prefix
        self._endpoints = tuple(endpoints)

    def read(self) -> View | None:
        """Return what was kept, None for nothing; raises CopyDamaged. Its revision is 0, for who knows how old it is."""
        try:
            with open(os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
                data = file.read(MOST_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CopyDamaged(
                f"{self.path}, the copy of the cluster's configuration, cannot be read: {error.strerror}"
            ) from error
        head, _, body = data.partition(b"\n")
        if head != _digest(body):
            raise CopyDamaged(f"{self.path}, the copy of the cluster's configuration, is damaged, and not used")
        try:
            return self._view(json.loads(body))
        except (ValueError, KeyError, TypeError, AttributeError, Foreign) as error:
            raise CopyDamaged(f"{self.path} is no copy of a cluster's configuration: {error}") from error

    def write(self, view: View) -> None:
        """Replace it; raises OSError, after which the old one is there."""
        body = json.dumps(
            {
                "prefix": self._prefix,
                "endpoints": self._endpoints,
                "config": view.stored.to_value().decode("utf-8", "surrogatepass") if view.stored else None,
                "secrets": view.secrets.to_value().decode() if view.secrets else None,
                "will": dict(view.will),
            }
        ).encode()
        write_private(self.path, _digest(body) + b"\n" + body)

    def _view(self, found: Any) -> View | None:
        if found["prefix"] != self._prefix:
            return None
        if self._endpoints and {*self._endpoints}.isdisjoint(found["endpoints"]):
            return None
        config, secrets = found["config"], found["secrets"]
        return View(
            stored=stored_of(config.encode("utf-8", "surrogatepass"), "config") if config else None,
            will=dict(found["will"]),
            secrets=secrets_of(secrets.encode(), "secrets") if secrets else None,
        )


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()
