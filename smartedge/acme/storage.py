"""The folder of automatic certificates: what lies where, for its owner alone, written whole or not at all.

account.json  account.key          the account at the authority, one for each directory URL
certificates/NAME.pem              key and chain in one file, so that they always fit
retry/NAME.json                    how often it has failed, and when it is tried again
challenges/TOKEN                   what the authority asks `http_bind` for; NAME.alpn.pem what it asks the TLS port for
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smartedge.config.model import Config
from smartedge.config.private_file import write_private

LATELY_S = 10.0
"""So long a certificate is news: an edge looks at its files once a second."""


def default_storage(env: Mapping[str, str]) -> str:
    """Give the folder where `acme.storage` names none: the service's own, else one below the user's data."""
    if state := env.get("STATE_DIRECTORY"):
        return f"{state.partition(':')[0]}/acme"
    data = env.get("XDG_DATA_HOME") or f"{env.get('HOME') or os.path.expanduser('~')}/.local/share"
    return f"{data}/smartedge/acme"


@dataclass(frozen=True, slots=True)
class Storage:
    """One such folder; used by the leader's `Renewals`, by the program that gets certificates, and by whoever shows them."""

    path: Path

    def make(self) -> None:
        """Make the folders that are not there; raises OSError."""
        for folder in (self.path, self.certificates, self.challenges, self.retries):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def certificates(self) -> Path:
        """Where the certificates are."""
        return self.path / "certificates"

    @property
    def challenges(self) -> Path:
        """Where the answers to the authority's questions are."""
        return self.path / "challenges"

    @property
    def retries(self) -> Path:
        """Where it stands what has failed."""
        return self.path / "retry"

    def certificate(self, name: str) -> Path:
        """Give the file of the certificate for a name."""
        return self.certificates / f"{name}.pem"

    def alpn_certificate(self, name: str) -> Path:
        """Give the file of the certificate that answers a question of TLS-ALPN-01."""
        return self.challenges / f"{name}.alpn.pem"

    def failures(self, name: str) -> tuple[int, float]:
        """Give how often in a row a name has failed, and when it may be tried again, in Unix time."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            said: Any = json.loads((self.retries / f"{name}.json").read_text())
            return int(said["failures"]), float(said["next_try_at"])
        return 0, 0.0

    def failed(self, name: str, failures: int, next_try_at: float) -> None:
        """Write down a failure; raises OSError."""
        document = {"failures": failures, "next_try_at": round(next_try_at, 3)}
        write_private(self.retries / f"{name}.json", json.dumps(document).encode())

    def came_lately(self, name: str, now: float) -> bool:
        """Whether a certificate was written a moment ago, which whoever asks for one cannot have seen. now: Unix time."""
        with contextlib.suppress(OSError):
            return abs(now - self.certificate(name).stat().st_mtime) < LATELY_S
        return False

    def succeeded(self, name: str) -> None:
        """Forget the failures of a name."""
        (self.retries / f"{name}.json").unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[bool]:
        """Keep other processes from getting certificates meanwhile; gives False where one does already. Raises OSError."""
        fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
        except BlockingIOError:
            yield False
        finally:
            os.close(fd)


def storage_of(config: Config, env: Mapping[str, str] = os.environ) -> Storage:
    """Give the folder of automatic certificates."""
    return Storage(Path(config.acme.storage or default_storage(env)))
