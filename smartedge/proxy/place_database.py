"""A MaxMind database: where an address is. It is read from a copy of our own, so that nobody pulls it away while it is read.

The C reader maps the file into memory: opening a hundred megabytes takes a fraction of a millisecond, a look-up a microsecond.
But a mapped file that somebody writes into, or cuts short, ends the process. So the one that leads copies it, piece by piece,
and others go on with the copy. The library, `maxminddb`, is imported when there is a database: it is an extra.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Collection
from errno import ENOSPC
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from pathlib import Path
from typing import Any, Final

import gevent

from smartedge.balancer.places import Place
from smartedge.http.certificates import file_stamp
from smartedge.proxy.countries import COUNTRIES

PIECE_BYTES: Final = 256 * 1024
PAUSE_S: Final = 0.001
"""So much is copied at once, and so long is the pause until the next piece, in which requests are served."""

MOST_LOOKED_AT: Final = 1000
"""Records of a database that is asked whether it tells anything of places."""

MISSING: Final = 'needs the package maxminddb: pip install "smartedge[geo]"'


class PlaceDatabase:
    """One database in use in this worker; owned by `PlaceDatabases`, asked by `ClientPlaces`.

    serial: another number whenever another file is read, so that what was remembered is forgotten.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.serial = 0
        self.stamp: object = None
        self._reader: Any = None

    def __repr__(self) -> str:
        return f"<PlaceDatabase {self.path} {'closed' if self._reader is None else self._reader.metadata().database_type}>"

    def find(self, address: IPv4Address | IPv6Address) -> Place | None:
        """Return where an address is; None if nobody knows, or the database is broken there."""
        if self._reader is None:
            return None
        try:
            return place_in(self._reader.get(address))
        except Exception:  # a broken record, or an IPv6 address in a database of IPv4
            return None

    def read_from(self, path: str | os.PathLike[str], stamp: object) -> None:
        """Go on with this file, which holds what the original held when it had this stamp. Raises OSError, ValueError."""
        self._reader = open_reader(path)  # the one before is closed when nobody looks anything up in it any more
        self.stamp = stamp
        self.serial += 1


def open_reader(path: str | os.PathLike[str]) -> Any:
    """Open a database that says where addresses are; raises OSError, or ValueError with what it is instead."""
    try:
        import maxminddb
    except ImportError:
        raise ValueError(MISSING) from None
    try:
        reader = maxminddb.open_database(path)
        kind = reader.metadata().database_type
        known = any(place_in(record) is not None for _, record in islice(reader, MOST_LOOKED_AT))
    except maxminddb.InvalidDatabaseError as error:
        raise ValueError(f"is no MaxMind database, or is cut short: {error}") from None
    if not known:
        raise ValueError(f'says nothing of places: its type is "{kind}"; one of cities or countries is needed')
    return reader


def what_is_wrong(error: OSError | ValueError) -> str:
    """Say why a database cannot be used, as the end of a sentence about it."""
    return f"cannot be read: {error.strerror or error}" if isinstance(error, OSError) else str(error)


def place_in(record: Any) -> Place | None:
    """Read a record: MaxMind's and DB-IP's have a location, or at least a country; ipinfo's have these as texts at the top."""
    if not isinstance(record, dict):
        return None
    location = record.get("location")
    found = location if isinstance(location, dict) else record
    where = location_of(found.get("latitude", found.get("lat")), found.get("longitude", found.get("lng", found.get("lon"))))
    if where is not None:
        return where
    for key in ("country", "registered_country", "country_code"):
        country = record.get(key)
        code = country.get("iso_code") if isinstance(country, dict) else country
        if isinstance(code, str) and code.upper() in COUNTRIES:
            return Place(location=COUNTRIES[code.upper()])
    return None


def location_of(latitude: object, longitude: object) -> Place | None:
    """Make a place of coordinates, numbers or texts; None if they are none, or out of range."""
    try:
        north, east = float(latitude), float(longitude)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    if not (-90 <= north <= 90 and -180 <= east <= 180):  # NaN is not, either
        return None
    return Place(location=(north, east))


class PlaceDatabases:
    """The databases of one worker by their paths; owned by the edge, told of workers when there are some.

    log: is told what is wrong with a file that has changed. Before the worker has its place nothing is read.
    """

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._directory: Path | None = None
        self._joined = False
        self._open: dict[str, PlaceDatabase] = {}
        self._copied: dict[str, Path] = {}
        self._alone: set[str] = set()
        self._seen: dict[str, object] = {}
        self._refused: dict[str, object] = {}
        self._copying: Any = None

    def join_workers(self, directory: Path | None) -> None:
        """Read from copies from here on, in the directory that workers share; None if there is none."""
        self._directory, self._joined = directory, True

    def open(self, path: str) -> PlaceDatabase:
        """Return the database of this path as it is now; raises OSError, or ValueError with what is wrong with it."""
        database = self._open.get(path) or PlaceDatabase(path)
        stamp = file_stamp(path)
        if self._joined and database.stamp != stamp:
            try:
                self._use(database, stamp)
            except (OSError, ValueError):
                if not self._use_others_copy(database, stamp):
                    raise
        self._open[path] = database
        return database

    def keep_paths(self, paths: Collection[str]) -> None:
        """Forget the databases of all other paths."""
        for path in self._open.keys() - set(paths):
            del self._open[path]
            self._alone.discard(path)
            if (copy := self._copied.pop(path, None)) is not None:
                _remove(copy)

    def look(self, *, leading: bool) -> None:
        """See which have changed, about once a second: whoever leads copies them, and all go on with the copies."""
        for path, database in list(self._open.items()):
            stamp = file_stamp(path)
            before, self._seen[path] = self._seen.get(path), stamp
            if stamp in (None, database.stamp, self._refused.get(path)) or stamp != before:
                continue  # or it is still being written
            if self._directory is not None and self._copy_path(path, stamp).exists():
                self._go_on(database, stamp)
            elif (leading or self._directory is None or path in self._alone) and not self._copying:
                self._copying = gevent.spawn(self._go_on, database, stamp)

    def _go_on(self, database: PlaceDatabase, stamp: object) -> None:
        """Go on with a file that has changed; what cannot be used is said once, and the one before stays in use."""
        try:
            self._use(database, stamp)
        except (OSError, ValueError) as error:
            self._refused[database.path] = stamp
            self._log(f"the place database {database.path} {what_is_wrong(error)}; the one before stays in use")
        finally:
            self._copying = None

    def _use(self, database: PlaceDatabase, stamp: object) -> None:
        """Go on with a copy of a file as it is now; raises OSError, ValueError. In shared memory, if there is room for it."""
        path, shared = database.path, self._directory
        if shared is not None:
            copy = self._copy_path(path, stamp)
            try:
                if not copy.exists():
                    _copy(path, copy, stamp)
            except OSError as error:
                if error.errno != ENOSPC:
                    raise
                shared = None  # a container has little shared memory unless it is asked for
        if shared is None:
            with tempfile.TemporaryDirectory(prefix="smartedge-") as folder:
                copy = Path(folder) / "places.mmdb"
                _copy(path, copy, stamp)
                database.read_from(copy, stamp)  # stays mapped when its name has gone
            self._alone.add(path)
            return
        try:
            database.read_from(copy, stamp)
        except ValueError:
            copy.unlink(missing_ok=True)
            raise
        self._alone.discard(path)
        before = self._copied.get(path)
        self._copied[path] = copy
        if before not in (None, copy):
            for old in copy.parent.glob(f"{_digest(path)}-*.mmdb"):
                if old not in (before, copy):  # others may still have to open the one before
                    _remove(old)

    def _use_others_copy(self, database: PlaceDatabase, stamp: object) -> bool:
        """Go on with what the other workers have, for one that begins when the file is no good; False if there is nothing."""
        if self._directory is None or database.stamp is not None:
            return False
        found = self._directory.glob(f"{_digest(database.path)}-*.mmdb")
        for copy in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True):
            with contextlib.suppress(OSError, ValueError):
                database.read_from(copy, stamp)
                self._copied[database.path] = copy
                return True
        return False

    def _copy_path(self, path: str, stamp: object) -> Path:
        assert self._directory is not None
        return self._directory / f"{_digest(path)}-{_digest(repr(stamp))}.mmdb"


def _copy(path: str, target: Path, stamp: object) -> None:
    """Copy a file piece by piece, so that nobody waits for it; it is there whole or not at all. Raises OSError, ValueError.

    stamp: of the file as it is to be.
    """
    handle, name = tempfile.mkstemp(dir=target.parent, suffix=".part")
    try:
        with open(path, "rb") as source, open(handle, "wb") as file:
            while piece := source.read(PIECE_BYTES):
                file.write(piece)
                gevent.sleep(PAUSE_S)
        if file_stamp(path) != stamp:
            raise ValueError("is being written")
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _remove(copy: Path) -> None:
    """Remove a copy in a thread: to free much memory takes a while."""
    gevent.get_hub().threadpool.spawn(copy.unlink, missing_ok=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
