"""Asking all nodes whether they could use a configuration, before it is written (`require_all`).

A proposal is a key that every node sees by its watch; each answers with a key of its own. All of them have the proposal's lease:
when whoever asked has its answers, or dies, they go, and nothing is left that could block anybody.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Final

import gevent

from smartedge.cluster.errors import plain_errors
from smartedge.cluster.keys import Keys, unquoted
from smartedge.cluster.will import will_value
from smartedge.discovery.etcd_client import EtcdClient, EtcdError

POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What the nodes say to a proposal. ok: who could use it. refused: why not, by node. silent: who said nothing."""

    ok: tuple[str, ...]
    refused: Mapping[str, str]
    silent: tuple[str, ...]

    @property
    def is_accepted(self) -> bool:
        """Whether all nodes could use it."""
        return not self.refused and not self.silent


class Proposals:
    """Asks the nodes; made by whoever starts a node. ClusterWatch answers for each of them."""

    def __init__(self, client: EtcdClient, prefix: str) -> None:
        self._client = client
        self._keys = Keys(prefix)

    def ask(self, text: str, by: str, live: Callable[[], Collection[str]], wait_s: float) -> Verdicts:
        """Have all nodes check a configuration, for so long at most; nothing is changed by it. Raises ClusterError.

        live: the nodes that are there now; one that dies meanwhile is not waited for.
        """
        with plain_errors("the nodes of the cluster cannot be asked about the configuration"):
            lease = self._client.grant(int(wait_s) + 5)
            try:
                number = secrets.token_hex(8)
                proposal = {"by": by, "lease": str(lease), "text": text}
                value = json.dumps(proposal, ensure_ascii=False).encode("utf-8", "surrogatepass")
                self._client.put(self._keys.proposal(number), value, lease)
                return self._collect(number, live, wait_s)
            finally:
                with contextlib.suppress(EtcdError):  # it ends by itself soon
                    self._client.revoke(lease)

    def _collect(self, number: str, live: Callable[[], Collection[str]], wait_s: float) -> Verdicts:
        deadline = monotonic() + wait_s
        prefix = self._keys.answers(number)
        while True:
            _revision, found = self._client.range(prefix, prefix=True)
            said = {unquoted(one.key.removeprefix(prefix)): will_value(one.value) for one in found}
            nodes = sorted(live())
            silent = tuple(node for node in nodes if not isinstance(said.get(node), dict))
            if not silent or monotonic() >= deadline:
                answers = {node: said[node] for node in nodes if node not in silent}
                ok = tuple(node for node, answer in answers.items() if answer.get("ok") is True)
                refused = {node: str(answer.get("reason")) for node, answer in answers.items() if node not in ok}
                return Verdicts(ok, refused, silent)
            gevent.sleep(POLL_S)
