"""Which keys of a cluster lie in etcd, below its prefix (docs/cluster.md has the same table for operators)."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote


@dataclass(frozen=True, slots=True)
class Keys:
    """The names of a cluster's keys. prefix: in normal form, as "/prod".

    PREFIX/config                      the configuration: `stored.Stored`
    PREFIX/nodes/NODE                  a node's card, with its lease; gone ten seconds after the node is
    PREFIX/will/...                    what the operator has said since: a JSON value for each thing
    PREFIX/secrets                     what sticky cookies and TLS session tickets are made with: `secret_keys.SecretKeys`
    PREFIX/secrets-fresh               there while it is too soon for the next secrets: a lease, without a value
    PREFIX/proposals/ID                a configuration that all nodes are asked about (`require_all`), with a lease
    PREFIX/answers/ID/NODE             what a node says to it, with the proposal's lease
    """

    prefix: str

    @property
    def all(self) -> str:
        """What all keys begin with."""
        return f"{self.prefix}/"

    @property
    def config(self) -> str:
        """The configuration."""
        return f"{self.prefix}/config"

    @property
    def nodes(self) -> str:
        """What the cards' keys begin with."""
        return f"{self.prefix}/nodes/"

    @property
    def will(self) -> str:
        """What the keys of the operator's will begin with."""
        return f"{self.prefix}/will/"

    @property
    def secrets(self) -> str:
        """The shared secrets."""
        return f"{self.prefix}/secrets"

    @property
    def secrets_fresh(self) -> str:
        """There while the secrets are fresh."""
        return f"{self.prefix}/secrets-fresh"

    @property
    def proposals(self) -> str:
        """What the keys of proposals begin with."""
        return f"{self.prefix}/proposals/"

    def node(self, name: str) -> str:
        """The card of a node."""
        return self.nodes + quoted(name)

    def proposal(self, number: str) -> str:
        """A proposal."""
        return self.proposals + number

    def answers(self, number: str) -> str:
        """What the keys of the answers to a proposal begin with."""
        return f"{self.prefix}/answers/{number}/"

    def answer(self, number: str, node: str) -> str:
        """The answer of a node to a proposal."""
        return self.answers(number) + quoted(node)


def quoted(part: str) -> str:
    """A name as a part of a key: a slash in it would make two parts of it."""
    return quote(part, safe="")


def unquoted(part: str) -> str:
    """The name again."""
    return unquote(part)


def will_key(*parts: str) -> str:
    """Make a key of the names of a thing, as of "backends", "web", "b1", "state"."""
    return "/".join(map(quoted, parts))
