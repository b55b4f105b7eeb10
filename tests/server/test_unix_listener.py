"""A unix socket to listen on."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from smartedge.server.unix_listener import _remove, listen_unix


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
        _remove(path, inode, os.getpid() + 1)
        _remove(path, inode + 1, os.getpid())
        assert os.path.exists(path)
        _remove(path, inode, os.getpid())
        assert not os.path.exists(path)
        _remove(path, inode, os.getpid())
