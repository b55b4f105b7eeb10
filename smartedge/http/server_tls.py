"""TLS towards clients: the settings, the certificate for the name that a client asks for, and what a reload replaces.

    accept ──▶ front context ──ClientHello, server name──▶ the context with the certificates for that name

A connection begins in the front context, which has no certificate but holds the keys of session tickets: a client that comes back
resumes its session wherever they are the same. They are derived from secrets that workers and nodes have in common
(`use_secrets`); where OpenSSL can't be given any, from a front that was made before the workers were forked. Reloads keep them.
"""

from __future__ import annotations

import re
import ssl
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

from smartedge.http.certificates import Certificate, CertificateContext, KeyKind, PemFiles, files_in, load_chain, read_certificate

if TYPE_CHECKING:
    from smartedge.http.ticket_keys import TicketKeys

Steps = tuple[str | int, ...]
"""The path of a key in the configuration."""

INTERMEDIATE: Final = ":".join(
    f"ECDHE-{kind}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for kind in ("ECDSA", "RSA")
)
"""Cipher suites of TLS 1.2 as Mozilla's "intermediate" has them (https://wiki.mozilla.org/Security/Server_Side_TLS, 5.7), without
those of finite fields, which need parameters that no client misses. The client's order counts, as there. TLS 1.3 has its own."""


ACME_ALPN: Final = b"\x0aacme-tls/1"
"""What a client offers that checks a name for an authority, as it stands in its ClientHello (RFC 8737 section 6.2)."""
_PLAIN_NAME = re.compile(r"[A-Za-z0-9-][A-Za-z0-9._-]{0,252}")


class UnusableTls(ValueError):
    """Settings that can't be used. problems: what is wrong with which key."""

    def __init__(self, problems: Sequence[tuple[Steps, str]]) -> None:
        super().__init__("; ".join(message for _, message in problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Named:
    """A certificate that is named by itself. steps: its key. may_lack: it is an automatic one, that there may not be yet."""

    steps: Steps
    files: PemFiles
    may_lack: bool = False


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """What the operator wrote of TLS towards clients; made of a Config by `process.tls_settings`.

    named: the certificates in their order. directory: a folder of more. strict_sni: a client that asks for another name is
    refused, instead of being shown the first. client_ca_file: the authorities of client certificates. client_certificates:
    whether clients may or must have one, None without that file. challenges: the folder of certificates that answer an
    authority's question (TLS-ALPN-01). http2: it is offered.
    """

    named: tuple[Named, ...] = ()
    directory: str | None = None
    strict_sni: bool = False
    min_version: Literal["1.2", "1.3"] = "1.2"
    ciphers: str | None = None
    client_ca_file: str | None = None
    client_certificates: Literal["optional", "required"] | None = None
    challenges: str | None = None
    http2: bool = False

    @property
    def of_contexts(self) -> tuple[object, ...]:
        """What goes into every context, whatever it shows."""
        return self.min_version, self.ciphers, self.client_ca_file, self.client_certificates, self.http2


@dataclass(frozen=True, slots=True)
class Shown:
    """What clients are shown, built whole by `read_shown`; part of a Setup's files, and put to use by `ServerTls`.

    certificates: in the order in which they are looked through. digest: of their files. clients: of whom client certificates
    are accepted from.
    """

    settings: TlsSettings
    certificates: tuple[Certificate, ...]
    table: NameTable
    digest: bytes
    clients: bytes


def read_shown(settings: TlsSettings, before: Shown | None) -> Shown:
    """Read all certificates; raises UnusableTls with all that is wrong. before: what is in use, which is not read again."""
    certificates, problems = _read(settings, () if before is None else before.certificates)
    authorities = b""
    try:
        if settings.client_ca_file is not None:
            authorities = Path(settings.client_ca_file).read_bytes()
            server_context(settings)
    except (OSError, ValueError) as error:
        problems.append((("client_ca_file",), f"cannot be used: {getattr(error, 'strerror', None) or error}"))
    if problems:
        raise UnusableTls(problems)
    clients = sha256(authorities + str(settings.client_certificates).encode()).digest()
    same = before is not None and (before.settings.of_contexts, before.clients) == (settings.of_contexts, clients)
    return Shown(
        settings,
        tuple(certificates),
        NameTable(
            certificates,
            partial(_context_for, settings),
            strict=settings.strict_sni,
            made=before.table.made if before is not None and same else {},
        ),
        sha256(b"".join([*(one.digest for one in certificates), authorities])).digest(),
        clients,
    )


def _read(settings: TlsSettings, known: Sequence[Certificate]) -> tuple[list[Certificate], list[tuple[Steps, str]]]:
    """Read what is named and what the folder holds; what has not changed is taken as it was read before."""
    as_before = {(one.files, one.digest): one for one in known}
    found: list[Certificate] = []
    problems: list[tuple[Steps, str]] = []

    def take(one: Named, where: str = "") -> None:
        try:
            found.append(as_before.get((one.files, one.files.digest())) or read_certificate(one.files))
        except (OSError, ValueError) as error:
            if not one.may_lack:
                problems.append((one.steps, f"cannot be used: {where}{getattr(error, 'strerror', None) or error}"))

    for one in settings.named:
        take(one)
    if settings.directory is not None:
        steps = ("certificates_dir",)
        try:
            entries = list(files_in(settings.directory))
        except OSError as error:
            entries = []
            problems.append((steps, f"cannot be read: {error.strerror}"))
        for entry in entries:
            if isinstance(entry, PemFiles):
                take(Named(steps, entry), f"{Path(entry.cert_file).relative_to(settings.directory)}: ")
            else:
                problems.append((steps, f"cannot be used: {entry}"))
    return found, problems


class ServerTls:
    """TLS of one worker's clients; owned by its `Edge`. Its server calls it for each connection, for the context to begin in.

    front: made before the workers are forked, for those to share who can't be given keys of tickets; else one of our own.
    shown: what is in use, None without TLS. problem: why session tickets have keys of OpenSSL's own making, None where they have
    not.
    """

    def __init__(self, front: Any = None) -> None:
        self.shown: Shown | None = None
        self.problem: str | None = None
        self._front = front or front_context()
        self._secrets: Sequence[bytes] = ()
        self._keys: TicketKeys | None = None

    def __call__(self) -> Any:
        """Give the context for a new connection, None without TLS."""
        return None if self.shown is None else self._front

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """Those in use."""
        return () if self.shown is None else self.shown.certificates

    def use(self, shown: Shown | None) -> None:
        """Go on with this, for new connections; fails no more."""
        before, self.shown = self.shown, shown
        if shown is None or shown is before:
            return
        if before is not None and before.clients != shown.clients:
            self._front, self._keys = front_context(), None  # whoever was let in by other authorities resumes no session
        _set_up(self._front, shown.settings)
        self._give_keys()
        keep_quiet_about_names()
        self._front.sni_callback = self._show

    def use_secrets(self, secrets: Sequence[bytes]) -> None:
        """Make session tickets by the first of these secrets from here on, and take those of all."""
        self._secrets = secrets
        self._give_keys()

    def _give_keys(self) -> None:
        if self.shown is None or not self._secrets:
            return
        from smartedge.http.ticket_keys import NoTicketKeys, TicketKeys  # late: ctypes' memory is for those who speak TLS

        try:
            if self._keys is None:
                self._keys = TicketKeys(self._front, self._secrets, apart=self.shown.clients)
            else:
                self._keys.use(self._secrets)
            self.problem = None
        except NoTicketKeys as error:
            self.problem = str(error)

    def _show(self, tls: Any, name: str | None, _front: object) -> int | None:
        """Choose what a client is shown; called by OpenSSL in the middle of a handshake, whether or not there is a name."""
        assert self.shown is not None
        tls.asked_for = name
        challenges = self.shown.settings.challenges
        if challenges is not None and ACME_ALPN in tls.hello:
            context = _answer_in(Path(challenges), name or "")
        else:
            context = self.shown.table.find(name)
        if context is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        tls.context = context
        return None


def _unraisable(otherwise: Callable[[Any], object], found: Any) -> None:
    if isinstance(found.object, bytes) and isinstance(found.exc_value, UnicodeDecodeError):
        return
    otherwise(found)


def keep_quiet_about_names() -> None:
    """Have no traceback on stderr for each client that asks for a name beyond ASCII: `ssl` refuses it, and would say so there."""
    if getattr(sys.unraisablehook, "func", None) is not _unraisable:
        sys.unraisablehook = partial(_unraisable, sys.unraisablehook)


def _answer_in(challenges: Path, name: str) -> Any:
    """Give the context that answers an authority's question about a name (RFC 8737); None where none is asked."""
    file = challenges / f"{name.lower()}.alpn.pem"
    if not _PLAIN_NAME.fullmatch(name) or not file.is_file():
        return None
    context = CertificateContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        load_chain(context, PemFiles(str(file)))
    except ValueError:
        return None
    context.set_alpn_protocols(["acme-tls/1"])
    return context


class NameTable:
    """Which context shows the certificate for a name; made anew at every reload, and asked by `ServerTls`.

    make: makes the context that shows these certificates, one of each kind at most. strict: names of none find nothing, instead
    of the first certificate. made: contexts that may be used again, by what they show; those of this table afterwards. Where
    several are for a name the first of each kind counts.
    """

    def __init__(
        self,
        certificates: Sequence[Certificate],
        make: Callable[[tuple[Certificate, ...]], Any],
        *,
        strict: bool = False,
        made: Mapping[tuple[Certificate, ...], Any] = MappingProxyType({}),
    ) -> None:
        kinds: dict[str, dict[KeyKind, Certificate]] = {}
        for one in certificates:
            for name in one.names:
                kinds.setdefault(name, {}).setdefault(one.kind, one)
        self.made: dict[tuple[Certificate, ...], Any] = {}
        for shown in kinds.values():
            if (group := tuple(shown.values())) not in self.made:
                self.made[group] = made.get(group) or make(group)
        self._contexts = {name: self.made[tuple(shown.values())] for name, shown in kinds.items()}
        self._otherwise = None
        if certificates and not strict:
            first = certificates[0]
            beside = next((self._contexts[name] for name in first.names if first in kinds[name].values()), None)
            self._otherwise = beside or make((first,))

    def find(self, name: str | None) -> Any:
        """Give the context for the name that a client asks for, None for nothing that fits; an exact name goes before `*.`."""
        if name is None:
            return self._otherwise
        low = name.rstrip(".").lower()
        return self._contexts.get(low) or self._contexts.get(f"*.{low.partition('.')[2]}") or self._otherwise


def front_context() -> Any:
    """Make the context in which connections begin; before a fork, for the keys of session tickets to be shared."""
    return CertificateContext(ssl.PROTOCOL_TLS_SERVER)


def server_context(settings: TlsSettings, *certificates: Certificate) -> Any:
    """Make a context of the settings, that shows these certificates; raises OSError, ssl.SSLError or ValueError."""
    context = CertificateContext(ssl.PROTOCOL_TLS_SERVER)
    _set_up(context, settings)
    if settings.client_ca_file is not None:
        try:
            context.load_verify_locations(settings.client_ca_file)
        except ssl.SSLError:
            raise ValueError(f"{settings.client_ca_file} holds no certificate in PEM form") from None
    for certificate in certificates:
        load_chain(context, certificate.files)
    context.certificates = certificates
    return context


def _context_for(settings: TlsSettings, certificates: tuple[Certificate, ...]) -> Any:
    return server_context(settings, *certificates)


def _set_up(context: Any, settings: TlsSettings) -> None:
    """Set what a connection takes of the context that it begins in, and of the one that it is given for its name."""
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if settings.min_version == "1.3" else ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(settings.ciphers or INTERMEDIATE)
    context.set_alpn_protocols(["h2", "http/1.1"] if settings.http2 else ["http/1.1"])
    context.verify_mode = {None: ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}[
        settings.client_certificates
    ]
