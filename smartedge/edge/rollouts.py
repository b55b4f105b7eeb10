"""A configuration's way into use and out again: applied, on trial until it is confirmed, rolled back, remembered.

Above the Reloader, which knows how to change to another configuration, and nothing of why. A trial that nobody confirms is
ended by the worker that leads; who leads may change, for it is written down where all find it (edge/trial.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from smartedge.balancer.errors import EdgeError
from smartedge.config.model import Config, ConfigError
from smartedge.edge.announce import Announcer
from smartedge.edge.config_history import ConfigHistory, KeptConfiguration
from smartedge.edge.origin import ConfigOrigin
from smartedge.edge.reload_errors import PreconditionFailed, ReloadError
from smartedge.edge.reload_report import Applied, Reloaded
from smartedge.edge.trial import Trial, TrialFile, TrialPlace
from smartedge.edge.verdict import Measured, TrialLimits, measured, verdict
from smartedge.observe.history import History
from smartedge.observe.history_table import EVERY_S, POINTS
from smartedge.workers.periodic import give_way

log = logging.getLogger("smartedge")

MOST_S: Final = 86_400.0
BEFORE_TICKS: Final = 60
"""What the one before is measured by: its last five minutes."""

NO_LIMITS: Final = TrialLimits()

RETRY_S: Final = 5.0
"""A way back that failed is tried again after so long."""


class TrialRunning(ReloadError):
    """A configuration waits to be confirmed; what comes after it has to wait, too."""

    status = 409
    title = "On trial"
    blame = "client"


class NoTrial(ReloadError):
    """There is nothing to be confirmed."""

    status = 409
    title = "Nothing to confirm"
    blame = "client"


class UnknownConfiguration(ReloadError):
    """There is no such configuration to go back to."""

    status = 404
    title = "Unknown configuration"
    blame = "client"


@dataclass(frozen=True, slots=True)
class Asked:
    """How a reload was asked for. confirm_s: put it on trial for so many seconds. by: the peer, or what asked instead of people.

    author: whom the client named. origin: as the history has it. note: why.
    """

    confirm_s: float | None = None
    limits: TrialLimits = NO_LIMITS
    by: str | None = None
    author: str | None = None
    origin: str = "api"
    note: str = ""


NOBODY: Final = Asked()


class RolloutEdge(Protocol):
    """What of an Edge its Rollouts use: the configuration in use, and the way to another."""

    @property
    def config(self) -> Config: ...  # noqa: D102
    @property
    def etag(self) -> str: ...  # noqa: D102
    @property
    def generation(self) -> int: ...  # noqa: D102
    @property
    def origin(self) -> ConfigOrigin: ...  # noqa: D102
    @property
    def services(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def apply(self) -> Callable[..., Reloaded]: ...  # noqa: D102


class Rollouts:
    """Owned by the Edge, which has `look` called once a second; called by the pages, by SIGHUP and by whoever watches the file.

    preview: see `Reloader`. wall: Unix time. history: of the last 15 minutes, by which a trial is judged.
    """

    def __init__(
        self,
        edge: RolloutEdge,
        preview: Callable[[bytes], tuple[Config, Applied]],
        history: History,
        announcer: Announcer,
        wall: Callable[[], float],
    ) -> None:
        self.preview = preview
        self._edge = edge
        self._history = history
        self._announcer = announcer
        self._wall = wall
        self._place: TrialPlace = TrialFile(None)
        self._is_shared = False
        self._seen = ""
        self._retry_at = float("-inf")
        self.kept = ConfigHistory(edge.origin.path)

    def join_workers(self, directory: Path | None, shared: Callable[[TrialFile], TrialPlace] | None) -> None:
        """Have trials where all workers find them. shared: makes the place of a cluster, None without one."""
        own = TrialFile(directory)
        self._place, self._is_shared = own if shared is None else shared(own), shared is not None
        self.kept.keep_in(directory)

    def note_start(self) -> None:
        """Remember what the edge begins with; by one of its workers."""
        newest = self.kept.all()[-1:]
        if not newest or newest[0].etag != self._edge.config.etag:
            self._keep("start", Asked())

    # ---- what is asked ----

    def reload(self, body: bytes | None, if_match: str | None = None, asked: Asked = NOBODY, **how: bool) -> Reloaded:
        """Apply a configuration, the file's when there is no body; raises ConfigError or EdgeError and changes nothing.

        how: `wait` and `require_all`, as `Edge.apply` has them. On trial, it is written to the file when it is confirmed: a
        restart goes back, too. In a cluster it is in etcd at once.
        """
        self.refuse_during_trial()
        self._clear_left_over()
        if asked.confirm_s is None:
            return self._apply(body, if_match, asked, **how)
        before, etag = self._text_in_use(), self._edge.config.etag
        figures = self._measured(self._history.last_tick, BEFORE_TICKS)
        result = self._apply(body, if_match, asked, persist=self._is_shared, **how)
        if not result.document["changed"]:
            return result
        now = self._wall()
        text = None if body is None or self._is_shared else body.decode("utf-8", "surrogateescape")
        began, until = now, now + asked.confirm_s
        trial = Trial(
            result.document["generation"],
            result.document["etag"],
            result.config.etag,
            text,
            before,
            began,
            until,
            asked.limits,
            figures,
            asked.by,
            asked.author,
        )
        try:
            self._place.write(trial)
        except (OSError, EdgeError) as error:
            self._apply(before.encode("utf-8", "surrogateescape"), None, Asked(by=asked.by, origin="rollback", note="no trial"))
            raise TrialRunning(f"the trial cannot be written down ({error}), so {etag} is in use again") from error
        self._announcer.trial_began(trial)
        message = f"{result.document['message']}; goes back in {asked.confirm_s:g} s unless it is confirmed"
        document = {**result.document, "message": message, "trial": self.trial_document(trial)}
        return Reloaded(result.status, document, result.config)

    def confirm(self, by: str | None = None) -> dict[str, Any]:
        """Keep the configuration on trial, for good. Raises NoTrial, or what keeping it raises: then the trial goes on."""
        trial = self.trial()
        if trial is None:
            raise NoTrial("No configuration is on trial: it was confirmed already, or its time was over and the edge went back.")
        if trial.text is not None:
            self._edge.apply(trial.text.encode("utf-8", "surrogateescape"), f'"{trial.etag}"', by=by)
        self._place.write(None)
        self._announcer.trial_confirmed(trial, by)
        return {"generation": trial.generation, "etag": self._edge.etag, "message": f"generation {trial.generation} is confirmed"}

    def rollback(self, number: int | None = None, asked: Asked = NOBODY, if_match: str | None = None) -> Reloaded:
        """Go back to a configuration of the history, None for the one before; raises as `reload`, and UnknownConfiguration.

        During a trial None is the way back that would be taken by itself.
        """
        trial = self.trial()
        if trial is not None and number is None:
            return self._go_back(trial, asked.note or "an operator went back", asked.by)
        entry = self._entry(number)
        note = asked.note or f"back to {entry.id}"
        asked = Asked(by=asked.by, author=asked.author, origin="rollback", note=note)
        result = self._apply(entry.text.encode("utf-8", "surrogateescape"), if_match, asked)
        if trial is not None:
            self._place.write(None)
        return result

    def refuse_during_trial(self) -> None:
        """Raise TrialRunning while a configuration waits to be confirmed."""
        trial = self.trial()
        if trial is not None:
            left_s = max(0.0, trial.until - self._wall())
            raise TrialRunning(
                f"generation {trial.generation} is on trial for another {left_s:.0f} s; confirm it or roll it back first"
            )

    def trial(self) -> Trial | None:
        """Return the trial that is on: one whose configuration is still in use."""
        trial = self._place.read()
        return trial if trial is not None and trial.meaning == self._edge.config.etag else None

    def _clear_left_over(self) -> None:
        """Forget a trial whose configuration is in use no more: who went back from it died before saying that it is over.

        Left there, it would be on again, and long past its time, as soon as somebody uses the same configuration. A trial of a
        later generation than ours is somebody else's, whom this worker has yet to follow.
        """
        trial = self._place.read()
        if trial is None or trial.meaning == self._edge.config.etag or trial.generation >= self._edge.generation:
            return
        newest = self.kept.all()[-1:]
        if not newest or newest[0].etag != self._edge.config.etag:
            self._keep("rollback", Asked(note=f"the trial of generation {trial.generation} is over"))
        self._place.write(None)

    def trial_document(self, trial: Trial | None) -> dict[str, Any] | None:
        """What the pages say of it."""
        if trial is None:
            return None
        return {
            "generation": trial.generation,
            "until": round(trial.until, 3),
            "left_s": round(max(0.0, trial.until - self._wall()), 3),
            "rollback_on": {"error_ratio": trial.limits.error_ratio, "p99_factor": trial.limits.p99_factor},
            "before": trial.measured.to_json(),
            "since": self._since(trial).to_json(),
            "by": trial.by,
            "author": trial.author,
        }

    # ---- once a second ----

    def look(self, *, leading: bool) -> None:
        """Go back where nobody has confirmed in time, or the new configuration is worse; by the worker that leads."""
        if not leading or self._wall() < self._retry_at:
            return
        try:
            self._place.follow()
        except OSError as error:
            self._retry_at = self._wall() + RETRY_S
            log.error("what the cluster says of a trial cannot be written down: %s", error)
        if self._is_shared and self._seen != (etag := self._edge.config.etag):
            if self._seen and self.kept.newest(etag) is None:
                self._keep("cluster", Asked())
            self._seen = etag
        if (trial := self.trial()) is None:
            self._clear_left_over()
            return
        why = self._why_not(trial)
        if not why:
            return
        try:
            self._go_back(trial, why, None)
        except PreconditionFailed:
            self._place.write(None)  # somebody has changed it meanwhile, or another node went back
        except (ConfigError, EdgeError, OSError) as error:
            self._retry_at = self._wall() + RETRY_S
            log.error("cannot go back to the configuration before generation %d (%s): %s", trial.generation, why, error)

    def _why_not(self, trial: Trial) -> str:
        if self._wall() >= trial.until:
            return f"nobody confirmed it within {trial.until - trial.began:g} s"
        if trial.limits == NO_LIMITS:
            return ""
        return verdict(trial.measured, self._since(trial), trial.limits)

    def _since(self, trial: Trial) -> Measured:
        """What the configuration on trial has done: from the first tick that is wholly its own."""
        last = self._history.last_tick
        return self._measured(last, min(last - int(trial.began // EVERY_S), POINTS))

    def _measured(self, last: int, ticks: int) -> Measured:
        if ticks <= 0:
            return Measured(0, 0, None)
        found = (self._history.read(name, ticks, last) for name in list(self._edge.services))
        return measured([one for one in found if one is not None])

    # ---- within ----

    def _go_back(self, trial: Trial, why: str, by: str | None) -> Reloaded:
        body = trial.before.encode("utf-8", "surrogateescape")
        asked = Asked(by=by, origin="rollback", note=why)
        result = self._apply(body, f'"{self._edge.etag}"', asked)
        self._place.write(None)
        self._announcer.rolled_back(trial, why, by, self._edge.generation)
        return result

    def _apply(self, body: bytes | None, if_match: str | None, asked: Asked, **how: Any) -> Reloaded:
        result = self._edge.apply(body, if_match, by=asked.by, **how)
        if result.document["changed"]:
            # Not what is in use by now: while the other workers were waited for, another reload may have come.
            self._remember(asked.origin, asked, result.config, result.document["generation"], body)
        return result

    def _keep(self, origin: str, asked: Asked) -> None:
        """Remember what is in use now."""
        self._remember(origin, asked, self._edge.config, self._edge.generation)

    def _remember(self, origin: str, asked: Asked, config: Config, generation: int, body: bytes | None = None) -> None:
        text = self._text_of(config) if body is None else body.decode("utf-8", "surrogateescape")
        self.kept.add(
            KeptConfiguration(0, generation, self._wall(), config.etag, origin, asked.by, asked.author, asked.note, text)
        )

    def _text_in_use(self) -> str:
        """Return the text of what is in use, as it was written if that is known."""
        etag = self._edge.config.etag
        known = self.kept.newest(etag)
        return known.text if known is not None else self._text_of(self._edge.config)

    def _text_of(self, config: Config) -> str:
        """Return what a configuration was written as: the file if it says the same, else its canonical text."""
        try:
            text = self._edge.origin.read_text()
            if text is not None and self._edge.origin.parse_text(text).etag == config.etag:
                return text.decode("utf-8", "surrogateescape")
        except (OSError, ConfigError):
            pass
        return config.to_json()

    def _entry(self, number: int | None) -> KeptConfiguration:
        known = self.kept.all()
        if number is not None:
            found = next((one for one in known if one.id == number), None)
            if found is None:
                there = f"{known[0].id} to {known[-1].id} are" if known else "none is"
                raise UnknownConfiguration(f"No configuration {number} is kept; {there}.")
            return found
        etag = self._edge.config.etag
        found = next((one for one in reversed(known) if one.etag != etag), None)
        if found is None:
            raise UnknownConfiguration("There is no configuration before this one to go back to.")
        return found

    # ---- what is told ----

    def documents(self) -> list[Mapping[str, Any]]:
        """Return the history for people, the newest first: what each changed, secrets masked."""
        from smartedge.config.difference import differences  # late: few edges are ever asked for this

        found: list[Mapping[str, Any]] = []
        before: Config | None = None
        for one in self.kept.all():
            give_way()  # each is checked as a reload checks it
            config = self._understood(one)
            changes = [] if before is None or config is None else [each._asdict() for each in differences(before, config)]
            found.append(
                {
                    "id": one.id,
                    "generation": one.generation,
                    "at": round(one.at, 3),
                    "etag": one.etag,
                    "origin": one.origin,
                    "by": one.by,
                    "author": one.author,
                    "note": one.note or None,
                    "in_use": False,
                    "usable": config is not None,
                    "changes": changes,
                }
            )
            before = config or before
        newest = next((one for one in reversed(found) if one["etag"] == self._edge.config.etag), None)
        return [{**one, "in_use": one is newest} for one in reversed(found)]

    def _understood(self, one: KeptConfiguration) -> Config | None:
        """Make sense of a text of before; None where it can't be used any more: a certificate is gone, a key is none."""
        try:
            return self._edge.origin.parse_text(one.text.encode("utf-8", "surrogateescape"))
        except ConfigError:
            return None
