"""TLS towards clients as a Config has it: which files, in which order, and the folder of automatic certificates."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from smartedge.acme.storage import storage_of
from smartedge.config.model import Config
from smartedge.http.certificates import PemFiles, file_stamp, stamps_in
from smartedge.http.server_tls import Named, TlsSettings
from smartedge.http2.installed import is_installed


def tls_settings(config: Config, env: Mapping[str, str] = os.environ) -> TlsSettings | None:
    """Work out what clients are shown, None where they do not speak TLS. The certificate of `certfile` is the first."""
    if not config.speaks_tls:
        return None
    return TlsSettings(
        tuple(_named(config, env)),
        config.certificates_dir,
        config.strict_sni,
        config.tls_min_version,
        config.tls_ciphers,
        config.client_ca_file,
        config.client_certificates if config.client_ca_file is not None else None,
        str(storage_of(config, env).challenges) if config.automatic_names else None,
        http2=config.http2 is not False and is_installed(),
    )


def _named(config: Config, env: Mapping[str, str]) -> Iterator[Named]:
    if config.certfile is not None:
        yield Named(("certfile",), PemFiles(config.certfile, config.keyfile))
    storage = storage_of(config, env)
    for index, entry in enumerate(config.certificates):
        if entry.certfile is not None:
            yield Named(("certificates", index), PemFiles(entry.certfile, entry.keyfile))
            continue
        for name in config.names_of(entry):
            yield Named(("certificates", index), PemFiles(str(storage.certificate(name))), may_lack=True)


def first_certificate(config: Config, env: Mapping[str, str] = os.environ) -> str | None:
    """Give the file of the certificate that is shown to whoever names no host, absolute; None where that can't be known."""
    named = next(_named(config, env), None)
    return None if named is None else os.path.abspath(named.files.cert_file)


def tls_stamps(config: Config, env: Mapping[str, str] = os.environ) -> dict[str, object]:
    """Give what tells each of these files from its successor."""
    settings = tls_settings(config, env)
    if settings is None:
        return {}
    paths = {path for one in settings.named for path in (one.files.cert_file, one.files.key_file)} | {settings.client_ca_file}
    found: dict[str, object] = {path: file_stamp(path) for path in paths if path is not None}
    if settings.directory is not None:
        found |= stamps_in(settings.directory)
    return found
