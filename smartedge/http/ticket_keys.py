"""The keys of TLS session tickets, given to OpenSSL past Python's `ssl`, which has no call for it.

With the same keys several workers or nodes resume each other's sessions. OpenSSL is asked through `ctypes`, in the very
library that `ssl` uses: a callback (SSL_CTX_set_tlsext_ticket_key_evp_cb, OpenSSL 3) makes tickets by the newest key and takes
those of all; OpenSSL before 3 takes one key (SSL_CTRL_SET_TLSEXT_TICKET_KEYS), and a ticket of an older one means a full
handshake, as any does that nobody knows. Where neither can be done (a Python that is no CPython) each process keeps its own.
"""

from __future__ import annotations

import ctypes
import os
import ssl
import sys
from collections.abc import Sequence
from contextlib import suppress
from hmac import digest
from typing import Any, Final, NamedTuple

_PURPOSE: Final = b"smartedge session tickets\0"
_GET_KEYS, _SET_KEYS = 58, 59
"""SSL_CTRL_GET_TLSEXT_TICKET_KEYS and its counterpart (openssl/ssl.h)."""

_FULL, _OK, _OK_RENEW = 0, 1, 2
"""What the callback answers (SSL_CTX_set_tlsext_ticket_key_evp_cb(3))."""

_CALLBACK: Any = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int
)
_callbacks: list[Any] = []
"""All that OpenSSL was ever given: a connection may call one after its context has gone."""


class NoTicketKeys(Exception):
    """OpenSSL cannot be given keys here; the text says why."""


class TicketKey(NamedTuple):
    """What one secret gives: the name that stands in a ticket (16 bytes), and the keys of HMAC-SHA256 and AES-256-CBC."""

    name: bytes
    mac: bytes
    cipher: bytes


class _Param(ctypes.Structure):
    """OSSL_PARAM(3)."""

    _fields_ = (
        ("key", ctypes.c_char_p),
        ("data_type", ctypes.c_uint),
        ("data", ctypes.c_char_p),
        ("data_size", ctypes.c_size_t),
        ("return_size", ctypes.c_size_t),
    )


_UTF8: Final = 4
_SHA256: Any = (_Param * 2)(_Param(b"digest", _UTF8, b"sha256", 6, 0), _Param(None, 0, None, 0, 0))


class TicketKeys:
    """The ticket keys of one context; owned by `ServerTls`, which replaces them while clients connect.

    context: of `ssl`, in which connections begin. apart: secrets with another one give other keys. Raises NoTicketKeys.
    """

    def __init__(self, context: ssl.SSLContext, secrets: Sequence[bytes], apart: bytes = b"") -> None:
        self._openssl = _openssl()
        self._apart = apart
        self._context = context
        self._pointer = _pointer(context, self._openssl)
        self.use(secrets)
        if hasattr(self._openssl, "SSL_CTX_set_tlsext_ticket_key_evp_cb"):
            callback = _CALLBACK(self._choose)
            _callbacks.append(callback)
            self._openssl.SSL_CTX_set_tlsext_ticket_key_evp_cb(self._pointer, callback)

    def use(self, secrets: Sequence[bytes]) -> None:
        """Make tickets by the first of these from here on, and take those of all."""
        keys = [ticket_key(secret, self._apart) for secret in secrets]
        self._newest = keys[0]
        self._by_name = {key.name: key for key in keys}
        set_one_key(self._openssl, self._pointer, self._newest)

    def _choose(self, _tls: int, name: int, iv: int, cipher: int, mac: int, makes: int) -> int:
        """Get OpenSSL ready to make a ticket, or to read one; called in the middle of a handshake."""
        if makes:
            key = self._newest
            ctypes.memmove(name, key.name, len(key.name))
            ctypes.memmove(iv, os.urandom(16), 16)
        else:
            known = self._by_name.get(ctypes.string_at(name, 16))
            if known is None:
                return _FULL
            key = known
        openssl = self._openssl
        begin = openssl.EVP_EncryptInit_ex if makes else openssl.EVP_DecryptInit_ex
        done = begin(cipher, openssl.EVP_aes_256_cbc(), None, key.cipher, iv) == 1
        done = done and openssl.EVP_MAC_init(mac, key.mac, len(key.mac), _SHA256) == 1
        if not done:
            return _FULL
        return _OK if makes or key is self._newest else _OK_RENEW


def ticket_key(secret: bytes, apart: bytes = b"") -> TicketKey:
    """Derive a key: whoever has the secret has the same one, and from the key nobody learns the secret."""
    name, mac, cipher = (digest(secret, _PURPOSE + what + b"\0" + apart, "sha256") for what in (b"name", b"mac", b"cipher"))
    return TicketKey(name[:16], mac, cipher)


def set_one_key(openssl: Any, context: int, key: TicketKey) -> None:
    """Give a context this one key, and read it back. Raises NoTicketKeys."""
    given, found = b"".join(key), ctypes.create_string_buffer(80)
    done = openssl.SSL_CTX_ctrl(context, _SET_KEYS, len(given), given)
    if done != 1 or openssl.SSL_CTX_ctrl(context, _GET_KEYS, len(found), found) != 1 or found.raw != given:
        raise NoTicketKeys("this OpenSSL does not take them")


def _pointer(context: ssl.SSLContext, openssl: Any) -> int:
    """Return the SSL_CTX of a context: the first field after what every object of CPython begins with (Modules/_ssl.h)."""
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value
    if not pointer or openssl.SSL_CTX_get_options(pointer) != int(context.options) & (1 << 64) - 1:
        raise NoTicketKeys("contexts of this Python's ssl are laid out in another way")
    return pointer


def _openssl() -> Any:
    """Return the library that `ssl` uses, with the types of what is called; raises NoTicketKeys."""
    if sys.implementation.name != "cpython":
        raise NoTicketKeys(f"{sys.implementation.name} is no CPython")
    import _ssl

    pointer, whole, number = ctypes.c_void_p, ctypes.c_int, ctypes.c_long
    try:
        found = ctypes.CDLL(getattr(_ssl, "__file__", None))
        found.SSL_CTX_ctrl.argtypes, found.SSL_CTX_ctrl.restype = (pointer, whole, number, ctypes.c_char_p), number
        found.SSL_CTX_get_options.argtypes, found.SSL_CTX_get_options.restype = (pointer,), ctypes.c_uint64
    except (OSError, AttributeError) as error:
        raise NoTicketKeys(f"the OpenSSL of this Python cannot be called: {error}") from error
    with suppress(AttributeError):  # OpenSSL before 3
        found.EVP_aes_256_cbc.argtypes, found.EVP_aes_256_cbc.restype = (), pointer
        for name in ("EVP_EncryptInit_ex", "EVP_DecryptInit_ex"):
            getattr(found, name).argtypes = (pointer, pointer, pointer, ctypes.c_char_p, pointer)
        found.EVP_MAC_init.argtypes = (pointer, ctypes.c_char_p, ctypes.c_size_t, pointer)
        found.SSL_CTX_set_tlsext_ticket_key_evp_cb.argtypes = (pointer, _CALLBACK)
    return found
