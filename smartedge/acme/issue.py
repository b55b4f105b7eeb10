"""The program that gets certificates from an ACME authority (RFC 8555), a process of its own: `python -m smartedge.acme.issue`.

The leading worker starts it (renewals.py), says on standard input what it wants, and reads a line of JSON for each name:

    in   {"names": ["shop.example"], "directory": "https://…", "storage": "/…", "email": null, "ca_file": null, "how": "http-01"}
    out  {"name": "shop.example", "ok": true, "detail": ""}

So the worker's loop never waits for key, signature or authority, and needs none of the libraries. It may be killed at any moment:
a file is written whole or not at all, the account is found again by its key, and an order that is left ends by itself.
"""

from __future__ import annotations

import datetime
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from acme import challenges, client, crypto_util, errors, messages
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from josepy import json_util, jwa, jwk

from smartedge import __version__
from smartedge.acme.storage import Storage
from smartedge.config.private_file import write_private

How = Literal["http-01", "tls-alpn-01"]

WAIT_S = 90
"""How long the authority may take for each of its two parts: to ask us, and to sign."""
TRIES = 8
"""How often a request is sent anew whose nonce was refused: an authority may do that at any time (RFC 8555 section 6.5)."""
ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
"""The extension by which a certificate answers TLS-ALPN-01 (RFC 8737 section 3)."""


class PatientNetwork(client.ClientNetwork):
    """certbot's network, which sends anew once what came with a nonce that was refused; here it goes on."""

    def post(self, *args: Any, **kwargs: Any) -> Any:
        """Send a signed request; raises what `acme` raises."""
        for left in reversed(range(TRIES)):
            try:
                return super().post(*args, **kwargs)
            except messages.Error as error:
                if error.code != "badNonce" or not left:
                    raise
        raise AssertionError("not reached")


class Issuer:
    """Gets certificates with one account; made and used by `main`."""

    def __init__(self, storage: Storage, directory: str, email: str | None, ca_file: str | None, how: How) -> None:
        self._storage = storage
        self._how = how
        account = storage.path / f"account-{sha256(directory.encode()).hexdigest()[:12]}.key"
        self._key = jwk.JWKEC(key=_private_key(account))
        verify: Any = ca_file or True
        net = PatientNetwork(self._key, alg=jwa.ES256, verify_ssl=verify, user_agent=f"smartedge/{__version__}")
        self._client = client.ClientV2(client.ClientV2.get_directory(directory, net), net)
        self._enter(email)

    def _enter(self, email: str | None) -> None:
        """Open an account, or find the one that this key has."""
        wanted = messages.NewRegistration.from_data(email=email, terms_of_service_agreed=True)
        try:
            self._client.new_account(wanted)
        except errors.ConflictError as found:
            resource = messages.RegistrationResource(uri=found.location, body=messages.Registration())
            self._client.net.account = resource

    def issue(self, name: str) -> None:
        """Get a certificate and put it in its place; raises what `acme`, `requests` or the disk raise."""
        key = ec.generate_private_key(ec.SECP256R1())
        pem = _pem(key)
        order = self._client.new_order(crypto_util.make_csr(pem, [name]))
        with self._answered(name, order):
            order = self._client.poll_authorizations(order, _deadline())
        order = self._client.finalize_order(order, _deadline())
        write_private(self._storage.certificate(name), order.fullchain_pem.encode() + pem)

    @contextmanager
    def _answered(self, name: str, order: messages.OrderResource) -> Iterator[None]:
        """Answer the authority's questions meanwhile; those that it has asked lately it may not ask again."""
        files = []
        try:
            for authorization in order.authorizations:
                if authorization.body.status == messages.STATUS_VALID:
                    continue
                body = self._challenge(authorization.body)
                token = body.chall.to_partial_json()["token"] if self._how == "tls-alpn-01" else body.chall.encode("token")
                answer = f"{token}.{json_util.encode_b64jose(self._key.thumbprint())}"
                if self._how == "http-01":
                    files.append(self._storage.challenges / token)
                    write_private(files[-1], answer.encode())
                else:
                    files.append(self._storage.alpn_certificate(name))
                    write_private(files[-1], _alpn_certificate(name, answer))
                self._client.answer_challenge(body, challenges.HTTP01Response(key_authorization=answer))
            yield
        finally:
            for file in files:
                file.unlink(missing_ok=True)

    def _challenge(self, authorization: messages.Authorization) -> messages.ChallengeBody:
        """Find the question that we answer; raises errors.Error where it is not asked."""
        for body in authorization.challenges:
            if body.chall.to_partial_json().get("type", body.chall.typ) == self._how:
                found: messages.ChallengeBody = body
                return found
        raise errors.Error(f"the authority offers no {self._how} for this name")


def _private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read a key, or make it where there is none."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError:
        key = ec.generate_private_key(ec.SECP256R1())
        write_private(path, _pem(key))
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption())


def _alpn_certificate(name: str, answer: str) -> bytes:
    """Make the certificate that answers TLS-ALPN-01, with its key (RFC 8737 section 3)."""
    key, who = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.datetime.now(datetime.UTC)
    value = b"\x04\x20" + sha256(answer.encode()).digest()  # an OCTET STRING of 32 bytes
    built = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.UnrecognizedExtension(ACME_IDENTIFIER, value), critical=True)
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM) + _pem(key)


def _deadline() -> datetime.datetime:
    return datetime.datetime.now() + datetime.timedelta(seconds=WAIT_S)  # as `acme` counts, without a zone


def reason(error: Exception) -> str:
    """Say in one line why there is no certificate."""
    if isinstance(error, errors.ValidationError):
        found = [body.error for authorization in error.failed_authzrs for body in authorization.body.challenges if body.error]
        return "; ".join(f"{one.code or one.typ}: {one.detail}" for one in found) or "the authority did not believe us"
    if isinstance(error, messages.Error):
        return f"{error.code or error.typ}: {error.detail}"
    return " ".join(f"{type(error).__name__}: {error}".split())


def main() -> int:
    """Do what standard input says; the exit status is 0 where every name was tried."""
    wanted = json.load(sys.stdin)
    storage = Storage(Path(wanted["storage"]))
    storage.make()
    with storage.locked() as ours:
        if not ours:
            return 75  # EX_TEMPFAIL: another process is at it
        for file in storage.challenges.iterdir():
            file.unlink(missing_ok=True)  # of one that was killed
        issuer = None
        for name in wanted["names"]:
            detail = ""
            if storage.came_lately(name, time.time()):  # a run before this one, of an edge that was killed, has got it
                print(json.dumps({"name": name, "ok": True, "detail": ""}), flush=True)
                continue
            try:
                issuer = issuer or Issuer(storage, wanted["directory"], wanted["email"], wanted["ca_file"], wanted["how"])
                issuer.issue(name)
            except Exception as error:  # whatever it is, the other names are tried, and the old certificates serve on
                detail = reason(error)
            print(json.dumps({"name": name, "ok": not detail, "detail": detail}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
