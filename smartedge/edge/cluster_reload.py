"""A reload by all nodes of a cluster: who is waited for, what is answered, and what is refused for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from smartedge.cluster.applied import AppliedByNodes
from smartedge.cluster.view import View
from smartedge.edge.cluster_news import ClusterNews
from smartedge.edge.reload_errors import ReloadError
from smartedge.edge.reload_report import Applied, Reloaded

CONFIRM_S: Final = 5.0
"""How long a reload waits for the other nodes before it answers 202."""

ASK_S: Final = 5.0
"""How long they have to say whether they could use a configuration, where all of them must."""


class NotByAll(ReloadError):
    """Not all nodes could use the configuration, and all of them were to; so none does. members: who, and why not."""

    status = 409
    title = "Refused by nodes"
    blame = "client"

    def __init__(self, refused: Mapping[str, str], silent: Sequence[str], live: int) -> None:
        reasons = [f"{node}: {reason}" for node, reason in refused.items()] + [f"{node}: did not answer" for node in silent]
        super().__init__(f"not every node could use the configuration, so nothing has changed: {'; '.join(reasons)}")
        nodes = {"applied": 0, "live": live, "late": list(silent), "refused": _named(refused)}
        self.members: Mapping[str, Any] = {"nodes": nodes}


class NodesSeen:
    """The nodes that a reload waits for, as `wait_applied` asks for them; made for each reload.

    Our own stands there as it is now, also while nobody else knows of it; the others as the leader's news have them.
    """

    def __init__(self, news: ClusterNews, own_card: Callable[[], dict[str, Any]]) -> None:
        self._news = news
        self._own_card = own_card

    @property
    def view(self) -> View:
        """The cards."""
        own = self._own_card()
        return View(cards={**self._news.newest.cards, own["node"]: own})

    def wait_for(self, condition: Callable[[View], object], wait_s: float) -> bool:
        """Wait, for so long at most, until the cards fulfil a condition; return whether they do."""
        return self._news.wait_for(lambda: condition(self.view), wait_s)


def reloaded_by_all(applied: Applied, by_nodes: AppliedByNodes) -> Reloaded:
    """Make the answer: 200 if all live nodes have it, else 202, and it says which have not."""
    nodes: dict[str, Any] = {"applied": by_nodes.applied, "live": by_nodes.live}
    message = f"{applied.message}; {by_nodes.applied} of {by_nodes.live} nodes have it"
    if by_nodes.late:
        nodes["late"] = list(by_nodes.late)
        message += f"; late: {', '.join(by_nodes.late)}"
    if by_nodes.refused:
        nodes["refused"] = _named(by_nodes.refused)
        message += "".join(f"; {node} cannot use it: {reason}" for node, reason in by_nodes.refused.items())
    document = applied.to_json()
    workers = {**document["workers"], "applied": by_nodes.workers_applied, "live": by_nodes.workers_live}
    is_whole = not (by_nodes.late or by_nodes.refused or applied.late)
    answer = document | {"message": message, "nodes": nodes, "workers": workers}
    return Reloaded(200 if is_whole else 202, answer, applied.config)


def _named(refused: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"node": node, "reason": reason} for node, reason in refused.items()]
