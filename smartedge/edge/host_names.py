"""The host names in the URLs of backends, which somebody has to look up."""

from __future__ import annotations

from smartedge.config.model import Config
from smartedge.config.services import ServiceConfig
from smartedge.http.sockets import destination


class HostNames:
    """The host names of services' backends, looked for once each: they are asked for at every step of a reload.

    Owned by the `BackendRegistry`.
    """

    def __init__(self) -> None:
        self._of: dict[int, tuple[ServiceConfig, tuple[str, ...]]] = {}  # with the service, so that nothing else gets its id

    def of_service(self, config: ServiceConfig) -> tuple[str, ...]:
        """Return the host names of a service's backends, once for each backend."""
        held = self._of.get(id(config))
        if held is None or held[0] is not config:
            names = tuple(filter(None, (destination(backend.url).name for backend in config.backends)))
            held = self._of[id(config)] = config, names
        return held[1]

    def of_all(self, config: Config) -> list[str]:
        """Return the host names of all services, each once."""
        return list(dict.fromkeys(name for service in config.all_services() for name in self.of_service(service.config)))

    def keep_only(self, config: Config) -> None:
        """Forget those of services that are not of this configuration."""
        in_use = {id(service.config) for service in config.all_services()}
        self._of = {key: held for key, held in self._of.items() if key in in_use}
