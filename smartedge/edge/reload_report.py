"""What a reload did: the answer to whoever asked for it, and one line for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from smartedge.balancer.spec import name_backend
from smartedge.config.problems import path_text
from smartedge.workers.generations import Confirmed
from smartedge.workers.periodic import in_pieces

if TYPE_CHECKING:
    from smartedge.config.model import Config

# What a process cannot change about itself while it runs: its listeners, and how many there are of it.
RESTART_KEYS = ("bind", "admin_bind", "http_bind", "workers", "cluster")
CERTIFICATE_KEYS = ("certfile", "certificates", "certificates_dir")


@dataclass(frozen=True, slots=True)
class Applied:
    """What a reload did; returned by the Reloader, announced and shown by the Edge.

    config: what was put to use, which another reload may have replaced since. generation: its number. changed: False when it
    was in use already; the number stays then, unless the certificate was renewed. added, removed, changed_backends: names of
    backends. settings_changed: the keys that differ, those of services as `services.web.strategy`, without `backends`.
    restart_needed: keys whose value waits for a restart, since this reload or an earlier one. certificate_renewed: whether
    new connections of clients are shown another certificate than before. files_renewed: the keys whose files hold something
    else than before, though the keys are the same. persisted: whether a restart would find this configuration. took_s:
    seconds. live, applied: how many workers there are, and how many of them have it. late: slot and process number of each
    of the others. on_trial: persisted when it is confirmed.
    """

    config: Config
    generation: int
    changed: bool
    etag: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed_backends: tuple[str, ...]
    settings_changed: tuple[str, ...]
    restart_needed: tuple[str, ...]
    took_s: float
    persisted: bool
    live: int = 1
    applied: int = 1
    certificate_renewed: bool = False
    files_renewed: tuple[str, ...] = ()
    late: tuple[tuple[int, int], ...] = ()
    on_trial: bool = False

    def confirmed(self, by: Confirmed, took_s: float) -> Applied:
        """Return the same with the workers that have confirmed it."""
        late = tuple(sorted(by.late.items()))
        return replace(self, live=by.live, applied=by.live - len(late), late=late, took_s=took_s)

    @property
    def message(self) -> str:
        """One line for people."""
        if not self.changed and not self.certificate_renewed and not self.files_renewed:
            parts = [f"unchanged: generation {self.generation} has been in use"]
        else:
            counts = {"added": self.added, "removed": self.removed, "changed": self.changed_backends}
            parts = [f"generation {self.generation} applied by {self.applied}/{self.live} workers in {self.took_s * 1000:.0f} ms"]
            parts += [f"{what} {', '.join(ids)}" for what, ids in counts.items() if ids]
            if self.settings_changed:
                parts.append(f"settings changed: {', '.join(self.settings_changed)}")
        if self.certificate_renewed:
            parts.append("certificate renewed")
        if others := [key for key in self.files_renewed if key not in CERTIFICATE_KEYS]:
            parts.append(f"files of {', '.join(others)} renewed")
        if self.late:
            parts.append("late: " + ", ".join(f"slot {slot} (process {pid})" for slot, pid in self.late))
        if self.restart_needed:
            parts.append(f"only after a restart: {', '.join(self.restart_needed)}")
        if not self.persisted and not self.on_trial:
            parts.append("not persisted, for there is no file")
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """The body of the answer to POST /api/reload."""
        document = {field.name: getattr(self, field.name) for field in fields(self)}  # asdict copies hundreds of names one by one
        del document["on_trial"], document["config"]
        workers = {"applied": document.pop("applied"), "live": document.pop("live")}
        if late := document.pop("late"):
            workers["late"] = [{"slot": slot, "pid": pid} for slot, pid in late]
        return document | {"workers": workers, "message": self.message}


def report(
    old: Config,
    new: Config,
    at_start: dict[str, Any],
    number: int,
    confirmed: Confirmed,
    *,
    changed: bool,
    renewed: tuple[str, ...],
    persisted: bool,
    took_s: float,
) -> Applied:
    """Compare two configurations, and `at_start`, the settings that this process began with (see `settings_of`).

    changed: they are not the same. Requests go on in between.
    """
    before, after = (_backends(old, new), _backends(new, old)) if changed else ({}, {})
    was, settings = settings_of(old), settings_of(new)
    return Applied(
        config=new,
        generation=number,
        changed=changed,
        etag=new.etag,
        added=tuple(label for label in after if label not in before),
        removed=tuple(label for label in before if label not in after),
        changed_backends=tuple(label for label in after if label in before and after[label] != before[label]),
        settings_changed=tuple(key for key in _differing(was, settings) if not _goes_without_saying(key, was, settings)),
        restart_needed=tuple(key for key in _differing(at_start, settings) if _needs_restart(key, at_start, settings)),
        took_s=took_s,
        persisted=persisted,
        live=confirmed.live,
        applied=confirmed.live - len(confirmed.late),
        certificate_renewed=any(key in CERTIFICATE_KEYS for key in renewed),
        files_renewed=renewed,
        late=tuple(sorted(confirmed.late.items())),
    )


def settings_of(config: Config) -> dict[str, Any]:
    """All that a configuration says but for its backends, as plain data.

    A service is there as `services.web`, and what it goes by as `services.web.strategy`.
    """
    settings = config.model_dump(mode="json", exclude={"backends", "services"})
    for name, service in config.services.items():
        path = path_text(("services", name))
        settings[path] = True
        settings |= {f"{path}.{key}": value for key, value in service.settings.items()}
    return settings


def _needs_restart(key: str, at_start: dict[str, Any], settings: dict[str, Any]) -> bool:
    """Whether another value of this key waits for a restart: a listener stays, and whether it speaks TLS."""
    if key in CERTIFICATE_KEYS:
        return any(at_start[one] for one in CERTIFICATE_KEYS) != any(settings[one] for one in CERTIFICATE_KEYS)
    return key in RESTART_KEYS


def _goes_without_saying(key: str, was: dict[str, Any], settings: dict[str, Any]) -> bool:
    """Whether a service's setting is another only because the service is new or gone, or because the same key at the top is."""
    service, _, above = key.rpartition(".")
    if service in ("", "services"):
        return False
    if service not in was or service not in settings:
        return True
    return _changes(was[key], settings[key]) == _changes(was[above], settings[above])


def _changes(before: Any, after: Any) -> object:
    """What differs between two values, inside of sections by key."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return before, after
    return {key: (before.get(key), after.get(key)) for key in before | after if before.get(key) != after.get(key)}


def _backends(config: Config, other: Config) -> dict[str, str]:
    """Each backend as it is written out, by its name, of services that are not the same in the other configuration.

    (Models are equal too when a default was written and when it was not, and to compare the texts, which there are, is quicker.)
    """
    return {
        name_backend(service.name, backend.id): backend.canonical
        for service in config.all_services()
        if service.config is not other.services.get(service.name)
        for backend in in_pieces(service.config.backends)
    }


def _differing(before: dict[str, Any], after: dict[str, Any]) -> tuple[str, ...]:
    return tuple(key for key in before | after if after.get(key) != before.get(key))


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a reload has done. status: 200, or 202 when a worker has not confirmed in time. document: the answer.

    config: what was put to use, which another reload may have replaced since.
    """

    status: int
    document: Mapping[str, Any]
    config: Config
