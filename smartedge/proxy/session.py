"""`EdgeSession`: the requests.Session of one backend, with our `EdgeAdapter` (transport.py) mounted."""

from __future__ import annotations

from collections import OrderedDict
from http.cookiejar import DefaultCookiePolicy

import requests

from smartedge.proxy.outbound import Outbound
from smartedge.proxy.transport import Answer, EdgeAdapter

_FRESH = requests.Session()
"""What every session is at first: making one takes 0.2 ms, and an edge may have thousands."""
_FRESH.trust_env = False  # no ~/.netrc passwords, no proxy variables
_FRESH.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # one client's cookies are not the next one's


class EdgeSession(requests.Session):
    """The pooled session of one backend, its `transport`; made by the registry, called by Attempts and Race.

    It is requests' own, made safe to share between clients, with our adapter.

    `send` hands a request straight to the adapter: the stock one follows redirects, runs hooks, stores cookies and keeps time.
    """

    __slots__ = ("adapter", "netloc")

    def __init__(self, adapter: EdgeAdapter) -> None:
        vars(self).update(vars(_FRESH))
        self.adapters = OrderedDict({"https://": adapter, "http://": adapter})
        self.adapter = adapter
        self.netloc = adapter.to.authority

    def send(self, request: Outbound) -> Answer:  # type: ignore[override]
        """Send one request to the backend; see EdgeAdapter.send."""
        return self.adapter.send(request)
