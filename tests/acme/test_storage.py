"""What is kept is its owner's alone, whole, and used by one process at a time."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import time
from pathlib import Path

from smartedge.acme.storage import Storage
from smartedge.config.private_file import write_private


def modes(folder: Path) -> dict[str, str]:
    return {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in (folder, *folder.rglob("*"))}


def test_folders_and_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "acme")
    storage.make()
    storage.make()
    write_private(storage.certificate("a.example"), b"1")
    write_private(storage.certificate("a.example"), b"2")
    assert storage.certificate("a.example").read_bytes() == b"2"
    assert modes(storage.path) == {
        "acme": "0o700",
        "certificates": "0o700",
        "challenges": "0o700",
        "retry": "0o700",
        "a.example.pem": "0o600",
    }


def test_a_certificate_that_has_just_come_is_not_got_again(tmp_path: Path) -> None:
    """The run of an edge that was killed went on, and that of the next one got another certificate two seconds later."""
    storage = Storage(tmp_path)
    storage.make()
    now = time.time()
    assert not storage.came_lately("a.example", now)
    write_private(storage.certificate("a.example"), b"1")
    assert storage.came_lately("a.example", now)
    assert not storage.came_lately("a.example", now + 60)
    wanted = {
        "names": ["a.example"],
        "directory": "https://127.0.0.1:1",
        "storage": str(tmp_path),
        "email": None,
        "ca_file": None,
    }
    program = [sys.executable, "-m", "smartedge.acme.issue"]
    ran = subprocess.run(program, input=json.dumps(wanted | {"how": "http-01"}), capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == {"name": "a.example", "ok": True, "detail": ""}


def test_one_process_at_a_time_gets_certificates(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    with storage.locked() as first, storage.locked() as second:
        assert (first, second) == (True, False)
    with storage.locked() as again:
        assert again
