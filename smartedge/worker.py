"""A gunicorn worker class that brings our own server: `gunicorn -k smartedge.worker.EdgeWorker 'smartedge:create_app()'`."""

from __future__ import annotations

from gunicorn.workers.ggevent import GeventWorker

from smartedge.proxy.server import EdgeHandler, EdgeServer


class EdgeWorker(GeventWorker):  # type: ignore[misc]
    """gunicorn's gevent worker with `EdgeServer` in place of gunicorn's own parser and loop."""

    server_class = EdgeServer
    wsgi_handler = EdgeHandler
