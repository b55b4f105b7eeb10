"""Whose process is at the other end of a local connection."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from smartedge.edge import peer_owner
from smartedge.edge.peer_owner import End, owned_by_us, peer_uid, question, uid_in_answer, uid_in_table

NOBODY = 65534

# Linux on a little-endian machine: nginx's worker (33) has an open connection and one that it has just closed.
TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4026 1 0000000000000000 100 0 0 10 0
   1: 0100007F:9C40 0100007F:1F90 01 00000000:00000000 00:00000000 00000000    33        0 4027 1 0000000000000000 20 4 30 10 -1
   2: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1000        0 4028 1 0000000000000000 20 4 30 10 -1
   3: 0100007F:9C41 0100007F:1F90 05 00000000:00000000 00:00000000 00000000     0        0 0 1 0000000000000000 20 4 30 10 -1
"""

HERE = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]


def end(port: int, address: str = "127.0.0.1") -> End:
    return End(ip_address(address), port)


@contextlib.contextmanager
def connected(family: int, host: str, client: int | None = None) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection on this machine: the server's end and the client's; client: its family, when it is another one."""
    with socket.create_server((host, 0), family=family) as listener, socket.socket(client or family) as theirs:
        theirs.connect(("::ffff:127.0.0.1" if client == socket.AF_INET6 else host, listener.getsockname()[1]))
        ours = listener.accept()[0]
        with ours:
            yield ours, theirs


def test_the_table_tells_whose_socket_it_is() -> None:
    assert uid_in_table(TABLE, end(40000), end(8080)) == 33
    assert uid_in_table(TABLE, end(8080), end(40000)) == 1000
    assert uid_in_table(TABLE, end(40002), end(8080)) is None
    assert uid_in_table(TABLE, end(40000), end(8081)) is None
    assert uid_in_table("", end(40000), end(8080)) is None


def test_a_socket_that_its_process_has_closed_is_nobodys_although_the_kernel_says_root() -> None:
    """The outside client leaves, nginx closes at once, and the kernel gives the socket's user as 0, for want of another."""
    assert uid_in_table(TABLE, end(40001), end(8080)) is None


def test_an_answer_of_netlink_that_is_an_error_or_too_short_names_nobody() -> None:
    refused = b"\x24\0\0\0\x02\0\0\0\x01\0\0\0\0\0\0\0\xfe\xff\xff\xff" + question(end(1), end(2))[:16]
    assert uid_in_answer(refused) is None
    assert uid_in_answer(b"") is None
    assert uid_in_answer(question(end(1), end(2))) is None


@pytest.mark.parametrize(("family", "host"), HERE)
def test_netlink_and_the_table_agree_on_our_own_connections(family: int, host: str) -> None:
    with connected(family, host) as (ours, theirs):
        local, remote = (end(name[1], name[0]) for name in (theirs.getsockname(), ours.getsockname()))
        assert peer_owner._ask_kernel(local, remote) == os.geteuid()
        assert peer_owner._look_up(local, remote) == os.geteuid()
        assert peer_uid(ours.fileno()) == os.geteuid()
        assert owned_by_us(ours)


def test_an_ipv4_client_with_an_ipv6_socket_is_found_as_well() -> None:
    with connected(socket.AF_INET, "127.0.0.1", client=socket.AF_INET6) as (ours, theirs):
        local, remote = end(theirs.getsockname()[1]), end(ours.getsockname()[1])
        assert peer_owner._look_up(local, remote) == peer_owner._ask_kernel(local, remote) == os.geteuid()


def test_a_client_that_has_closed_is_not_taken_for_root() -> None:
    with connected(socket.AF_INET, "127.0.0.1") as (ours, theirs):
        theirs.close()
        assert peer_uid(ours.fileno()) is None
        assert not owned_by_us(ours)


def test_the_peer_of_a_unix_socket_is_known_too() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_uid(ours.fileno()) == os.geteuid()
        assert owned_by_us(ours)


def test_where_nobody_knows_the_connection_it_is_not_ours() -> None:
    with socket.socket() as unconnected:
        assert peer_uid(unconnected.fileno()) is None
    assert peer_uid(-1) is None
    assert not owned_by_us(None)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_another_user_is_told_from_us(kind: str) -> None:
    """The other user can only be had by root; what is told of anybody else is the pure functions' above."""
    uid = NOBODY if os.geteuid() == 0 else os.geteuid()
    if kind == "tcp":
        listener = socket.create_server(("127.0.0.1", 0))
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"\0smartedge-test-{os.getpid()}")
        listener.listen()
    with listener:
        child = os.fork()
        if child == 0:
            status = 1
            with contextlib.suppress(BaseException):
                if os.geteuid() == 0:
                    os.setuid(NOBODY)
                with socket.socket(listener.family) as theirs:
                    theirs.connect(listener.getsockname())
                    theirs.recv(1)
                status = 0
            os._exit(status)
        listener.settimeout(10)
        ours = listener.accept()[0]
        with ours:
            assert peer_uid(ours.fileno()) == uid
            assert owned_by_us(ours) is (uid == os.geteuid())
        assert os.waitpid(child, 0)[1] == 0
