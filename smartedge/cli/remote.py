"""Talking to a running balancer: the flags that say which one, a question to its admin endpoints, and its answer or refusal.

Nothing is asked of anybody who has not shown to be a balancer, and the token is sent to nobody who has not shown to have it
(admin/hello.py): a backend behind a traffic port is no balancer, and neither is whatever listens where one used to be.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import click

from smartedge.admin import hello
from smartedge.cli.errors import Declined, Stop
from smartedge.cli.find import UNIX, Target, find_target
from smartedge.config.model import ConfigError, admin_token
from smartedge.config.values import escaped

TIMEOUT_S = 30.0  # a reload waits for all workers
MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_LINE_BYTES = 1024 * 1024
AMBIGUOUS = "Ambiguous backend"
"""The title of the refusal of an id that several services have (admin/named.py)."""


class UnreachableError(Stop):
    """Nobody answers there, or not a balancer; raised by `ask_edge`, the text says what to do."""


class RefusedError(Declined):
    """The balancer answers, and says no; raised by `ask_edge`. The text has one line for each problem.

    problem: what it answered (RFC 9457).
    """

    def __init__(self, text: str, problem: Mapping[str, Any] | None = None) -> None:
        super().__init__(text)
        self.problem = problem or {"title": "Refused", "detail": text}


class AmbiguousError(RefusedError):
    """The balancer has several backends of that id: the argument is wrong, not what was asked."""

    exit_code = 2


class RemoteEdge:
    """The running balancer that a command is for; made by `for_running_edge`, found when it is first asked.

    url, cacert, config: the flags. as_json: answers are printed as JSON, refusals too.
    """

    def __init__(self, url: str | None, cacert: str | None, config: str | None, *, as_json: bool) -> None:
        self.as_json, self.config = as_json, config
        self._flags = url, cacert, config
        self._target: Target | None = None

    def ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Send it a request, and give the JSON object that comes back; raises Stop (Declined where it says no)."""
        try:
            if self._target is None:
                self._target = find_target(*self._flags, os.environ)
            return ask_edge(method, self._target, path, token=admin_token(os.environ), body=body)
        except (ConfigError, Stop) as error:
            if self.as_json:
                problem = error.problem if isinstance(error, RefusedError) else {"title": "Not asked", "detail": str(error)}
                click.echo(json.dumps({"error": dict(problem)}, indent=2))
            raise error if isinstance(error, Stop) else Stop(str(error)) from error

    def follow(self, path: str) -> Iterator[str]:
        """Yield the lines of an answer that goes on, until it ends; raises Stop. It is found anew: it may have been restarted."""
        try:
            target = find_target(*self._flags, os.environ)
            yield from follow_edge(target, path, token=admin_token(os.environ))
        except ConfigError as error:
            raise Stop(str(error)) from error

    def print_answer(self, answer: Mapping[str, Any], text: Callable[[dict[str, Any]], str]) -> None:
        """Print an answer: as JSON, or as the text that is made of it."""
        click.echo(json.dumps(answer, indent=2) if self.as_json else text(dict(answer)))


def for_running_edge(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """Give a command the flags that say which balancer it is for; it gets that, a RemoteEdge, as its first argument."""

    @click.option(
        "--url",
        metavar="URL",
        help="Where the balancer answers: http(s)://HOST:PORT or unix:/PATH; else SMARTEDGE_URL, else the one that runs"
        " with this configuration.",
    )
    @click.option("--cacert", metavar="FILE", help="PEM file of the authority that its certificate is of.")
    @click.option("-c", "--config", metavar="FILE", help="The configuration that it runs with; backends.json unless given.")
    @click.option("--json", "as_json", is_flag=True, help="Print the whole answer as JSON; a refusal too, as error.")
    @functools.wraps(command)
    def asked(url: str | None, cacert: str | None, config: str | None, as_json: bool, **rest: Any) -> int | None:
        return command(RemoteEdge(url, cacert, config, as_json=as_json), **rest)

    return asked


def ask_edge(method: str, target: Target, path: str, *, token: str | None, body: object = None) -> dict[str, Any]:
    """Make sure that a balancer answers, send it one request, and give the JSON object that comes back.

    token: sent as bearer token, if there is one and the balancer has it too. body: what is sent as JSON, None for nothing.
    No proxy is used and no redirect is followed: the token goes nowhere else.
    """
    with _verified_edge(target, token) as (connection, prefix, headers):
        status, answer = _exchange(connection, method, prefix + path, headers, body)
    if answer is None:
        raise UnreachableError(f"what answers at {target.shown} is no balancer (status {status}, not JSON)")
    if status >= 300:
        raise _refusal(status, answer)
    return answer


def follow_edge(target: Target, path: str, *, token: str | None) -> Iterator[str]:
    """Yield the lines of an answer of server-sent events, without their ends, as they come; raises as `ask_edge`.

    One that says nothing for longer than it should has gone: UnreachableError.
    """
    with _verified_edge(target, token) as (connection, prefix, headers):
        connection.request("GET", prefix + path, headers={"Accept": "text/event-stream", **headers})
        response = connection.getresponse()
        if response.status != 200:
            raise _refusal(response.status, _json_object(response) or {})
        while line := response.readline(MAX_LINE_BYTES):
            yield line.decode("utf-8", "replace").rstrip("\r\n")


@contextlib.contextmanager
def _verified_edge(target: Target, token: str | None) -> Iterator[tuple[http.client.HTTPConnection, str, dict[str, str]]]:
    """Give a connection to a balancer, what paths begin with, and the fields that it wants. Raises as `ask_edge`."""
    try:
        with _open_connection(target) as (connection, prefix):
            token = _verify_edge(connection, prefix, target, token)
            yield connection, prefix, {"Authorization": f"Bearer {token}"} if token else {}
    except ssl.SSLCertVerificationError as error:
        reason = f"the certificate at {target.shown} is not trusted: {error.verify_message}"
        raise UnreachableError(f"{reason}; name its authority with --cacert, and the host as it does with --url") from None
    except ssl.SSLError as error:
        raise UnreachableError(f"no TLS with {target.shown}: {error.reason or error}; name another address with --url") from None
    except PermissionError:
        raise UnreachableError(
            f"{target.shown} is not this user's to connect to; ask as the balancer's user or as root"
        ) from None
    except (OSError, http.client.HTTPException):
        start = "start one with: smartedge run (or name it with --url)"
        raise UnreachableError(f"no balancer answers at {target.shown}; {start}") from None


def _refusal(status: int, answer: Mapping[str, Any]) -> RefusedError:
    """Make the error of a refusal."""
    if answer.get("title") != AMBIGUOUS:
        return RefusedError(_problem_text(status, answer), answer)
    return AmbiguousError(escaped(str(answer.get("detail"))), answer)


def _verify_edge(connection: http.client.HTTPConnection, prefix: str, target: Target, token: str | None) -> str | None:
    """Ask who is there; return the token if it may be sent, None if it is not needed. Raises UnreachableError, RefusedError."""
    nonce = hello.new_nonce()
    status, document = _exchange(connection, "GET", prefix + hello.PATH, {hello.FIELD: hello.question(nonce, token)})
    if document is None or not hello.is_edge(document, nonce):
        reason = f"what answers at {target.shown} is not the admin address of a balancer (status {status})"
        raise UnreachableError(f"{reason}; nothing was asked of it. Name the right one with --url, or ask as its user or root")
    if not token or hello.has_token(document, nonce, token):
        return token
    if document.get("needs_token") is False:
        return None
    raise RefusedError(
        f"the balancer at {target.shown} has another token than SMARTEDGE_ADMIN_TOKEN, which was not sent",
        {"status": 401, "title": "Authentication needed", "detail": "It has another token than SMARTEDGE_ADMIN_TOKEN."},
    )


@contextlib.contextmanager
def _open_connection(target: Target) -> Iterator[tuple[http.client.HTTPConnection, str]]:
    """Give a connection, which is made when it is first used, and what paths begin with."""
    try:
        connection, prefix = _connection(target)
    except ValueError:  # of urlsplit: a port that is none, brackets that do not match
        example = "one looks like http://127.0.0.1:8080, or unix:/run/smartedge/admin.sock"
        raise UnreachableError(f"{target.shown} is no URL; {example}") from None
    try:
        yield connection, prefix
    finally:
        connection.close()


def _connection(target: Target) -> tuple[http.client.HTTPConnection, str]:
    if target.url.startswith(UNIX):
        path = target.url.removeprefix(UNIX)
        if not path:
            raise ValueError(target.url)
        return _UnixConnection(path), ""
    parts = urlsplit((target.url if "://" in target.url else f"http://{target.url}").rstrip("/"))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(target.url)
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S), parts.path
    return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=TIMEOUT_S, context=_context(target)), parts.path


def _context(target: Target) -> ssl.SSLContext:
    """Raises UnreachableError for a file that can't be used."""
    try:
        context = ssl.create_default_context(cafile=target.cacert)
    except OSError as error:
        reason = error.strerror or "it holds no certificate"
        raise UnreachableError(f"{escaped(str(target.cacert))}: {reason}; name another file with --cacert") from None
    if target.own_certificate:
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the certificate itself will do, whoever has signed it
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # which Python 3.13 sets: nor need it name who has
    return context


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _exchange(
    connection: http.client.HTTPConnection, method: str, path: str, headers: Mapping[str, str], body: object = None
) -> tuple[int, dict[str, Any] | None]:
    """Send one request; return the status and the JSON object that came back, None when it was something else."""
    headers = {"Accept": "application/json", **headers}
    if body is not None:
        headers["Content-Type"] = "application/json"
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    response = connection.getresponse()
    return response.status, _json_object(response)


def _json_object(response: http.client.HTTPResponse) -> dict[str, Any] | None:
    """Read the JSON object that an answer is; None when it is something else."""
    try:
        document = json.loads(response.read(MAX_ANSWER_BYTES))
    except ValueError:
        document = None
    return document if isinstance(document, dict) else None


def _problem_text(status: int, problem: Mapping[str, Any]) -> str:
    """Put problem+json (RFC 9457) into lines."""
    errors = [error for error in problem.get("errors") or [] if isinstance(error, dict)]
    said = ["title"] if errors else ["title", "detail"]  # the detail says the errors again, in one line
    lines = [_joined([f"refused with status {status}", *map(problem.get, said)])]
    lines += [_joined([error.get("path"), error.get("detail")]) for error in errors]
    if status in (401, 403):
        lines.append("set SMARTEDGE_ADMIN_TOKEN to the token that the balancer was started with")
    return "\n  ".join(map(escaped, lines))


def _joined(parts: list[object]) -> str:
    return ": ".join(str(part) for part in parts if part)
