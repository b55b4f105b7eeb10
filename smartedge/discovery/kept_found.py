"""What sources have found last, kept on disk beside the configuration: for a start while they are silent.

`.backends.json.found.json` holds, for each service and kind of source, what the source was asked, when it last answered, and its
backends. It is replaced whole, mode 0600. What another question was asked of is not used.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from smartedge.config.backends import BackendConfig
from smartedge.config.discover import SourceConfig
from smartedge.config.found import parse_backends, text_of
from smartedge.config.private_file import write_private

log = logging.getLogger("smartedge")

_NO_QUESTION = {"allow_empty", "defaults", "every_s", "timeout_s", "min_ttl_s", "max_ttl_s"}
"""Keys of which another value does not make what was found before that of somebody else."""


class KeptSet(NamedTuple):
    """What one source has found. answered_at: Unix time of its last good answer."""

    answered_at: float
    backends: tuple[BackendConfig, ...]


class KeptFound:
    """The file with the last good sets; owned by a `Discovery`. config_path: of the configuration's file, None keeps nothing.

    What cannot be read or written is said once, and nothing else happens.
    """

    def __init__(self, config_path: str | None) -> None:
        self.path = None
        if config_path is not None:
            folder, name = os.path.split(config_path)
            self.path = os.path.join(folder, f".{name}.found.json")
        self._said = ""

    def read(self, asked: Mapping[tuple[str, str], SourceConfig]) -> dict[tuple[str, str], KeptSet]:
        """Return what the file has of these sources; of none where there is no file, or it cannot be read."""
        if self.path is None:
            return {}
        kept = {}
        try:
            with open(self.path, "rb") as file:
                services = json.load(file)
            for (service, kind), source in asked.items():
                entry = services.get(service, {}).get(kind)
                if entry is not None and entry["asked"] == question(source):
                    kept[service, kind] = KeptSet(float(entry["answered_at"]), parse_backends(entry["backends"]))
        except FileNotFoundError:
            return {}
        except OSError as error:
            self._say(f"what was discovered before cannot be read: {self.path}: {error.strerror}")
        except (ValueError, TypeError, AttributeError, KeyError):
            self._say(f"what was discovered before cannot be read: {self.path} holds something else")
            return {}
        return kept

    def write(self, sets: Mapping[tuple[str, str], tuple[SourceConfig, KeptSet]]) -> None:
        """Replace the file."""
        if self.path is None:
            return
        services: dict[str, dict[str, str]] = {}
        for (service, kind), (source, kept) in sets.items():
            head = json.dumps({"asked": question(source), "answered_at": round(kept.answered_at, 3)})[:-1]
            services.setdefault(service, {})[kind] = f'{head}, "backends": {text_of(kept.backends)}}}'
        text = _object({service: _object(kinds) for service, kinds in services.items()})
        try:
            write_private(Path(self.path), text.encode(), sync=False)  # it may change every half second
            self._said = ""
        except OSError as error:
            self._say(f"what was discovered cannot be kept for the next start: {self.path}: {error.strerror}")

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            log.warning("%s", text)


def question(source: SourceConfig) -> str:
    """Return a digest of what a source is asked, apart from how often, and what becomes of its answers."""
    text = json.dumps(source.model_dump(mode="json", exclude=_NO_QUESTION), sort_keys=True)
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _object(members: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in members.items()) + "}\n"
