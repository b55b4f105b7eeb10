"""Settings for SmartEdge under gunicorn: gunicorn -c deploy/gunicorn.conf.py 'smartedge:create_app()'.

Everything here can be had on the command line too; nothing in SmartEdge depends on this file. It is Python, but
import nothing that opens connections here: it is read before gevent has patched the standard library.
"""

import os

from smartedge.http import resources
from smartedge.observe import console
from smartedge.process.systemd import Notifier

bind = os.environ.get("SMARTEDGE_BIND", "127.0.0.1:8080")
worker_class = "gevent"

# The admin pages on a socket of their own, for this user and root, which no proxy in front leads to; the leading worker opens it.
# With a token they may as well be on the traffic port; and under systemd the directory is RuntimeDirectory's.
_runtime = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0] or os.environ.get("XDG_RUNTIME_DIR")
if _runtime and not os.environ.get("SMARTEDGE_ADMIN_TOKEN"):
    os.environ.setdefault("SMARTEDGE_ADMIN_BIND", f"unix:{_runtime}/smartedge-admin.sock")

workers = int(os.environ.get("WEB_CONCURRENCY", "1"))
resources.raise_limit()
worker_connections = min(10_000, resources.most_clients())  # clients per worker; an idle keep-alive connection counts
backlog = 4096

# A stop waits until every request in flight is done, and as long as `keepalive` for connections on which nothing has come yet.
keepalive = 5
graceful_timeout = 15  # seconds; more than shutdown_grace_s in backends.json
timeout = 60  # a worker whose loop has stood still for so long is replaced
preload_app = False  # each worker patches the standard library first, then imports

# The strictest reading of what comes in, and none of gunicorn's own ideas about proxies in front of it:
# X-Forwarded-* is SmartEdge's business, and no client sets SCRIPT_NAME by a header.
http_parser = "python"  # the C one lets bare LF and folded headers through
forwarder_headers = ""
forwarded_allow_ips = ""
limit_request_line = 8190
limit_request_fields = 200
limit_request_field_size = 16_380

worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # the heartbeat file: never on a slow disk
control_socket_disable = True  # it would be one more door; status and reload have their own
accesslog = None  # SmartEdge writes a better one: --access-log, or SMARTEDGE_ACCESS_LOG
errorlog = "-"


def on_starting(_server: object) -> None:
    """Let nobody who does not read standard error hold up the arbiter (the workers see to themselves)."""
    console.install()


def on_reload(_server: object) -> None:
    """Tell the service manager, which gunicorn itself tells of its start only."""
    manager = Notifier()
    manager.reloading()
    manager.ready()
