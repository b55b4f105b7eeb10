"""haproxy.cfg: a section with `server` lines, made into a service.

Source: https://docs.haproxy.org/2.6/configuration.html#5
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from smartedge.convert.draft import Document, Draft, backend_of, seconds_of
from smartedge.convert.haproxy_lines import FileLine, FileSection

STRATEGIES: Final[dict[str, Document]] = {
    "roundrobin": {"strategy": "round_robin"},
    "static-rr": {"strategy": "round_robin"},
    "leastconn": {"strategy": "least_requests"},
    "random": {"strategy": "random"},
    "source": {"strategy": "consistent_hash", "hash": {"by": "client"}},
    "uri": {"strategy": "consistent_hash", "hash": {"by": "path"}},
}
_HEADER: Final = re.compile(r"hdr\(([\w-]+)\)")
_SILENT: Final = frozenset(
    (
        *(
            "check",
            "check-ssl",
            "no-check",
            "enabled",
            "allow-0rtt",
            "no-ssl-reuse",
            "no-tls-tickets",
            "ssl-reuse",
            "tfo",
            "stick",
        ),
        *("non-stick", "no-sslv3", "no-tlsv10", "no-tlsv11", "force-tlsv12", "force-tlsv13", "no-backup", "check-send-proxy"),
    )
)
_SILENT_WITH_VALUE: Final = frozenset(
    (
        *("cookie", "fastinter", "downinter", "on-marked-down", "on-marked-up", "resolvers", "init-addr", "alpn", "proto", "id"),
        *("resolve-prefer", "resolve-opts", "resolve-net", "pool-max-conn", "pool-purge-delay", "pool-low-conn", "check-sni"),
        *("check-alpn", "check-proto", "ciphers", "ciphersuites", "ssl-min-ver", "ssl-max-ver", "minconn", "maxqueue", "ws"),
        *("agent-inter", "log-proto", "hash-key", "max-reuse"),
    )
)
"""Done in another way: cookies are made, probes hurry, names are looked up again."""
_NOTED_WITH_VALUE: Final = frozenset(
    (
        *(
            "addr",
            "agent-addr",
            "agent-port",
            "agent-send",
            "crl-file",
            "error-limit",
            "namespace",
            "observe",
            "on-error",
            "redir",
        ),
        *("set-proxy-v2-tlv-fmt", "source", "socks4", "track", "usesrc", "interface", "proxy-v2-options", "verifyhost", "shard"),
    )
)


def read_backend(section: FileSection, of_servers: Sequence[str], draft: Draft) -> tuple[Document, list[FileLine]]:
    """Make a service of a section, and give the lines that say something else. of_servers: words of `default-server` above."""
    service: Document = {}
    members: list[str | Document] = []
    words_of_all = list(of_servers)
    others = []
    for line in section.lines:
        match line.words:
            case ["server", _, address, *rest]:
                members.append(_member(line, address, [*words_of_all, *rest], service, draft))
            case ["server-template", _, _, address, *rest]:
                _found_by_name(line, address, [*words_of_all, *rest], service, draft)
            case ["default-server", *words]:
                words_of_all += words
            case ["balance", word, *_] if word.partition("(")[0] in STRATEGIES:
                service |= STRATEGIES[word.partition("(")[0]]
            case ["balance", word, *_] if found := _HEADER.fullmatch(word):
                service |= {"strategy": "consistent_hash", "hash": {"by": f"header:{found[1]}"}}
            case ["option", "httpchk", *rest]:
                service.setdefault("health", {}).update(probe(rest))
            case ["http-check", "expect", "status" | "rstatus", status]:
                if (statuses := _statuses(status)) is None:
                    draft.leave_out(line.number, str(line), 'health.statuses has numbers, and "2xx"')
                else:
                    service.setdefault("health", {})["statuses"] = statuses
            case ["http-check", "expect", "string", text]:
                service.setdefault("health", {})["body"] = text
            case ["http-check", "send", *rest] if "uri" in rest:
                _probe_sent(rest, service.setdefault("health", {}))
            case ["http-check", "connect" | "send-state" | "disable-on-404", *_]:
                draft.leave_out(line.number, str(line), "has no counterpart here")
            case ["cookie", name, *rest]:
                service["sticky"] = {"cookie": name}
                if "insert" not in rest:
                    why = "the edge makes a cookie of this name of its own; one of the application's needs another name"
                    draft.leave_out(line.number, str(line), why)
            case ["stick" | "stick-table", *_] if line.words[:2] in (["stick", "on"], ["stick", "match"]):
                why = '"strategy": "consistent_hash" with "hash": {"by": "client"} keeps clients where they are, or "sticky" does'
                draft.leave_out(line.number, str(line), why)
            case ["timeout", _, _]:
                read_timeout(line, service, draft)
            case ["retries", count]:
                service.setdefault("retry", {})["attempts"] = int(count) + 1
            case ["fullconn", *_]:
                draft.leave_out(line.number, str(line), 'max_in_flight: "adaptive" finds out what a backend can do')
            case _:
                others.append(line)
    if members or "discover" not in service:
        service = {"backends": members} | service
    return service, others


def read_timeout(line: FileLine, place: Document, draft: Draft) -> None:
    """Take a `timeout`."""
    _, what, text = line.words
    key = {
        "connect": "connect_s",
        "server": "first_byte_s",
        "tunnel": "tunnel_idle_s",
        "http-request": "head_s",
        "http-keep-alive": "keepalive_s",
        "client": "idle_s",
    }.get(what)
    try:
        seconds = seconds_of(text, 0.001)
    except ValueError as error:
        draft.leave_out(line.number, str(line), str(error))
        return
    if what == "queue":
        place.setdefault("limits", {})["queue_s"] = seconds
    elif what == "check":
        place.setdefault("health", {})["timeout_s"] = seconds
    elif key is None:
        if what not in ("client-fin", "server-fin"):
            draft.leave_out(line.number, str(line), "has no counterpart here")
    else:
        place.setdefault("timeouts", {})[key] = seconds


def probe(words: Sequence[str]) -> Document:
    """Read what stands behind `option httpchk`: [METHOD] PATH [VERSION, and fields behind it]."""
    if not words:
        return {"path": "/", "method": "OPTIONS"}
    found: Document = {"path": next((word for word in words if word.startswith("/")), "/")}
    if words[0] in ("HEAD", "OPTIONS", "POST"):
        found["method"] = words[0]
    elif len(words) == 1 and words[0].startswith("/"):
        found["method"] = "OPTIONS"  # as HAProxy has it
    if (host := re.search(r"(?i)\shost: *(\S+)", " ".join(words))) is not None:
        found["host"] = host[1]
    return found


def _probe_sent(words: Sequence[str], health: Document) -> None:
    health["path"] = words[words.index("uri") + 1]
    health.pop("method", None)
    if "meth" in words[:-1] and (method := words[words.index("meth") + 1]) != "GET":
        health["method"] = method
    if "hdr" in words[:-2] and words[words.index("hdr") + 1].lower() == "host":
        health["host"] = words[words.index("hdr") + 2]


def _statuses(text: str) -> list[int | str] | None:
    found: list[int | str] = []
    for each in re.sub(r"^\^?\(?|\)?\$?$", "", text).replace("|", ",").split(","):
        if re.fullmatch(r"[1-5]\d\d", each):
            found.append(int(each))
        elif re.fullmatch(r"[1-5](00-[1-5]99|(\[0-9\]|\\d|\.){2}|\*|)", each) and (each[1:4] != "00-" or each[0] == each[4]):
            found.append(f"{each[0]}xx")
        else:
            return None
    return found


def _member(line: FileLine, address: str, rest: Sequence[str], service: Document, draft: Draft) -> str | Document:
    keys, scheme = _keys(line, rest, service, draft)
    label = line.words[1]
    return backend_of(_url(line, address, scheme, draft), id=label if re.fullmatch(r"[\w.-]{1,64}", label) else None, **keys)


def _found_by_name(line: FileLine, address: str, rest: Sequence[str], service: Document, draft: Draft) -> None:
    """Take a `server-template`: backends that DNS tells."""
    keys, scheme = _keys(line, rest, service, draft)
    name, _, port = address.partition(":")
    found: Document = {"name": name} | ({"port": int(port)} if port.isdigit() else {})
    if name.startswith("_"):
        found = {"name": name, "type": "SRV"}
    service["discover"] = {"dns": found | ({"scheme": scheme} if scheme != "http" else {}) | ({"defaults": keys} if keys else {})}


def _url(line: FileLine, address: str, scheme: str, draft: Draft) -> str:
    address = re.sub(r"^(ipv[46]|tcp[46]?)@", "", address)
    if address.startswith(("/", "unix@", "uxst@")):
        return f"unix:{re.sub('^(unix|uxst)@', '', address)}"
    if "$" in address or address.startswith(("abns@", "fd@", "sockpair@", "udp", "quic")):
        draft.leave_out(line.number, str(line), "write its address: it is none of host and port, or of a unix socket")
    host, colon, port = address.rpartition(":")
    if colon and ":" in host and not host.startswith("["):
        return f"{scheme}://[{host}]:{port}"
    if not colon:
        draft.leave_out(line.number, str(line), "without a port HAProxy connects to the one that the client did; write one")
    return f"{scheme}://{address}"


def _keys(line: FileLine, rest: Sequence[str], service: Document, draft: Draft) -> tuple[Document, str]:
    """Read the words of a server: keys of a backend, and http or https."""
    keys: Document = {}
    scheme, words = "http", iter(rest)
    for word in words:
        where = f"{line.words[0]} {line.words[1]} {word}"
        if word == "weight":
            keys["weight"] = min(int(next(words, "1")), 1000)
        elif word == "maxconn":
            keys["max_in_flight"] = int(next(words, "0"))
        elif word == "backup":
            keys["priority"] = 1
        elif word == "disabled":
            keys["state"] = "disabled"
        elif word == "ssl":
            scheme = "https"
        elif word == "verify":
            if next(words, "") == "none":
                keys["tls"] = keys.get("tls", {}) | {"verify": False}
        elif word in ("ca-file", "sni", "crt"):
            value = next(words, "")
            key = {"ca-file": "ca_file", "crt": "cert_file"}.get(word)
            if key is not None:
                keys["tls"] = keys.get("tls", {}) | {key: value}
            elif (found := re.fullmatch(r"str\((.+)\)", value)) is not None:
                keys["tls"] = keys.get("tls", {}) | {"server_name": found[1]}
            else:
                draft.leave_out(line.number, f"{where} {value}", "tls.server_name is one name here")
        elif word in ("inter", "fall", "rise"):
            value = next(words, "")
            key = {"inter": "interval_s"}.get(word, word)
            keys.setdefault("health", {})[key] = seconds_of(value, 0.001) if word == "inter" else int(value)
        elif word == "port":
            keys.setdefault("health", {})["port"] = int(next(words, "0"))
        elif word == "slowstart":
            service["slow_start_s"] = seconds_of(next(words, "0"), 0.001)
        elif word in _SILENT_WITH_VALUE:
            next(words, "")
        elif word in ("send-proxy", "send-proxy-v2", "send-proxy-v2-ssl", "send-proxy-v2-ssl-cn"):
            draft.leave_out(line.number, where, "the PROXY protocol is not sent")
        elif word in _NOTED_WITH_VALUE:
            draft.leave_out(line.number, f"{where} {next(words, '')}", "has no counterpart here")
        elif word not in _SILENT:
            draft.leave_out(line.number, where, "has no counterpart here")
    return keys, scheme
