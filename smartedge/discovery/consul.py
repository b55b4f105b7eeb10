"""Backends from Consul: the instances of a service, by questions that wait until there is something new.

Source: https://developer.hashicorp.com/consul/api-docs/features/blocking
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from time import monotonic
from urllib.parse import quote

import gevent

from smartedge.balancer.spec import TlsSpec
from smartedge.config import values
from smartedge.config.discover import ConsulConfig
from smartedge.discovery.consul_values import entries_of, instances_of, next_index
from smartedge.discovery.http_session import FetchFailed, Reply, fetch, make_session
from smartedge.discovery.source import Entry, SourceError

WAIT_S = 60.0
"""How long a question may wait at Consul, which allows 10 minutes; an answer without news says that the agent lives."""

MARGIN_S = 5.0
"""For a connection, and for an answer beyond the time that the question may wait."""

PAUSE_S = 0.3
"""Between two questions at least, so that a service in which much happens is not asked, and read, all the time."""

UNWAITED_S = 1.0
"""The same after an answer that said nothing new and came at once: somebody in between does not wait."""

PIECE_S = 0.001
"""So long an answer is read at once, and so long it is then left alone."""


class ConsulSource:
    """The source `consul` of a service; made by the menu of sources, asked and begun again by its `SourceRunner`.

    said: what the configuration says. environ: has the ACL token, unless that is in a file, which is read for each question.
    The token is in no error and no log.
    """

    def __init__(
        self,
        said: ConsulConfig,
        environ: Mapping[str, str] = os.environ,
        wait_s: float = WAIT_S,
        margin_s: float = MARGIN_S,
    ) -> None:
        self._said = said
        self._environ = environ
        self._wait_s = wait_s
        self._margin_s = margin_s
        self._url = f"{said.address}/v1/health/service/{quote(said.service, safe='')}"
        self._session = make_session(TlsSpec(ca_file=said.ca_file, cert_file=said.cert_file, key_file=said.key_file))

    def snapshots(self) -> Iterator[Sequence[Entry]]:
        """Yield all instances with every answer, changed or not: at the latest when a question has waited its time."""
        index = 0
        try:
            while True:
                began = monotonic()
                found, said = self._ask(index)
                yield found
                is_news = said != index
                index = next_index(index, said)
                gevent.sleep(max(0.0, began + (PAUSE_S if is_news else UNWAITED_S) - monotonic()))
        finally:
            self._session.close()

    def _ask(self, index: int) -> tuple[tuple[Entry, ...], int]:
        """Ask what there is, as soon as it is newer than an index; return it with its own. Raises SourceError."""
        token = self._token()
        params: list[tuple[str, str]] = [("tag", tag) for tag in self._said.tags]
        if index:
            params += [("index", str(index)), ("wait", f"{self._wait_s * 1000:.0f}ms")]
        if self._said.only_passing:
            params.append(("passing", "1"))
        named = {"near": self._said.near, "dc": self._said.datacenter, "ns": self._said.namespace}
        params += [(name, value) for name, value in named.items() if value]
        # Consul adds up to a sixteenth to the time, so that not all come back at once.
        timeout_s = self._margin_s + (self._wait_s * 17 / 16 if index else self._margin_s)
        try:
            reply = fetch(
                self._session,
                "GET",
                self._url,
                params=params,
                headers={"X-Consul-Token": token} if token else {},
                timeout_s=timeout_s,
                connect_s=self._margin_s,
            )
        except FetchFailed as error:
            raise self._failed(str(error)) from error
        if reply.status != 200:
            raise self._failed(_refusal(reply, token))
        return self._read(reply)

    def _read(self, reply: Reply) -> tuple[tuple[Entry, ...], int]:
        if reply.headers.get("X-Consul-KnownLeader", "true") == "false":
            heard = reply.headers.get("X-Consul-LastContact", "")
            ago = f", and heard from one {heard} ms ago" if heard.isdecimal() else ""
            raise self._failed(f"its servers have no leader{ago}: what they say may be old")
        try:
            index = int(reply.headers["X-Consul-Index"])
        except (KeyError, ValueError):
            raise self._failed("it answered without an X-Consul-Index, as Consul does not") from None
        try:
            found = entries_of(_in_pieces(instances_of(reply.body.decode())), self._said.scheme, self._said.tags)
        except (ValueError, RecursionError):
            raise self._failed("it answered with what is no list of instances, as JSON") from None
        if not found and reply.headers.get("X-Consul-Results-Filtered-By-ACLs") == "true":
            raise self._failed("the token may not read the instances that there are")
        return found, index

    def _token(self) -> str:
        """Give the ACL token, "" for none; raises SourceError."""
        if self._said.token_file is None:
            name, token = "CONSUL_HTTP_TOKEN", self._environ.get("CONSUL_HTTP_TOKEN", "").strip()
        else:
            name = self._said.token_file
            try:
                with open(name, encoding="utf-8") as file:
                    token = file.read(4096).strip()
            except (OSError, UnicodeError) as error:
                problem = getattr(error, "strerror", None) or "it is no text"
                raise self._failed(f"the token in {name} cannot be read: {problem.lower()}") from None
        if not (token.isascii() and token.isprintable()):
            raise self._failed(f"the token in {name} holds characters that no token has")
        return token

    def _failed(self, cause: str) -> SourceError:
        return SourceError(f"consul at {self._said.address}: {cause}")


def _in_pieces(items: Iterator[object]) -> Iterator[object]:
    """Let requests go on while many are read."""
    began = monotonic()
    for item in items:
        yield item
        if monotonic() - began > PIECE_S:
            gevent.sleep(PIECE_S)
            began = monotonic()


def _refusal(reply: Reply, token: str) -> str:
    """What an answer other than 200 says, in one line and without the token."""
    text = reply.body[:1000].decode("utf-8", "replace").strip()
    if token:
        text = text.replace(token, "***")
    if reply.status == 404:
        return "there is no Consul API (status 404)"
    line = text.partition("\n")[0]
    return f"it answered with status {reply.status}" + (f": {values.escaped(line)[:200]}" if line and line[0] not in "<{" else "")
