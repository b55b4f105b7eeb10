"""What an error of etcd's client means for whoever asked for something."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from smartedge.cluster.errors import (
    ClusterError,
    OutcomeUnknown,
    PermissionDenied,
    TooLarge,
    Unavailable,
    cluster_error,
    plain_errors,
    write_again,
)
from smartedge.discovery.etcd_client import EtcdError

BY_WORDS: list[tuple[str, bool, type[ClusterError], int]] = [
    ("etcd at http://a: request is too large", False, TooLarge, 413),
    ("etcd at http://a: grpc: received message larger than max (5 vs. 4)", True, TooLarge, 413),
    ("etcd at http://a: authentication failed, invalid user ID or password", False, PermissionDenied, 403),
    ("etcd at http://a: mvcc: database space exceeded", False, Unavailable, 503),
    ("etcd at http://a: connection refused", True, Unavailable, 503),
    ("etcd at http://a: anything else", False, ClusterError, 500),
]


@pytest.mark.parametrize(("said", "retriable", "kind", "status"), BY_WORDS)
def test_its_kind_and_status(said: str, retriable: bool, kind: type[ClusterError], status: int) -> None:
    error = cluster_error("it cannot be done", EtcdError(said, retriable))
    assert (type(error), error.status) == (kind, status)
    assert str(error).startswith("it cannot be done: ")
    assert said in str(error)


def test_what_an_account_may_not_is_told_by_its_code() -> None:
    assert type(cluster_error("it cannot be done", EtcdError("whatever", code=7))) is PermissionDenied


def test_a_read_that_fails_has_changed_nothing() -> None:
    with pytest.raises(Unavailable), plain_errors("it cannot be read"):
        raise EtcdError("no answer in time", retriable=True, sent=True)


def failing(*errors: EtcdError | str) -> tuple[list[int], Callable[[], str]]:
    """What fails like this, and counts how often it was tried."""
    tries: list[int] = []

    def write() -> str:
        tries.append(1)
        error = errors[min(len(tries), len(errors)) - 1]
        if isinstance(error, EtcdError):
            raise error
        return error

    return tries, write


LOST = EtcdError("no answer in time", retriable=True, sent=True)
REFUSED = EtcdError("connection refused", retriable=True, sent=False)


def test_a_write_is_done_again_only_where_its_answer_was_lost() -> None:
    tries, write = failing(LOST, REFUSED, "done")
    assert write_again("it cannot be written", write, 40.0) == "done"
    assert len(tries) == 3
    tries, write = failing(REFUSED, "done")
    with pytest.raises(Unavailable, match="it cannot be written: connection refused"):
        write_again("it cannot be written", write, 40.0)
    assert len(tries) == 1
    tries, write = failing(LOST, EtcdError("permission denied", code=7))
    with pytest.raises(PermissionDenied):
        write_again("it cannot be written", write, 40.0)


def test_what_cannot_be_found_out_is_said_so() -> None:
    _, write = failing(LOST)
    with pytest.raises(OutcomeUnknown, match="it cannot be written, or its answer was lost: no answer in time"):
        write_again("it cannot be written", write, 0.0)
