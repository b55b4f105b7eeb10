"""The key `cluster`: the etcd that several machines have in common, as an object or as one text.

Nothing is asked here.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from smartedge.config import values
from smartedge.config.discover import HttpAddress
from smartedge.config.section import File, Listed, Section, Text, beside

_PORT = 2379
_SCHEMES = {"etcd": "http", "etcds": "https"}


def _prefix(text: str) -> str:
    """What all keys of a cluster begin with, in normal form: no slash at its end."""
    text = text.rstrip("/")
    if not text.startswith("/"):
        raise ValueError(f'must be a path such as "/smartedge", not {values.shown(text)}')
    return values.line(text)


class ClusterConfig(Section):
    """The etcd that the nodes of a cluster meet in."""

    endpoints: Annotated[tuple[HttpAddress, ...], Listed, Field(min_length=1)]
    """Members of the etcd cluster: `["http://10.0.0.1:2379"]`."""
    prefix: Annotated[str, AfterValidator(_prefix)] = "/smartedge"
    """What the keys of this cluster begin with."""
    user: Text | None = None
    """User name; null goes by `SMARTEDGE_ETCD_USER`. The password is in `SMARTEDGE_ETCD_PASSWORD`."""
    ca_file: File | None = None
    """PEM file of authorities to trust instead of the system's."""
    cert_file: File | None = None
    """PEM file of the certificate that the edge shows."""
    key_file: Annotated[File | None, beside("cert_file")] = None
    """PEM file of its key, when `cert_file` does not hold it."""


def _object(value: object) -> object:
    """Make the object of a text such as etcd://10.0.0.1,10.0.0.2:2379/prod; etcds:// is for TLS."""
    if not isinstance(value, str):
        return value
    scheme, separator, rest = value.partition("://")
    authority, slash, prefix = rest.partition("/")
    user, at, hosts = authority.rpartition("@")
    if not separator or scheme.lower() not in _SCHEMES or not hosts:
        raise ValueError(f'must be like "etcd://10.0.0.1:2379,10.0.0.2:2379/prod", not {values.shown(value)}')
    if ":" in user:
        raise ValueError("must not hold a password; SMARTEDGE_ETCD_PASSWORD does")
    made: dict[str, object] = {"endpoints": [_endpoint(_SCHEMES[scheme.lower()], one, value) for one in hosts.split(",")]}
    if prefix:
        made["prefix"] = slash + prefix
    return made | ({"user": user} if at else {})


def _endpoint(scheme: str, authority: str, whole: str) -> str:
    host, port = values.host_and_port(authority, whole)
    return f"{scheme}://[{host}]:{port or _PORT}" if ":" in host else f"{scheme}://{host}:{port or _PORT}"


Cluster = Annotated[ClusterConfig, BeforeValidator(_object, json_schema_input_type=str | ClusterConfig)]
"""An object, or a text that is short for one."""
