"""One nginx that plays every backend; its CPU is counted for nobody."""

from __future__ import annotations

import os
from pathlib import Path

SMALL = "x" * 99 + "\\n"
LENGTHS = {"/": 100, "/100k": 100_000, "/1m": 1_000_000, "/page/1": 100}
RECEIVED = "X-Received"  # the answer to an upload says how many bytes of the request were read

CONFIG = """\
daemon off;
{user}
worker_processes 1;
pid {dir}/backends.pid;
error_log stderr error;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    default_type text/plain;
    tcp_nodelay on;
    keepalive_timeout 600s;        # cost is measured here, not who copes with connections that end
    keepalive_requests 1000000000;
    client_max_body_size 0;
    client_body_buffer_size 2m;
    upstream sink {{ server unix:{dir}/sink.sock; keepalive 64; }}
    server {{
{listens}
        root {dir}/files;
        location = / {{ return 200 "{small}"; }}
        location /page/ {{ add_header X-Served "$request_id"; return 200 "{small}"; }}  # no two answers are alike
        location = /health {{ return 200 "ok\\n"; }}
        location = /upload {{
            # `return` would answer before the body is read. Proxying makes nginx read all of it first;
            # only a bare GET goes on to the sink.
            proxy_pass http://sink;
            proxy_http_version 1.1;
            proxy_method GET;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_set_header Transfer-Encoding "";
            proxy_set_header Connection "";
            add_header {received} $request_length;
        }}
    }}
    server {{
        listen unix:{dir}/sink.sock;
        location / {{ return 200 "{small}"; }}
    }}
}}
"""


def addresses(port: int, count: int) -> list[str]:
    """`count` loopback addresses with one port: 127.0.16.1, 127.0.16.2, ..., 127.0.17.1, ..."""
    return [f"127.0.{16 + i // 250}.{1 + i % 250}:{port}" for i in range(count)]


def write_config(directory: Path, port: int, count: int) -> Path:
    """Prepare `directory`; one more listener on 127.0.0.1 tells us when it is ready."""
    (directory / "files").mkdir(parents=True)
    for path in ("/100k", "/1m"):
        (directory / "files" / path[1:]).write_bytes(b"x" * LENGTHS[path])
    listens = [f"127.0.0.1:{port}", *addresses(port, count)]
    config = CONFIG.format(
        user=nginx_user(),
        dir=directory,
        listens="\n".join(f"        listen {address};" for address in listens),
        small=SMALL,
        received=RECEIVED,
    )
    path = directory / "backends.conf"
    path.write_text(config)
    return path


def nginx_user() -> str:
    """Started by root, nginx would change to a user who cannot enter our private directory."""
    return "user root;" if os.geteuid() == 0 else ""
