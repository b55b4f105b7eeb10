from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from smartedge.discovery.config_file import MAX_BYTES, ConfigFile
from smartedge.discovery.config_file import _explained as explained

OLD, NEW = b'{"backends": ["http://old"]}', b'{"backends": ["http://new"]}'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "backends.json"
    path.write_bytes(OLD)
    return path


def test_what_was_written_is_read(file: Path) -> None:
    source = ConfigFile(file)
    assert source.read() == OLD
    source.write(NEW)
    assert source.read() == file.read_bytes() == NEW


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444])
def test_the_mode_stays(file: Path, mode: int) -> None:
    file.chmod(mode)
    ConfigFile(file).write(NEW)
    assert stat.S_IMODE(file.stat().st_mode) == mode


def test_the_owner_stays(file: Path) -> None:
    owner = (1234, 4321) if os.geteuid() == 0 else (os.geteuid(), os.getegid())  # only root gives files away
    os.chown(file, *owner)
    ConfigFile(file).write(NEW)
    assert (file.stat().st_uid, file.stat().st_gid) == owner


def test_a_new_file_has_the_usual_mode(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    ConfigFile(tmp_path / "new.json").write(NEW)
    assert (tmp_path / "new.json").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_symbolic_link_stays_one_and_its_target_is_written(file: Path, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "current.json"
    link.symlink_to("../backends.json")

    ConfigFile(link).write(NEW)

    assert link.is_symlink()
    assert file.read_bytes() == NEW
    assert os.listdir(link.parent) == ["current.json"]
    assert sorted(os.listdir(tmp_path)) == ["backends.json", "links"]


def test_a_relative_path_is_written_where_it_is(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    ConfigFile("backends.json").write(NEW)
    assert file.read_bytes() == NEW


def test_the_old_file_is_replaced_and_not_written_over(file: Path) -> None:
    with open(file, "rb") as reader:
        ConfigFile(file).write(NEW)
        assert reader.read() == OLD


def test_a_reader_never_sees_a_part(file: Path) -> None:
    old, new = OLD + b" " * 300_000, NEW + b" " * 200_000
    source, seen, done = ConfigFile(file), set(), threading.Event()
    source.write(old)

    def read() -> None:
        while not done.is_set():
            seen.add(source.read())
            time.sleep(0)  # under gevent, too, both get their turn

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(20):
        source.write(new)
        source.write(old)
        time.sleep(0)
    done.set()
    reader.join()

    assert seen
    assert seen <= {old, new}


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "backends.json").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        ConfigFile(tmp_path / "backends.json").write(NEW)
    assert caught.value.filename == str(tmp_path / "backends.json")
    assert os.listdir(tmp_path) == ["backends.json"]


def test_what_is_no_bytes_leaves_nothing_behind(file: Path) -> None:
    with pytest.raises(TypeError):
        ConfigFile(file).write("text")  # type: ignore[arg-type]
    assert file.read_bytes() == OLD
    assert os.listdir(file.parent) == ["backends.json"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(file: Path) -> None:
    script = """
import resource, sys
from smartedge.discovery.config_file import ConfigFile
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    ConfigFile(sys.argv[1]).write(b"x" * 20_000)
except OSError as error:
    print(error.errno, error.filename)
"""
    said = subprocess.run([sys.executable, "-c", script, str(file)], capture_output=True, text=True, check=True)

    assert said.stdout.split() == [str(errno.EFBIG), str(file)]
    assert file.read_bytes() == OLD
    assert os.listdir(file.parent) == ["backends.json"]


def test_a_missing_directory_is_an_error_about_the_path_that_was_given(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        ConfigFile(tmp_path / "none" / "backends.json").write(NEW)
    assert caught.value.filename == str(tmp_path / "none" / "backends.json")


def test_a_missing_file_is_an_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        ConfigFile(tmp_path / "none.json").read()
    assert caught.value.filename == str(tmp_path / "none.json")


def test_a_mounted_file_is_an_error_with_a_way_out() -> None:
    error = explained(OSError(errno.EBUSY, "Device or resource busy", ".temporary"), "backends.json")
    assert (error.errno, error.filename) == (errno.EBUSY, "backends.json")
    assert "mount its directory" in str(error)


def test_no_more_is_read_than_is_ever_accepted() -> None:
    assert len(ConfigFile("/dev/zero").read()) == MAX_BYTES
