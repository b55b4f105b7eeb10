"""What can go wrong between a node and its cluster, each with the HTTP status that says it (RFC 9110)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

import gevent

from smartedge.discovery.etcd_client import EtcdError

Written = TypeVar("Written")

WRITE_S: Final = 8.0
"""How long a write is tried whose answer is lost: etcd needs a second or two to find a new leader."""
PAUSE_S: Final = 0.2
_PERMISSION_DENIED: Final = 7
"""gRPC's code."""


class ClusterError(Exception):
    """The cluster did not do what it was asked for. `str()` is one plain sentence. status: of the HTTP answer that says so."""

    status = 500


class Unavailable(ClusterError):
    """etcd cannot be reached, or has no leader: nothing was changed."""

    status = 503


class OutcomeUnknown(ClusterError):
    """etcd's answer to a write was lost, and it could not be asked again: the write is in effect, or it is not."""

    status = 503


class TooLarge(ClusterError):
    """The value is longer than what etcd takes in one request."""

    status = 413


class PermissionDenied(ClusterError):
    """The account at etcd is not known there, or may not do this."""

    status = 403


class Foreign(ClusterError):
    """A key of ours holds what is none of ours; it is named, not used, and never overwritten."""

    status = 409


@contextlib.contextmanager
def plain_errors(doing: str) -> Iterator[None]:
    """Make a ClusterError of what etcd's client raises. doing: for the sentence, as in "the configuration cannot be read"."""
    try:
        yield
    except EtcdError as error:
        raise cluster_error(doing, error) from error


def cluster_error(doing: str, error: EtcdError) -> ClusterError:
    """Say what an error of etcd's client means where nothing was to be written."""
    said = str(error).lower()
    if "too large" in said or "larger than max" in said:
        return TooLarge(
            f"{doing}: it is longer than what etcd takes in one request, which is 1.5 MiB unless its members were started"
            f" with another --max-request-bytes ({error})"
        )
    if error.code == _PERMISSION_DENIED or "authentication failed" in said:
        return PermissionDenied(f"{doing}: {error}")
    if "space exceeded" in said:
        return Unavailable(
            f"{doing}: {error}; compact and defragment it, then `etcdctl alarm disarm`, and have its members started with"
            " --auto-compaction-retention=1"
        )
    return Unavailable(f"{doing}: {error}") if error.retriable else ClusterError(f"{doing}: {error}")


def write_again(doing: str, write: Callable[[], Written], write_s: float = WRITE_S) -> Written:
    """Do what may be done twice until its answer comes, for so long at most. Raises ClusterError."""
    deadline = time.monotonic() + write_s
    may_be_done = False
    while True:
        try:
            return write()
        except EtcdError as error:
            problem = cluster_error(doing, error)
            may_be_done = may_be_done or error.sent
            if not isinstance(problem, Unavailable) or not may_be_done:
                raise problem from error
            if time.monotonic() > deadline:
                raise OutcomeUnknown(f"{doing}, or its answer was lost: {error}") from error
        gevent.sleep(PAUSE_S)
