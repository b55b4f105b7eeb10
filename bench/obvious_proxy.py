"""The proxy everyone writes first with gevent, Flask and requests: what SmartEdge's shape costs untuned.

python obvious_proxy.py PORT BACKEND...
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import itertools  # noqa: E402
import sys  # noqa: E402

import requests  # noqa: E402
from flask import Flask, Response, request  # noqa: E402
from gevent.pywsgi import WSGIServer  # noqa: E402

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
DROPPED = {"content-encoding", "content-length", "transfer-encoding", "connection", "keep-alive"}

app = Flask(__name__)
turn = itertools.cycle(sys.argv[2:])


@app.route("/", defaults={"path": ""}, methods=METHODS)
@app.route("/<path:path>", methods=METHODS)
def forward(path: str) -> Response:
    answer = requests.request(
        request.method,
        f"http://{next(turn)}/{path}",
        params=request.args,
        headers={name: value for name, value in request.headers if name.lower() != "host"},
        data=request.get_data(),
        allow_redirects=False,
    )
    headers = [(name, value) for name, value in answer.headers.items() if name.lower() not in DROPPED]
    return Response(answer.content, answer.status_code, headers)


if __name__ == "__main__":
    WSGIServer(("127.0.0.1", int(sys.argv[1])), app, log=None).serve_forever()
