"""What `zones`, `zone` and `locality` of a configuration mean: where the edge stands, and where its clients are."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from smartedge.balancer.near_first import Locality
from smartedge.balancer.places import NOWHERE, Place
from smartedge.config.model import Config
from smartedge.config.services import ServiceConfig, WrittenService
from smartedge.config.values import shown
from smartedge.config.zones import place_of_zone, places_of
from smartedge.edge.origin import ConfigOrigin
from smartedge.http.forwarded import IsTrusted
from smartedge.proxy.client_places import ClientPlaces
from smartedge.proxy.place_database import PlaceDatabase, PlaceDatabases, what_is_wrong

log = logging.getLogger("smartedge")


class Localities:
    """The places of the configuration that is being built; owned by a `SetupBuilder`. databases: of this worker."""

    def __init__(self, origin: ConfigOrigin) -> None:
        self._origin = origin
        self._zones: Mapping[str, Place] = {}
        self._here = NOWHERE
        self.databases = PlaceDatabases(lambda text: log.error("%s", text))

    def join_workers(self, directory: Path | None) -> None:
        """Share copies of databases with the other workers."""
        self.databases.join_workers(directory)

    def follow_config(self, config: Config) -> None:
        """Go by the places of this configuration from here on."""
        self._zones = places_of(config.zones)
        self._here = place_of_zone(config.zone, self._zones)

    def locality_of(self, config: ServiceConfig) -> Locality | None:
        """Return how a service goes by places; None where it does not, and no backend goes before another."""
        return config.locality.locality(self._here, self._zones, [backend.priority for backend in config.backends])

    def client_places_of(self, service: WrittenService, is_trusted: IsTrusted) -> ClientPlaces | None:
        """Return what says where the clients of a service are; None where that does not count. Raises ConfigError."""
        said = service.config.locality
        if said.prefer != "client":
            return None
        networks = {text: place_of_zone(zone, self._zones) for text, zone in said.networks}
        return ClientPlaces(is_trusted, networks, said.header, self._zones, self._database(service))

    def _database(self, service: WrittenService) -> PlaceDatabase | None:
        path = service.config.locality.database
        if path is None:
            return None
        try:
            return self.databases.open(path)
        except (OSError, ValueError) as error:
            message = f"names {shown(path)}, which {what_is_wrong(error)}"
            raise self._origin.unusable((*service.steps, "locality", "database"), message) from error


def named_databases(config: Config) -> set[str]:
    """Return the paths of all databases that a configuration names."""
    named = {one.config.locality.database for one in config.all_services()}
    return {path for path in named if path is not None}
