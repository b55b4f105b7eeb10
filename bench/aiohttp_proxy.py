"""A reverse proxy on aiohttp's own server and client, as its users write it.

    python aiohttp_proxy.py PORT BACKEND...

Streams both ways, keeps backend connections, drops hop-by-hop headers and adds X-Forwarded-For.
"""

from __future__ import annotations

import itertools
import sys

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
INVENTED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


def end_to_end(headers: CIMultiDict[str]) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in HOP_BY_HOP)


def make_app(backends: list[str]) -> web.Application:
    turn = itertools.cycle(f"http://{backend}" for backend in backends)

    async def forward(request: web.Request) -> web.StreamResponse:
        headers = end_to_end(request.headers)
        headers["X-Forwarded-For"] = request.remote or ""
        body = request.content if request.can_read_body else None
        async with request.app["session"].request(
            request.method, next(turn) + request.raw_path, headers=headers, data=body, allow_redirects=False
        ) as answer:
            response = web.StreamResponse(status=answer.status, headers=end_to_end(answer.headers))
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response

    async def session(app: web.Application):
        app["session"] = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            auto_decompress=False,
            skip_auto_headers=INVENTED,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        yield
        await app["session"].close()

    app = web.Application(client_max_size=0)
    app.router.add_route("*", "/{path:.*}", forward)
    app.cleanup_ctx.append(session)
    return app


if __name__ == "__main__":
    web.run_app(make_app(sys.argv[2:]), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
