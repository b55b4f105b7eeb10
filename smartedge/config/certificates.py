"""The certificates of `backends.json`: entries that name files, entries that name hosts, and where automatic ones come from."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, ValidationInfo, field_validator

from smartedge.config import values
from smartedge.config.problems import Finding
from smartedge.config.section import File, Listed, Seconds, Section, Text, beside

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
AUTO = "auto"
ANOTHERS_KEY = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
"""What OpenSSL says of a key that is not the certificate's."""


def certificate_name(text: str) -> str:
    """A host name that a certificate can be got for over HTTP, in lower case; "auto" stands for the hosts of the routes."""
    name = text.lower().removesuffix(".")
    if name.startswith("*."):
        raise ValueError(
            f"must be no wildcard, not {values.shown(text)}: that takes a record in DNS; use files for it (certfile)"
        )
    if len(name) > 253 or not values.HOST.fullmatch(name) or re.fullmatch(r"[0-9.]+", name):
        raise ValueError(f'must be a host name such as "shop.example", not {values.shown(text)}')
    return name


def acme_directory(text: str) -> str:
    """The URL of an ACME directory: https, as RFC 8555 section 6.1 asks for."""
    if not text.startswith("https://") or not text.isascii() or not text.isprintable() or " " in text or len(text) < 10:
        raise ValueError(f"must be a URL that begins with https://, not {values.shown(text)}")
    return text


def ciphers(text: str) -> str:
    """Give a list of cipher suites back that OpenSSL knows; raises ValueError."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(text)
    except (ssl.SSLError, ValueError):
        raise ValueError(f"names no cipher suite that OpenSSL has here: {values.shown(text)}") from None
    return text


class CertificateConfig(Section):
    """A certificate that clients may be shown: its files, or a name for which one is got and renewed."""

    name: Annotated[str, AfterValidator(certificate_name)] | None = None
    """A host for which a certificate is got and renewed ([automatic certificates](tls.md)); a text is short for it."""
    certfile: Annotated[File | None, Field(validate_default=True)] = None
    """PEM file of the certificate."""
    keyfile: Annotated[File | None, beside("certfile")] = None
    """PEM file of its key, when `certfile` does not hold it."""

    @field_validator("certfile")
    @classmethod
    def _one_of_both(cls, certfile: str | None, info: ValidationInfo) -> str | None:
        name = info.data.get("name", "wrong in itself")
        if certfile is None and name is None:
            raise ValueError('is missing; the smallest entry is {"certfile": "shop.pem"}')
        if certfile is not None and name not in (None, "wrong in itself"):
            raise ValueError("must not stand beside a name: a certificate is got for it, or there are files")
        return certfile


def _entry(value: object) -> object:
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict):
        return value
    raise ValueError(f'must be the name of a host or an object with a "certfile", not {values.shown(value)}')


def _list(value: object) -> object:
    return [AUTO] if value == AUTO else value


CertificateEntry = Annotated[CertificateConfig, BeforeValidator(_entry, json_schema_input_type=str | CertificateConfig)]
Certificates = Annotated[tuple[CertificateEntry, ...], Listed, BeforeValidator(_list)]


Ciphers = Annotated[str, AfterValidator(ciphers)]


class AcmeConfig(Section):
    """Where automatic certificates come from (RFC 8555), and where they are kept."""

    email: Text | None = None
    """Where the authority may write to when something is wrong."""
    agree_tos: bool = False
    """Whether you agree to the authority's terms of service; without that there are no automatic certificates."""
    directory: Annotated[str, AfterValidator(acme_directory)] = LETS_ENCRYPT
    """The authority's directory; Let's Encrypt's unless set."""
    ca_file: File | None = None
    """PEM file of the authorities that the directory's own certificate is checked with; null goes by the system's."""
    storage: Text | None = None
    """Folder for account, keys and certificates, made if it is not there; null is `$STATE_DIRECTORY/acme` under systemd, else
    `~/.local/share/smartedge/acme`."""
    retry_s: Seconds = 60.0
    """Shortest wait after a failure; it doubles with each, up to a day."""


def problems(document: object) -> Iterator[Finding]:
    """Find the certificates of a refused document whose key is another's, so that they are named with all else that is wrong.

    A document that is right is not asked: whoever uses its files finds what is wrong with them.
    """
    if not isinstance(document, dict):
        return
    entries = document.get("certificates")
    written = {("certificates", index): entry for index, entry in enumerate(entries if isinstance(entries, list) else ())}
    alone = {key: document[key] for key in ("certfile", "keyfile") if document.get(key) is not None}
    for steps, entry in [(("certfile",), alone), *written.items()]:
        try:
            found = CertificateConfig.model_validate(entry)
        except ValidationError:
            continue
        if found.certfile is not None and _is_anothers(found.certfile, found.keyfile):
            yield steps, "cannot be used: the key does not belong to the certificate"


def _is_anothers(certfile: str, keyfile: str | None) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certfile, keyfile, password="")  # never ask a terminal
    except ssl.SSLError as error:
        return error.reason in ANOTHERS_KEY
    except OSError:
        return False
    return False
