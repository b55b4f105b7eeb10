"""What a node keeps of its cluster on its own disk."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from smartedge.cluster.cached_copy import CachedCopy, CopyDamaged
from smartedge.cluster.secret_keys import first_secrets
from smartedge.cluster.stored import Stored
from smartedge.cluster.view import View

VIEW = View(0, Stored(3, "é\ud800", "one", 0.0, "nonce", "id"), will={"a": [1]}, secrets=first_secrets(0.0))


@pytest.fixture
def copy(tmp_path: Path) -> CachedCopy:
    return CachedCopy(tmp_path / "backends.json", "/prod")


def test_what_is_kept_is_read_again_by_nobody_else(copy: CachedCopy, tmp_path: Path) -> None:
    assert copy.read() is None
    copy.path.write_text("older")
    copy.path.chmod(0o644)
    copy.write(replace(VIEW, revision=7))
    assert copy.read() == VIEW
    assert copy.path == tmp_path / ".backends.json.cluster.json"
    assert copy.path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == [".backends.json.cluster.json"]


def test_a_cluster_without_anything_is_kept_too(copy: CachedCopy) -> None:
    copy.write(View(2))
    assert copy.read() == View()


def test_the_copy_of_another_cluster_is_not_used(tmp_path: Path) -> None:
    """A node that has moved would put the configuration of its old cluster into the new one, which has none yet."""
    file = tmp_path / "backends.json"
    CachedCopy(file, "/prod", ["http://a:2379", "http://b:2379"]).write(VIEW)
    assert CachedCopy(file, "/prod", ["http://b:2379", "http://c:2379"]).read() == VIEW
    assert CachedCopy(file, "/prod", ["http://c:2379"]).read() is None
    assert CachedCopy(file, "/test", ["http://a:2379"]).read() is None


@pytest.mark.parametrize("damage", [b"", b"{}", b"\n", b"\xff\xfe\n{}"])
def test_a_damaged_copy_is_said_and_not_used(copy: CachedCopy, damage: bytes) -> None:
    copy.path.write_bytes(damage)
    with pytest.raises(CopyDamaged, match=r"\.backends\.json\.cluster\.json, the copy .* is damaged, and not used"):
        copy.read()


def test_one_bit_is_enough(copy: CachedCopy) -> None:
    copy.write(VIEW)
    whole = copy.path.read_bytes()
    for at in range(0, len(whole), 7):
        copy.path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(CopyDamaged):
            copy.read()


def test_a_copy_that_is_no_file_of_its_own_is_not_read(copy: CachedCopy, tmp_path: Path) -> None:
    copy.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CopyDamaged, match="cannot be read"):
        copy.read()
