"""Who may use a route: addresses, a rate, a password, somebody else's word; asked before any backend hears of a request."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

from smartedge.balancer.errors import Forbidden, Unauthorized
from smartedge.http.cookies import field
from smartedge.http.own_answer import OwnAnswer
from smartedge.http.request import Request
from smartedge.proxy.basic_auth import BasicAuth
from smartedge.proxy.forward_auth import ForwardAuth
from smartedge.proxy.limiter import ClientLimiter
from smartedge.proxy.networks import Networks
from smartedge.proxy.route_match import ClientOf


@dataclass(frozen=True, slots=True)
class Guard:
    """What stands before a route; made at reload, asked by the `Router`. None: that is not asked for.

    deny goes before allow. The cheap questions come first, so that whoever may not is not worth a password's milliseconds.
    """

    allow: Networks | None = None
    deny: Networks | None = None
    limiter: ClientLimiter | None = None
    basic_auth: BasicAuth | None = None
    forward_auth: ForwardAuth | None = None

    def admit(self, request: Request, client_of: ClientOf) -> OwnAnswer | None:
        """Let a request pass, or give the answer of somebody else who refuses it.

        Raises Forbidden, TooManyRequests, Unauthorized, or what happened on the way to who is asked. The request has other
        fields afterwards if that one's answer is copied.
        """
        if self.allow is not None or self.deny is not None:
            client = client_of(request)
            if (self.deny is not None and self.deny.holds(client)) or (self.allow is not None and not self.allow.holds(client)):
                raise Forbidden("This address may not use the route.")
        if self.limiter is not None:
            self.limiter.admit(request, monotonic())
        if self.basic_auth is not None and self.basic_auth.user(field(request.block, b"authorization")) is None:
            refusal = Unauthorized("A user name and a password are needed.")
            refusal.challenge = self.basic_auth.challenge
            raise refusal
        return None if self.forward_auth is None else self.forward_auth.ask(request)
