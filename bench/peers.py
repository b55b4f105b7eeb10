"""How each proxy is started: what it needs, its configuration, its command line.

Every one has one process or thread that does the work and takes its backends in turn; all but the obvious one
keep backend connections open.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from backends import nginx_user
from processes import ROOT, program

BENCH = ROOT / "bench"
BUILD = BENCH / "build"
PIP = f"{sys.executable} -m pip install -r"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a peer runs: its port, its backends ("host:port") and a directory of its own.

    pem: its certificate and key, where it speaks TLS. log: the file of its access log, where it has one.
    """

    port: int
    backends: list[str]
    directory: Path
    pem: Path | None = None
    log: Path | None = None


@dataclass(frozen=True, slots=True)
class Command:
    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Peer:
    """missing: what to install, or None when all is there. tls, logs: whether it can speak TLS, and write an access log.

    quick: whether thousands of requests a second are no question.
    """

    name: str
    missing: Callable[[], str | None]
    command: Callable[[Place], Command]
    ours: bool = False
    tls: bool = True
    logs: bool = True
    quick: bool = True


def needs(name: str, package: str) -> Callable[[], str | None]:
    return lambda: None if program(name) else f"apt install {package}"


def needs_module(name: str, install: str) -> Callable[[], str | None]:
    return lambda: None if importlib.util.find_spec(name) else install


def needs_file(*files: str) -> Callable[[], str | None]:
    return lambda: next((f"{file} is not in this tree" for file in files if not (ROOT / file).exists()), None)


def built(source: Path) -> Path:
    """The program made from one Go file, which is compiled when there is none or the file is newer."""
    binary = BUILD / f"go-{source.stem}"
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        BUILD.mkdir(exist_ok=True)
        build = [program("go") or "go", "build", "-o", str(binary), str(source)]
        subprocess.run(build, check=True, env={**os.environ, "GO111MODULE": "off", "GOTOOLCHAIN": "local"})
    return binary


def _go(place: Place, *options: str) -> Command:
    binary = built(BENCH / "go" / "proxy.go")
    options = (*options, "-tls", str(place.pem)) if place.pem else options
    return Command([str(binary), *options, f"127.0.0.1:{place.port}", *place.backends], {"GOMAXPROCS": "1"})


def _go_pooled(place: Place) -> Command:
    """The same with a BufferPool: its tuned form, which Caddy uses as well."""
    return _go(place, "-pool")


NGINX = """\
daemon off;
{user}
worker_processes 1;
pid {dir}/nginx.pid;
error_log stderr error;
events {{ worker_connections 8192; }}
http {{
    access_log {log};
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    upstream backends {{
        {balance}
{servers}
        keepalive 1024;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port}{tls}
        location / {{
            proxy_pass http://backends;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_request_buffering off;  # stream, as all the others do
            client_body_buffer_size 128k;
            proxy_buffers 16 16k;
            proxy_max_temp_file_size 0;
            {answers}
        }}
    }}
}}
"""


def nginx(place: Place, balance: str = "", answers: str = "") -> Command:
    """balance: directives of the upstream; answers: of the location. By default nginx takes its backends in turn."""
    config = place.directory / "nginx.conf"
    fields = {
        "user": nginx_user(),
        "dir": place.directory,
        "port": place.port,
        "servers": "\n".join(f"        server {backend};" for backend in place.backends),
        "balance": balance,
        "answers": answers,
        "log": place.log or "off",
        "tls": f" ssl http2;\n        ssl_certificate {place.pem};\n        ssl_certificate_key {place.pem};"
        if place.pem
        else ";",
    }
    config.write_text(NGINX.format(**fields))
    return Command([program("nginx") or "nginx", "-e", "stderr", "-p", str(place.directory), "-c", str(config)])


HAPROXY = """\
global
    nbthread 1
    maxconn 8192
defaults
    mode http
    timeout connect 5s
    timeout client 75s
    timeout server {answer_s}s
    timeout http-keep-alive 75s
    option forwardfor
    http-reuse always
{log}
frontend edge
    bind 127.0.0.1:{port}{tls}
    default_backend backends
backend backends
    balance {balance}
{options}
{servers}
"""


def haproxy(place: Place, balance: str = "roundrobin", options: str = "", server: str = "", answer_s: int = 75) -> Command:
    """options: lines of the backend section; server: what is added to each server's line; answer_s: time for an answer."""
    config = place.directory / "haproxy.cfg"
    servers = "\n".join(f"    server b{i} {backend} {server}" for i, backend in enumerate(place.backends))
    fields = {
        "servers": servers,
        "port": place.port,
        "balance": balance,
        "options": options,
        "answer_s": answer_s,
        "tls": f" ssl crt {place.pem} alpn h2,http/1.1" if place.pem else "",
        "log": "    log stdout format raw local0\n    option httplog" if place.log else "",  # our file, as it happens
    }
    config.write_text(HAPROXY.format(**fields))
    return Command([program("haproxy") or "haproxy", "-db", "-f", str(config)])


CADDY = """\
{{
    admin off
    auto_https off
    servers {{
        protocols h1 h2
    }}
}}
{scheme}://:{port} {{
    bind 127.0.0.1
    {tls}
    {log}
    reverse_proxy {backends} {{
        {balance}
        transport http {{
            keepalive_idle_conns_per_host 512
            compression off
            {transport}
        }}
    }}
}}
"""


def caddy(place: Place, balance: str = "lb_policy round_robin", transport: str = "") -> Command:
    """balance: directives of `reverse_proxy`; transport: of its `transport http`."""
    config = place.directory / "Caddyfile"
    fields = {
        "port": place.port,
        "backends": " ".join(place.backends),
        "balance": balance,
        "transport": transport,
        "scheme": "https" if place.pem else "http",
        "tls": f"tls {place.pem} {place.pem}" if place.pem else "",
        "log": f"log {{\n        output file {place.log}\n    }}" if place.log else "",
    }
    config.write_text(CADDY.format(**fields))
    argv = [program("caddy") or "caddy", "run", "--config", str(config), "--adapter", "caddyfile"]
    home = str(place.directory)
    return Command(argv, {"GOMAXPROCS": "1", "XDG_CONFIG_HOME": home, "XDG_DATA_HOME": home})


def _script(name: str) -> Callable[[Place], Command]:
    return lambda place: Command([sys.executable, str(BENCH / name), str(place.port), *place.backends])


def edge_env(place: Place, settings: Mapping[str, object] | None = None) -> tuple[Path, dict[str, str]]:
    """SmartEdge with its defaults, but for `settings`: health checks, metrics and request ids on."""
    config = place.directory / "backends.json"
    document: dict[str, object] = {"backends": [f"http://{backend}" for backend in place.backends], **(settings or {})}
    if place.log:
        document["access_log"] = str(place.log)
    config.write_text(json.dumps(document))
    env = {
        "PYTHONPATH": str(ROOT),
        "SMARTEDGE_CONFIG": str(config),
        "SMARTEDGE_STATE_DIR": str(place.directory / "state"),
    }
    return config, env


def smartedge(place: Place, settings: Mapping[str, object] | None = None) -> Command:
    config, env = edge_env(place, settings)
    bind = f"127.0.0.1:{place.port}"
    tls = ["--certfile", str(place.pem)] if place.pem else []
    return Command([sys.executable, "-m", "smartedge", "run", "--config", str(config), "--bind", bind, *tls], env)


def _two_workers(place: Place) -> Command:
    command = smartedge(place)
    return Command([*command.argv, "--workers", "2"], command.env)


def _gunicorn(worker: str) -> Callable[[Place], Command]:
    def command(place: Place) -> Command:
        _, env = edge_env(place)
        argv = [sys.executable, "-m", "gunicorn", "-k", worker, "-w", "1", "-b", f"127.0.0.1:{place.port}"]
        # Its defaults (2 s of keep-alive, 1,000 connections) would hang up on the idle clients.
        argv += ["--keep-alive", "75", "--worker-connections", "4096", "--log-level", "warning"]
        argv += ["--certfile", str(place.pem), "--keyfile", str(place.pem)] if place.pem else []
        return Command([*argv, "smartedge:create_app()"], env)

    return command


PEERS = {
    peer.name: peer
    for peer in (
        Peer("go", needs("go", "golang-go"), _go, logs=False),
        Peer("go-pooled", needs("go", "golang-go"), _go_pooled, logs=False),
        Peer("nginx", needs("nginx", "nginx"), nginx),
        Peer("haproxy", needs("haproxy", "haproxy"), haproxy),
        Peer("caddy", needs("caddy", "caddy"), caddy),
        Peer(
            "aiohttp",
            needs_module("aiohttp", f"{PIP} bench/requirements.txt"),
            _script("aiohttp_proxy.py"),
            tls=False,
            logs=False,
            quick=False,
        ),
        Peer(
            "obvious",
            needs_module("flask", f"{PIP} requirements.txt"),
            _script("obvious_proxy.py"),
            tls=False,
            logs=False,
            quick=False,
        ),
        Peer("smartedge", needs_file("smartedge/__main__.py"), smartedge, ours=True),
        Peer("smartedge-2", needs_file("smartedge/cli/serve_many.py"), _two_workers, ours=True),
        Peer(
            "smartedge-worker",
            needs_file("smartedge/worker.py"),
            _gunicorn("smartedge.worker.EdgeWorker"),
            ours=True,
        ),
        Peer("smartedge-gevent", needs_file("smartedge/app.py"), _gunicorn("gevent"), ours=True),
    )
}
