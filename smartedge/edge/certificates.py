"""What the leading worker does about certificates: automatic ones are got and renewed, and each end is warned of."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from smartedge.acme.renewals import Renewals, order_of
from smartedge.config.model import Config
from smartedge.http.certificates import Certificate

log = logging.getLogger("smartedge")

DAY_S: Final = 86_400.0
WARN_S: Final = 14 * DAY_S
"""How long before its end a certificate is warned of."""
WARN_RATIO: Final = 0.25
"""Or this share of its life, where that is less: some live a week."""


class CertificateCare:
    """Looks after the certificates that clients are shown, once a second; owned by the `Edge`."""

    def __init__(self, rng: random.Random) -> None:
        self._expiry = ExpiryWatch()
        self._renewals = Renewals(rng)

    def look(self, config: Config, certificates: Sequence[Certificate]) -> None:
        """Warn of those that end soon, and have automatic ones renewed; in the worker that leads."""
        now = time.time()
        for text in self._expiry.look(certificates, now):
            log.warning("%s", text)
        self._renewals.look(order_of(config), certificates, now)

    def stop(self) -> None:
        """End what is under way."""
        self._renewals.stop()


class ExpiryWatch:
    """Says of each certificate once a day that it is about to expire; owned by `CertificateCare`."""

    def __init__(self) -> None:
        self._said_at: dict[bytes, float] = {}

    def look(self, certificates: Sequence[Certificate], now: float) -> list[str]:
        """Give a sentence for each that nobody has been told of for a day. now: Unix time."""
        found = []
        for one in certificates:
            left_s = one.expires_at - now
            early_s = min(WARN_S, WARN_RATIO * (one.expires_at - one.begins_at))
            if left_s < early_s and now - self._said_at.get(one.digest, -DAY_S) >= DAY_S:
                self._said_at[one.digest] = now
                found.append(f"the certificate for {_names(one)} ({one.files.cert_file}) {_when(left_s, one.expires_at)}")
        if len(self._said_at) > len(certificates):
            self._said_at = {one.digest: self._said_at[one.digest] for one in certificates if one.digest in self._said_at}
        return found


def _names(certificate: Certificate) -> str:
    first, *rest = certificate.names or ("no name",)
    return first if not rest else f"{first} and {len(rest)} more"


def _when(left_s: float, at: float) -> str:
    day = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%MZ")
    if left_s <= 0:
        return f"has expired ({day})"
    return (
        f"expires in {left_s / DAY_S:.0f} days ({day})"
        if left_s >= 2 * DAY_S
        else f"expires in {left_s / 3600:.0f} hours ({day})"
    )
