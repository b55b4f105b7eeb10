"""Which cluster a node is part of: known before there is a configuration, for that is in the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from smartedge.config.cluster import Cluster, ClusterConfig
from smartedge.config.problems import ConfigError, Problem, decode
from smartedge.config.sources import Overlay, Read, read_file

_cluster: TypeAdapter[ClusterConfig] = TypeAdapter(Cluster)


def cluster_settings(
    path: str, env: Mapping[str, str], overrides: Mapping[str, Any] | None, read: Read = read_file
) -> ClusterConfig | None:
    """Return where the cluster is: as a flag, a variable or the file says; None outside of one. Raises ConfigError."""
    overlay = Overlay(env, overrides or {})
    said = overlay.settings.get("cluster")
    if said is None:
        try:
            text = read(path)
            document = None if text is None else decode(text, path)[0]
        except ConfigError:
            return None  # said when the whole file is read
        said = document.get("cluster") if isinstance(document, dict) else None
    if said is None:
        return None
    try:
        return _cluster.validate_python(said)
    except ValidationError as error:
        problems = [Problem(overlay.where(("cluster", *one["loc"])), _message(one)) for one in error.errors()]
        raise ConfigError(problems, status=422, origin=path) from None


def _message(found: Any) -> str:
    text = str(found["msg"]).removeprefix("Value error, ")
    return text[:1].lower() + text[1:]
