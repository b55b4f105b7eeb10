"""What the edge tells people when it happens: the four lines of the console, those of the log, and events.

The four are the first edition's, word for word, on standard output. What is logged has a time and a level. Events are what any
worker can be asked for afterwards (observe/events.py); what they are of is `KINDS`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from smartedge import __version__
from smartedge.balancer.backend import Backend
from smartedge.balancer.silence import Fallen
from smartedge.balancer.spec import DEFAULT_SERVICE, name_backend
from smartedge.config.found import Change
from smartedge.edge.noticed import Noticed
from smartedge.edge.operator_will import STATE, WillChange
from smartedge.edge.reload import Discovered
from smartedge.edge.reload_report import Applied, Reloaded
from smartedge.edge.trial import Trial
from smartedge.observe.console import say
from smartedge.observe.events import EventLog, Level

log = logging.getLogger("smartedge")

NAMED: Final = 4
"""So many backends are named of those that were found at once."""

THE_CLUSTERS: Final = "the operator of the cluster"

RECENT: Final = 20
RECENT_S: Final = 5.0
"""So many events of each worker, of the last seconds, may have told already what comes by the cluster."""

LISTED: Final = 20
"""So many of each are listed in an event."""

KINDS: Final = {
    "started": "a worker serves",
    "stopped": "a worker has ended as it was told to",
    "worker_died": "a worker has ended by itself, or was killed",
    "leader_changed": "another worker does what one does for all",
    "reloaded": "another configuration is in use; which workers have it, and which differ",
    "reload_refused": "a configuration was refused, and nothing has changed",
    "trial_began": "a configuration is on trial: without a confirmation the edge goes back",
    "trial_confirmed": "it was confirmed, and stays",
    "rolled_back": "the configuration before is in use again, and why",
    "discovered": "sources have found backends, or find some no more",
    "apart": "workers of the edge have different configurations for longer than a moment",
    "together": "they have the same again",
    "up": "a backend's probes call it healthy",
    "down": "a backend's probes call it unhealthy",
    "ejected": "a backend's breaker has opened",
    "readmitted": "a backend's breaker has closed",
    "observed": "a backend would have been ejected, or called silent, if that were not only observed",
    "outlier": "a backend is much worse than the others, which is only observed",
    "silent": "a backend leaves requests unanswered that others answer",
    "heard": "it answers again",
    "state_changed": "an operator has enabled, drained or disabled a backend",
    "weight_changed": "an operator has given a backend another weight",
    "drained": "a draining backend has nothing in flight any more",
    "edge_drained": "an operator has the edge say that it is draining",
    "edge_enabled": "an operator has taken that back",
    "panicked": "so few backends of a service are available that those are used, too, that were ejected",
    "calmed": "there are enough again",
    "overloaded": "the backends of a service can't keep up",
    "caught_up": "they keep up again",
    "files_replaced": "files that the configuration names hold something else, which is in use",
    "certificate_renewed": "clients are shown another certificate",
    "source_failed": "a source of discovery does not answer, or says what cannot be used",
    "source_answered": "it answers again",
    "cluster_lost": "the etcd of the cluster cannot be reached",
    "cluster_followed": "it can again",
    "node_joined": "another node is in the cluster",
    "node_left": "a node is not in the cluster any more",
    "nodes_differ": "nodes of the cluster do not have what was reloaded",
    "log_lost": "lines of the log could not be written",
}
"""The kinds of events, and what each says."""

SILENCE_WORDS: Final = {
    "silent": "backend has fallen silent",
    "heard": "backend is back",
    "observed": "backend would be called silent",
}

BREAKER_WORDS: Final = {"opened": "ejected", "closed": "readmitted", "observed": "not ejected, for breakers only observe"}
BREAKER_KINDS: Final = {"opened": "ejected", "closed": "readmitted", "observed": "observed"}
HEALTH_WORDS: Final = {"up": "answers its probes", "down": "does not answer its probes as it should"}
STATE_WORDS: Final = {"enabled": "enabled", "draining": "drained", "disabled": "disabled"}


def started(port: object) -> None:
    """Say where clients connect."""
    say(f"🚀 SmartEdge iniciado na porta {port}")


def unchanged(message: str) -> None:
    """Say to whoever has asked by a signal that there was nothing to do."""
    log.info("reload: %s", message)


def not_reloaded(error: Exception) -> None:
    """Say why the configuration stays as it was."""
    log.error("reload refused, nothing changed: %s", error)


class Announcer:
    """Tells what happens in one worker; owned by its Edge, and called by whoever finds it out.

    Who has asked for something (`by`) is the address of a peer of the admin pages, or what has asked instead of people: SIGHUP,
    the file that was changed, a node of the cluster.
    """

    def __init__(self, events: EventLog) -> None:
        self._events = events

    # ---- configurations ----

    def reloaded(self, applied: Applied, by: str | None = None) -> Reloaded:
        """Say that there is another configuration, and on the next line what is different; make the answer of it."""
        document = applied.to_json()
        if applied.changed:
            say("🔄 Backends atualizados via /api/reload")
        if applied.changed or applied.certificate_renewed or applied.files_renewed:
            log.info("reload: %s", document["message"])
            self._events.write(
                "reloaded",
                "warning" if applied.late else "info",
                f"reloaded: {document['message']}",
                by=by,
                generation=applied.generation,
                workers=document["workers"],
                added=applied.added[:LISTED],
                removed=applied.removed[:LISTED],
                changed=applied.changed_backends[:LISTED],
                settings=applied.settings_changed[:LISTED],
            )
        return Reloaded(202 if applied.late else 200, document, applied.config)

    def nodes_differ(self, document: Mapping[str, Any], by: str | None) -> None:
        """Write down which nodes of a cluster do not have what was reloaded, if some have not. document: the reload's answer."""
        nodes = document["nodes"]
        late, refused = nodes.get("late", ()), [one["node"] for one in nodes.get("refused", ())]
        if late or refused:
            parts = [f"{word}: {', '.join(names)}" for word, names in (("late", late), ("cannot use it", refused)) if names]
            text = f"generation {document['generation']} is not in use on all nodes: {'; '.join(parts)}"
            self._events.write("nodes_differ", "warning", text, by=by, generation=document["generation"], nodes=nodes)

    def reload_refused(self, error: object, by: str | None = None) -> None:
        """Write down that somebody has asked for a configuration that cannot be used; he is told by whoever was asked."""
        self._events.write("reload_refused", "error", f"reload refused, nothing changed: {error}", by=by)

    def trial_began(self, trial: Trial) -> None:
        """Say that a configuration goes again unless it is confirmed."""
        left = f"{trial.until - trial.began:g} s"
        log.warning("generation %d is on trial: without a confirmation the edge goes back in %s", trial.generation, left)
        text = f"generation {trial.generation} is on trial for {left}"
        self._events.write("trial_began", "warning", text, by=trial.by, generation=trial.generation, author=trial.author)

    def trial_confirmed(self, trial: Trial, by: str | None) -> None:
        """Say that it stays."""
        log.info("generation %d is confirmed", trial.generation)
        text = f"generation {trial.generation} is confirmed"
        self._events.write("trial_confirmed", "info", text, by=by, generation=trial.generation)

    def rolled_back(self, trial: Trial, why: str, by: str | None, generation: int) -> None:
        """Say that the edge went back, and why."""
        log.warning("went back from generation %d, now generation %d: %s", trial.generation, generation, why)
        text = f"went back from generation {trial.generation}, now generation {generation}: {why}"
        self._events.write("rolled_back", "error", text, by=by, generation=generation)

    def discovered(self, found: Discovered) -> None:
        """Say what sources have found, and what they find no more."""
        log.info("generation %d: discovered %s", found.generation, "; ".join(map(_change, found.changes)))
        for change in found.changes:
            self._events.write(
                "discovered",
                "info",
                f"discovered {_change(change)}",
                change.service,
                generation=found.generation,
                added=change.new[:LISTED],
                removed=change.gone[:LISTED],
                changed=change.other[:LISTED],
            )

    # ---- backends ----

    def health_changed(self, backend: Backend, change: str) -> None:
        """Say what probes have found."""
        fault, spec = backend.fault(), backend.spec
        why = f"\n   {fault}" if fault else ""
        where = spec.url if spec.id == spec.entry[0] else f"{spec.url} ({spec.addresses[0]})"
        if spec.service != DEFAULT_SERVICE:
            where += f" ({spec.name})"
        say(f"✅ {where} OK" if change == "up" else f"❌ {where} Offline{why}")
        level: Level = "info" if change == "up" else "warning"
        self._of(backend, change, level, HEALTH_WORDS[change], fault if change != "up" else None)

    def breaker_changed(self, backend: Backend, change: str) -> None:
        """Say what a breaker did, and why."""
        why = backend.learned.breaker.why if change != "closed" else ""
        log.warning("backend %s: %s %s%s", BREAKER_WORDS[change], backend.spec.name, backend.url, f" ({why})" if why else "")
        level: Level = "info" if change == "closed" else "warning"
        self._of(backend, BREAKER_KINDS[change], level, f"was {BREAKER_WORDS[change]}", why)

    def silence(self, fallen: Fallen) -> None:
        """Say that a backend leaves requests unanswered that others answer, or that it no longer does."""
        level = logging.INFO if fallen.change == "heard" else logging.WARNING
        log.log(level, "%s: %s", SILENCE_WORDS[fallen.change], fallen)
        if fallen.change == "heard":
            self._of(fallen.backend, "heard", "info", "answers again", None)
            return
        why = f"{fallen.overdue} requests overdue, the oldest for {fallen.oldest_s:.2f} s"
        self._of(fallen.backend, fallen.change, "warning", SILENCE_WORDS[fallen.change].removeprefix("backend "), why)

    def outlier(self, backend: Backend, found: Any) -> None:
        """Say that a backend is much worse than the others, and would be ejected if that were not only observed."""
        log.warning("backend would be ejected as an outlier: %s %s (%s)", backend.spec.name, backend.url, found)
        self._of(backend, "outlier", "warning", "would be ejected as an outlier", str(found))

    def state_changed(self, service: str, backend_id: str, before: str | None, after: str, by: str | None) -> None:
        """Write down what an operator wants of a backend; he is told by the answer."""
        text = f"{name_backend(service, backend_id)} was {STATE_WORDS.get(after, after)} by {by or 'an operator'}"
        self._events.write("state_changed", "info", text, service, backend_id, by=by, before=before, after=after)

    def weight_changed(self, service: str, backend_id: str, before: int | None, after: int | None, by: str | None) -> None:
        """Write down what weight an operator has given a backend."""
        text = f"{name_backend(service, backend_id)} was given weight {after} by {by or 'an operator'}, after {before}"
        self._events.write("weight_changed", "info", text, service, backend_id, by=by, before=before, after=after)

    def will_changed(self, change: WillChange) -> None:
        """Write down what the operator of a cluster wants of a backend, unless one of our own pages has done so just now."""
        if not self._is_told(f"{change.what}_changed", change.service, change.backend, change.after):
            tell = self.state_changed if change.what == STATE else self.weight_changed
            tell(change.service, change.backend, change.before, change.after, THE_CLUSTERS)

    # ---- services ----

    def overloaded(self, service: str, text: str, *, ended: bool) -> None:
        """Say that a service's backends can't keep up, or that they do again."""
        log.warning("%s", text)
        self._events.write("caught_up" if ended else "overloaded", "info" if ended else "warning", text, service)

    # ---- the edge and its workers ----

    def edge_drained(self, draining: bool, by: str | None, *, everywhere: bool = False) -> None:
        """Say that an operator has the edge drain, or serve again. everywhere: all nodes of a cluster."""
        which = "all nodes" if everywhere else "edge"
        log.warning("%s %s", which, "draining" if draining else "enabled")
        self._tell_drained(draining, by or "an operator", which if everywhere else "the edge", by=by, everywhere=everywhere)

    def drain_will_changed(self, draining: bool) -> None:
        """Write down that the operator of a cluster has this node drain, or serve again, unless our own pages have just now."""
        if not self._is_told("edge_drained" if draining else "edge_enabled"):
            self._tell_drained(draining, THE_CLUSTERS, "the edge", by=THE_CLUSTERS)

    def _tell_drained(self, draining: bool, who: str, which: str, **members: Any) -> None:
        kind, word = ("edge_drained", "drained") if draining else ("edge_enabled", "enabled")
        self._events.write(kind, "warning", f"{which} {word} by {who}", **members)

    def _is_told(self, kind: str, service: str | None = None, backend: str | None = None, after: Any = None) -> bool:
        """Whether an event of the last seconds says this already."""
        for event, _ in self._events.after({}, newest=RECENT):
            told = event["kind"], event["service"], event["backend"], event.get("after")
            if told == (kind, service, backend, after) and event["at"] > self._events.now() - RECENT_S:
                return True
        return False

    def worker_started(self, slot: int, pid: int) -> None:
        """Write down that a worker serves."""
        self._events.write("started", "info", f"worker {slot} (process {pid}) serves", worker=slot, pid=pid, version=__version__)

    def worker_stopped(self, slot: int, pid: int) -> None:
        """Write down that a worker ends as it was told to."""
        self._events.write("stopped", "info", f"worker {slot} (process {pid}) has stopped", worker=slot, pid=pid)

    def files_replaced(self, keys: Sequence[str], *, leading: bool) -> None:
        """Say that files which the configuration names hold something else. leading: this worker writes the event for all."""
        text = f"files have been replaced and are in use: {', '.join(keys)}"
        log.warning("%s", text)
        if leading:
            self._events.write("files_replaced", "info", text, keys=keys[:LISTED])

    def tell(self, noticed: Noticed) -> None:
        """Write down what somebody has noticed by looking; log what should not be, unless a source has said it of itself."""
        if noticed.level != "info" and noticed.kind != "source_failed":
            log.warning("%s", noticed.text)
        kind, level, text, service, backend, members = noticed
        self._events.write(kind, level, text, service, backend, **members)

    def _of(self, backend: Backend, kind: str, level: Level, what: str, why: str | None) -> None:
        """Write down what has happened to a backend."""
        spec = backend.spec
        text = f"{spec.name} {what}: {why}" if why else f"{spec.name} {what}"
        self._events.write(kind, level, text, spec.service, spec.id, url=spec.url, why=why or None)


def _change(change: Change) -> str:
    """Say what is another in one service: `web +2 -1 (new b3, b4; gone b1)`."""
    kinds = (("+", "new", change.new), ("-", "gone", change.gone), ("~", "changed", change.other))
    counts = [f"{sign}{len(ids)}" for sign, _, ids in kinds if ids]
    named = [f"{word} {_some(ids)}" for _, word, ids in kinds if ids]
    return f"{change.service} {' '.join(counts)} ({'; '.join(named)})"


def _some(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return ", ".join(ids[:NAMED]) + more
