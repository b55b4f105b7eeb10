"""etcd's v3 API over its JSON gateway: read, write, compare-and-swap, watch, leases; with users, TLS, and several endpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from smartedge.balancer.spec import TlsSpec
from smartedge.discovery.etcd_values import (
    Compacted,
    EtcdError,
    EtcdRefusal,
    Event,
    Json,
    KeyValue,
    Txn,
    absent,
    delete_op,
    encoded,
    key_value,
    keys,
    number,
    parsed,
    put_op,
    put_request,
    range_op,
    refusal,
    revision,
    txn,
    txn_request,
    unchanged,
)
from smartedge.discovery.etcd_watch import EtcdWatch
from smartedge.discovery.http_session import FetchFailed, fetch, make_session, open_stream, pieces_of

PAGE = 1000
"""Keys that are asked for at once."""

Found = TypeVar("Found")


class EtcdClient:
    """A client of one etcd, for any number of greenlets. Owned by whoever makes it: a source of backends, a store of a cluster.

    endpoints: URLs, tried in turn from the one that answered last. password: never in an error, a log or the repr.
    timeout_s: for one answer of one endpoint. All methods raise EtcdError.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        user: str | None = None,
        password: str | None = None,
        ca_file: str | None = None,
        cert_file: str | None = None,
        key_file: str | None = None,
        timeout_s: float = 3.0,
    ) -> None:
        if not endpoints:
            raise ValueError("at least one endpoint of etcd is needed")
        self.endpoints = tuple(endpoint.rstrip("/") for endpoint in endpoints)
        self._user = user
        self._password = password or ""
        self._timeout_s = timeout_s
        self._good = 0
        self._token: str | None = None
        self._session = make_session(TlsSpec(ca_file=ca_file, cert_file=cert_file, key_file=key_file))

    def __repr__(self) -> str:
        return f"<EtcdClient {' '.join(map(shown, self.endpoints))}>"

    def close(self) -> None:
        """Close the connections that are kept."""
        self._session.close()

    # Keys.

    def range(self, key: str, prefix: bool = False, at_revision: int = 0) -> tuple[int, list[KeyValue]]:
        """Read a key, or all with a prefix in order, as they stood at one revision, the latest or a given one; return it, too.

        Raises Compacted for a given revision that is no longer to be had.
        """
        question: dict[str, Any] = {**keys(key, prefix=prefix), "limit": str(PAGE)}
        if at_revision:
            question["revision"] = str(at_revision)
        found: list[KeyValue] = []
        while True:
            page = self._call("kv/range", question, _page)
            at_revision = at_revision or page[0]
            found += page[1]
            if not page[2]:
                return at_revision, found
            question |= {"key": encoded(found[-1].key + "\0"), "revision": str(at_revision)}

    def put(self, key: str, value: bytes, lease: int = 0) -> int:
        """Write a key, and return the revision; lease: the key goes with it."""
        return self._call("kv/put", put_request(key, value, lease), revision)

    def delete(self, key: str, prefix: bool = False) -> int:
        """Delete a key, or all with a prefix, and return how many there were."""
        return self._call("kv/deleterange", keys(key, prefix=prefix), lambda found: number(found, "deleted"))

    def txn(self, compares: Sequence[Json], then: Sequence[Json], otherwise: Sequence[Json] = ()) -> Txn:
        """Do `then` if all of `compares` hold, else `otherwise`, as one: made of unchanged, absent, put_op, delete_op, range_op.

        It is sent to another endpoint only if the first cannot have acted on it; `sent` of the error says whether it may have.
        """
        return self._call("kv/txn", txn_request(compares, then, otherwise), txn, once=True)

    def watch(self, key: str, prefix: bool, from_revision: int) -> EtcdWatch:
        """Watch a key, or all with a prefix, from a revision on (one after that of a `range`); see EtcdWatch.

        Raises Compacted when etcd's own revision is lower than that: it has been put back to an older state.
        """
        what = keys(key, prefix=prefix)
        question = {"create_request": {**what, "start_revision": str(from_revision)}}
        # This finds an endpoint that is well, and renews the token: a watch says no more than "permission denied" of an old one.
        latest = self._revision(what)
        endpoint = self.endpoints[self._good]
        if latest < from_revision - 1:
            text = f"its revision went back from {from_revision - 1} to {latest}: it has been put back to an older state"
            raise Compacted(f"etcd at {shown(endpoint)}: {text}")

        @contextlib.contextmanager
        def pieces() -> Iterator[Iterator[bytes]]:
            headers = self._headers() | {"Grpc-Metadata-hasleader": "true"}  # a member that loses its leader then ends the watch
            with open_stream(
                self._session, "POST", f"{endpoint}/v3/watch", timeout_s=self._timeout_s, headers=headers, json=question
            ) as answer:
                if answer.status_code != 200:
                    raise FetchFailed(refusal(answer.status_code, answer.content).text, sent=True)
                yield pieces_of(answer)

        return EtcdWatch(shown(endpoint), pieces, lambda: self._revision(what, endpoint), from_revision)

    def cluster_of(self, endpoint: str, key: str) -> str:
        """The id of the etcd that an endpoint is a member of; asked of it alone, whatever it is in touch with.

        key: any that the account may read.
        """
        nothing = {"key": encoded(key), "count_only": True, "serializable": True}
        return self._ask(endpoint, "kv/range", nothing, lambda found: str(found["header"]["cluster_id"]))

    # Leases.

    def grant(self, ttl_s: int) -> int:
        """Make a lease, and return its number."""
        return self._call("lease/grant", {"TTL": str(ttl_s)}, lambda found: int(found["ID"]))

    def keep_alive(self, lease: int) -> int:
        """Renew a lease, and return the seconds that it has: 0 if it is gone."""
        return self._call("lease/keepalive", {"ID": str(lease)}, lambda found: number(found["result"], "TTL"))

    def revoke(self, lease: int) -> None:
        """End a lease: its keys go. One that is gone already is no error."""
        try:
            self._call("lease/revoke", {"ID": str(lease)}, revision)
        except EtcdError as error:
            if "lease not found" not in str(error):
                raise

    # The way there.

    def _revision(self, what: Json, endpoint: str | None = None) -> int:
        """The latest revision, of a majority: no member answers that is cut off from the others. what: keys that we may read."""
        return self._call("kv/range", {**what, "count_only": True}, revision, endpoints=(endpoint,) if endpoint else ())

    def _call(
        self, path: str, question: Json, read: Callable[[Json], Found], *, once: bool = False, endpoints: Sequence[str] = ()
    ) -> Found:
        """Ask one endpoint after the other, until one answers or has a reason to refuse. once: never when one may have acted."""
        problems = []
        for endpoint in endpoints or (*self.endpoints[self._good :], *self.endpoints[: self._good]):
            try:
                found = self._ask(endpoint, path, question, read)
            except EtcdError as error:
                problems.append(error)
                if not error.retriable or isinstance(error, Compacted):
                    break
                if once and error.sent:
                    self._good = (self.endpoints.index(endpoint) + 1) % len(self.endpoints)  # for whoever asks again
                    break
            else:
                self._good = self.endpoints.index(endpoint)
                return found
        last = problems[-1]
        if len(problems) == 1:
            raise last
        text = "; ".join(str(problem).removeprefix("etcd at ") for problem in problems)
        raise EtcdError(f"etcd at {text}", last.retriable, any(problem.sent for problem in problems), last.code) from last

    def _ask(self, endpoint: str, path: str, question: Json, read: Callable[[Json], Found]) -> Found:
        """Ask one endpoint; with a new token if the old one is over."""
        if self._user and self._token is None:
            self._authenticate(endpoint)
        token = self._token
        answer = self._post(endpoint, path, question)
        if isinstance(answer, EtcdRefusal) and answer.wants_token and self._user:
            if self._token == token:  # else another greenlet has just got a new one
                self._authenticate(endpoint)
            answer = self._post(endpoint, path, question)
        if isinstance(answer, EtcdRefusal):
            raise _refused(endpoint, answer)
        try:
            return read(answer)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise EtcdError(
                f"etcd at {shown(endpoint)}: it answered with what is not etcd's ({error!r:.200})", True, True
            ) from error

    def _authenticate(self, endpoint: str) -> None:
        """Get a token; none where etcd has no users, as a password may be set before they are."""
        self._token = None
        answer = self._post(endpoint, "auth/authenticate", {"name": self._user, "password": self._password})
        if isinstance(answer, EtcdRefusal):
            if "authentication is not enabled" not in answer.text:
                raise _refused(endpoint, answer)
            self._token = ""
        else:
            self._token = str(answer.get("token", ""))

    def _post(self, endpoint: str, path: str, question: Json) -> Json | EtcdRefusal:
        try:
            url = f"{endpoint}/v3/{path}"
            reply = fetch(self._session, "POST", url, json=question, headers=self._headers(), timeout_s=self._timeout_s)
        except FetchFailed as error:
            raise EtcdError(f"etcd at {shown(endpoint)}: {error}", True, error.sent) from error
        if reply.status != 200:
            return refusal(reply.status, reply.body)
        try:
            return parsed(reply.body.partition(b"\n")[0])  # a keepalive is answered by a stream, of one line
        except ValueError as error:
            raise EtcdError(f"etcd at {shown(endpoint)}: it answered with what is no JSON ({error})", True, True) from error

    def _headers(self) -> dict[str, str]:
        return {"Authorization": self._token} if self._token else {}


def shown(endpoint: str) -> str:
    """An endpoint as messages name it: without what may stand before an `@`, which may be a password."""
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _page(found: Json) -> tuple[int, list[KeyValue], bool]:
    return revision(found), [key_value(pair) for pair in found.get("kvs", ())], found.get("more", False)


def _refused(endpoint: str, answer: EtcdRefusal) -> EtcdError:
    text = f"etcd at {shown(endpoint)}: {answer.text}"
    if answer.is_compacted:
        return Compacted(text)
    # What it has no time for it may do all the same.
    return EtcdError(text, retriable=answer.is_retriable, sent=answer.is_retriable, code=answer.code)


__all__ = [
    "Compacted",
    "EtcdClient",
    "EtcdError",
    "EtcdWatch",
    "Event",
    "KeyValue",
    "Txn",
    "absent",
    "delete_op",
    "put_op",
    "range_op",
    "unchanged",
]
