"""Where the edge listens: at an address, or on sockets that it was started with."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartedge.config.model import Config
from smartedge.process import listening
from smartedge.process.listening import (
    CannotListen,
    _remove_own_socket,
    disown_sockets,
    listen_at,
    listen_unix,
    open_listeners,
    own_sockets,
)
from smartedge.process.predecessor import Listener


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def config(**settings: object) -> Config:
    return Config.model_validate({"backends": ["http://a:1"], "bind": "127.0.0.1:0", **settings})


def test_a_busy_port_says_what_to_do(busy_port: int) -> None:
    with pytest.raises(CannotListen) as caught:
        listen_at(f"127.0.0.1:{busy_port}", "--bind")
    assert str(caught.value) == f"port {busy_port} is in use; stop the other program or choose --bind"
    with pytest.raises(CannotListen, match="is in use; stop the other program or choose --admin-bind"):
        open_listeners(config(admin_bind=f"127.0.0.1:{busy_port}"))


@pytest.mark.parametrize(
    ("bind", "said"),
    [
        ("192.0.2.1:0", "192.0.2.1 is no address of this machine; choose another --bind"),
        ("nowhere.invalid:0", "no host nowhere.invalid is known here; choose another --bind"),
        ("[fe80::1]:0", "cannot listen on [fe80::1]:0: "),
    ],
)
def test_an_address_that_cannot_be_listened_on_is_one_line(bind: str, said: str) -> None:
    with pytest.raises(CannotListen) as caught:
        listen_at(bind, "--bind")
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_both_addresses_are_listened_on_the_clients_first() -> None:
    found = open_listeners(config(admin_bind="127.0.0.1:0"))
    assert [role for _, role, _ in found] == ["clients", "admin"]
    for descriptor, _, _ in found:
        with socket.socket(fileno=descriptor) as sock:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


def pass_sockets(monkeypatch: pytest.MonkeyPatch, *names: str) -> tuple[int, list[socket.socket]]:
    """Have this process look like one that was started with listening sockets; the first descriptor, and what they are of."""
    from smartedge.process import systemd

    socks = [socket.create_server(("127.0.0.1", 0)) for _ in names]
    first = max(map(int, os.listdir("/proc/self/fd"))) + 20
    for number, sock in enumerate(socks):
        os.dup2(sock.fileno(), first + number)
    monkeypatch.setattr(systemd, "FIRST_DESCRIPTOR", first)
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", str(len(names)))
    monkeypatch.setenv("LISTEN_FDNAMES", ":".join(names))
    return first, socks


def test_sockets_that_were_passed_take_the_place_of_the_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    first, socks = pass_sockets(monkeypatch, "smartedge.socket", "admin", "second.socket", "http")
    found = open_listeners(config(bind="192.0.2.1:1", admin_bind="192.0.2.1:2", http_bind="192.0.2.1:3"))
    assert found == [(first, "clients", ""), (first + 2, "clients", ""), (first + 3, "http", ""), (first + 1, "admin", "")]
    assert "LISTEN_FDS" not in os.environ  # they are not for the processes that we start
    assert not os.get_inheritable(first)
    for descriptor, _, _ in found:
        os.close(descriptor)
    for sock in socks:
        sock.close()


def test_what_is_passed_to_another_process_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() + 1))
    monkeypatch.setenv("LISTEN_FDS", "1")
    ((descriptor, role, _),) = open_listeners(config())
    assert (descriptor != 3, role) == (True, "clients")
    assert os.environ["LISTEN_FDS"] == "1"
    os.close(descriptor)


def test_an_admin_socket_needs_an_admin_address(monkeypatch: pytest.MonkeyPatch) -> None:
    first, socks = pass_sockets(monkeypatch, "clients", "admin")
    with pytest.raises(CannotListen, match="admin_bind is not set"):
        open_listeners(config())
    for number, sock in enumerate(socks):
        os.close(first + number)
        sock.close()


def test_what_another_program_hands_on_is_used_where_the_address_is_still_wanted_and_closed_where_not() -> None:
    held = open_listeners(config(admin_bind="127.0.0.1:0"))
    moved = Listener(held[1].descriptor, "admin", "127.0.0.2:0")
    found = open_listeners(config(admin_bind="127.0.0.1:0"), [held[0], moved])
    assert found[0] == held[0]
    assert found[1].bind == "127.0.0.1:0"
    left = open_listeners(config(), found)
    assert left == [held[0]]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(found[1].descriptor)
    os.close(held[0].descriptor)


def test_a_unix_socket_goes_with_the_last_program_that_listens_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_exit: list[tuple[object, ...]] = []
    monkeypatch.setattr(listening.atexit, "register", lambda *call: at_exit.append(call))
    monkeypatch.setattr(listening.atexit, "unregister", lambda function: at_exit.clear())
    path = tmp_path / "admin.sock"
    held = open_listeners(config(admin_bind=f"unix:{path}"))
    assert [call[1] for call in at_exit] == [str(path)]
    disown_sockets()
    found = open_listeners(config(admin_bind=f"unix:{path}"), held)
    assert (found, at_exit) == (held, [])
    own_sockets(found)
    assert [call[1] for call in at_exit] == [str(path)]
    for one in found:
        os.close(one.descriptor)


def test_a_descriptor_that_does_not_listen_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    first, (sock,) = pass_sockets(monkeypatch, "clients")
    with socket.create_connection(sock.getsockname()) as client:
        os.dup2(client.fileno(), first)
        with pytest.raises(CannotListen, match=rf"descriptor {first} was passed \(LISTEN_FDS\) but is no listening socket"):
            open_listeners(config())
    os.close(first)
    sock.close()


# ---- unix sockets ----


def test_it_is_its_users_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    before = os.umask(0)
    try:
        with listen_unix(path, removed_at_exit=False) as listener:
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                listener.accept()[0].close()
        assert os.umask(0) == 0, "the umask of the process is as before"
    finally:
        os.umask(before)


def test_what_a_killed_process_left_behind_is_replaced_and_what_is_in_use_is_not(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    with listen_unix(path, removed_at_exit=False), pytest.raises(OSError, match="another process listens there") as caught:
        listen_unix(path)
    assert caught.value.filename == path
    assert os.path.exists(path)
    with listen_unix(path, removed_at_exit=False):
        pass


def test_a_file_that_is_no_socket_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("x")
    with pytest.raises(OSError, match="is there, and is no socket"):
        listen_unix(str(path))
    assert path.read_text() == "x"
    with pytest.raises(OSError, match="No such file or directory") as caught:
        listen_unix(str(tmp_path / "none" / "admin.sock"))
    assert caught.value.filename == str(tmp_path / "none" / "admin.sock")


def test_it_goes_with_its_process_but_not_with_another(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    with listen_unix(path, removed_at_exit=False):
        inode = os.stat(path).st_ino
        _remove_own_socket(path, inode, os.getpid() + 1)
        _remove_own_socket(path, inode + 1, os.getpid())
        assert os.path.exists(path)
        _remove_own_socket(path, inode, os.getpid())
        assert not os.path.exists(path)
        _remove_own_socket(path, inode, os.getpid())
