"""Whose process is at the other end of a local connection: the kernel knows, whatever the request says.

Of a unix socket it tells at once (SO_PEERCRED, unix(7)). Of TCP the other end's own socket is looked up, by the addresses of
both ends: with one question over netlink (sock_diag(7)), or where that is not to be had in /proc/net/tcp (proc(5)), which
grows with the number of connections. A socket that its process has closed belongs to nobody, and the kernel then says root:
its inode is 0, and it doesn't count.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

ROOT: Final = 0

_SOCK_DIAG_BY_FAMILY: Final = 20
_NETLINK_SOCK_DIAG: Final = 4
_NLM_F_REQUEST: Final = 1
_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr
_QUESTION: Final = struct.Struct("=BBBBI")  # struct inet_diag_req_v2, before its sockid
_SOCKET_ID: Final = struct.Struct("!HH16s16s")  # struct inet_diag_sockid, before interface and cookie
_NO_COOKIE: Final = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
_UID_AND_INODE: Final = struct.Struct("=II")
_UID_OFFSET: Final = _HEADER.size + 4 + _SOCKET_ID.size + len(_NO_COOKIE) + 12
_CREDENTIALS: Final = struct.Struct("=iII")  # struct ucred
_ANY_STATE: Final = 0xFFFFFFFF
_TABLES: Final = (("/proc/net/tcp", 4), ("/proc/net/tcp6", 6))


class End(NamedTuple):
    """One end of a TCP connection."""

    address: IPv4Address | IPv6Address
    port: int


class HasDescriptor(Protocol):
    """A socket of any make."""

    def fileno(self) -> int:
        """Return its descriptor."""
        ...


def owned_by_us(ours: HasDescriptor | None) -> bool:
    """Whether a connection's other end is a process of our own user or of root; ours: our end, None when nobody knows it.

    What cannot be found out counts as no. Only Linux can tell; elsewhere every local process is taken for one of ours.
    """
    if not sys.platform.startswith("linux"):
        return True
    return ours is not None and peer_uid(ours.fileno()) in (ROOT, os.geteuid())


def peer_uid(descriptor: int) -> int | None:
    """Return the user of the process at the other end of a connection on this machine; None if that can't be found out."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            return _uid_behind(sock)
    except (OSError, ValueError):
        return None


def _uid_behind(sock: socket.socket) -> int | None:
    if sock.family == socket.AF_UNIX:
        found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return int(_CREDENTIALS.unpack(found)[1])
    ours, theirs = _end(sock.getsockname()), _end(sock.getpeername())
    try:
        return _ask_kernel(theirs, ours)
    except OSError:  # a sandbox without netlink
        return _look_up(theirs, ours)


def question(local: End, remote: End) -> bytes:
    """Write the question for the one TCP socket with these ends, as netlink has it."""
    family = socket.AF_INET if local.address.version == 4 else socket.AF_INET6
    wanted = _SOCKET_ID.pack(local.port, remote.port, local.address.packed, remote.address.packed) + _NO_COOKIE
    body = _QUESTION.pack(family, socket.IPPROTO_TCP, 0, 0, _ANY_STATE) + wanted
    return _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0) + body


def uid_in_answer(answer: bytes) -> int | None:
    """Read the user out of netlink's answer; None for an error, and for a socket that no process has any more."""
    if len(answer) < _UID_OFFSET + _UID_AND_INODE.size or _HEADER.unpack_from(answer)[1] != _SOCK_DIAG_BY_FAMILY:
        return None
    uid, inode = _UID_AND_INODE.unpack_from(answer, _UID_OFFSET)
    return uid if inode else None


def uid_in_table(table: str, local: End, remote: End) -> int | None:
    """Find the socket with these ends in the text of /proc/net/tcp or tcp6, and return its user; None if no process has it."""
    found = table.find(f": {_hexadecimal(local)} {_hexadecimal(remote)} ")
    if found < 0:
        return None
    # Behind the addresses: state, queues, timer, retransmissions, then the user, a timeout and the inode.
    fields = table[found : table.find("\n", found)].split()
    uid, inode = fields[7], fields[9]
    return int(uid) if inode != "0" else None


def _ask_kernel(local: End, remote: End) -> int | None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as netlink:
        netlink.sendto(question(local, remote), (0, 0))
        return uid_in_answer(netlink.recv(4096))  # it is there: the kernel answers within `send`


def _look_up(local: End, remote: End) -> int | None:
    for path, version in _TABLES:
        for ours, theirs in _spelled(local, remote, version):
            try:
                uid = uid_in_table(Path(path).read_text(), ours, theirs)
            except OSError:
                continue
            if uid is not None:
                return uid
    return None


def _spelled(local: End, remote: End, version: int) -> Iterable[tuple[End, End]]:
    """Give the ends as a table of this version has them: an IPv4 client may use an IPv6 socket."""
    if local.address.version == version:
        yield local, remote
    elif version == 6:
        yield _mapped(local), _mapped(remote)


def _mapped(end: End) -> End:
    return End(IPv6Address(b"\0" * 10 + b"\xff\xff" + end.address.packed), end.port)


def _end(name: tuple[Any, ...]) -> End:
    address = ip_address(name[0].partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return End(address, name[1])


def _hexadecimal(end: End) -> str:
    """Write an end as the kernel's table does: the address in words of the machine's byte order."""
    packed = end.address.packed
    words = (int.from_bytes(packed[start : start + 4], sys.byteorder) for start in range(0, len(packed), 4))
    return "".join(f"{word:08X}" for word in words) + f":{end.port:04X}"
