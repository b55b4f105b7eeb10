"""What this package puts into a WSGI environ, and reads there: each key, written once."""

from __future__ import annotations

from typing import Final

REQUEST: Final = "smartedge.request"
"""The `Request` (http/request.py), put there by our own server, or by the app for a server that is not ours."""

HANDLER: Final = "smartedge.handler"
"""Our own server's `EdgeHandler` of the connection; a server that is not ours puts nothing there."""

ADMIN: Final = "smartedge.admin"
"""There, and true, on a listener that is for the admin pages alone (`admin_bind`)."""

REQUEST_ID: Final = "smartedge.request_id"
"""The id of a request for an admin page, as text; put there by the app."""

SOCKET: Final = "smartedge.socket"
"""The client's socket of a request for an admin page, or None; put there by the app."""

GUNICORN_SOCKET: Final = "gunicorn.socket"
"""The client's socket, where gunicorn's own loop serves."""
