"""What looking a route up costs: the least of many short runs, in microseconds, for a table of 10 routes and one of 1,000.

`python bench/routes.py`. The bars are 1.5 µs with 10 routes on 3 hosts, and 3 µs with 1,000 on 300.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parents[1]))

from smartedge.http.headers import RequestFields
from smartedge.http.request import Request
from smartedge.proxy.route import Route
from smartedge.proxy.route_match import RouteMatch
from smartedge.proxy.routes import RouteTable

RUNS, ROUNDS = 300, 200


def request(host: str, target: str) -> Request:
    block = f"Host: {host}\r\nUser-Agent: bench\r\nAccept: */*\r\n".encode()
    return Request(b"GET", target.encode(), 11, block, RequestFields(block), b"127.0.0.1", False)


def table(hosts: int, routes: int) -> RouteTable:
    """Make routes that are spread evenly over hosts, every tenth of which is a wildcard; some ask for a method or a header."""
    made = []
    for number in range(routes):
        host, place = number % hosts, number // hosts
        name = f"{'*.' if host % 10 == 9 else ''}host{host}.example".encode()
        path = (b"", b"/api", b"/api/v1/users", b"/static")[place % 4]
        made.append(Route(f"route-{number}", RouteMatch((name,), path)))
    made.append(Route("posts", RouteMatch((b"host0.example",), b"/api", methods=frozenset((b"POST",)))))
    made.append(Route("beta", RouteMatch((b"host0.example",), b"/api", headers=((b"x-beta", b"1"),))))
    return RouteTable(made, lambda request: request.peer)


def calibrate() -> float:
    """Time the same fixed piece of Python as bench/hot_path.py, in microseconds: a unit that a busy machine does not change."""
    started = perf_counter()
    lines = [b"%x: %b\r\n" % (i, b"value") for i in range(2000)]
    assert lines
    return (perf_counter() - started) * 1e6 / 100


def least(find: Callable[[Request], object], asked: Request) -> tuple[float, float]:
    """Give the least time of a look-up, in microseconds and in units of `calibrate`."""
    times, unit = [], []
    for _ in range(ROUNDS):
        started = perf_counter()
        for _ in range(RUNS):
            find(asked)
        times.append((perf_counter() - started) / RUNS * 1e6)
        unit.append(calibrate())
    return min(times), min(times) / min(unit)


def main() -> None:
    for hosts, routes in ((3, 10), (300, 1000)):
        found = table(hosts, routes)
        last = hosts - 1 if hosts < 10 else 9
        for what, asked in (
            ("the host's root", request("host1.example", "/")),
            ("a page, host with a port", request("host1.example:8080", "/shop/cart/items?page=2&sort=price")),
            ("below a prefix", request("host1.example", "/api/v1/users/17/orders?page=2")),
            ("past a method and a header", request("host0.example", "/api/v2/things")),
            ("a name below a wildcard", request(f"www.host{last}.example", "/static/app.js")),
            ("a host that no route knows", request("other.example", "/a/b/c/d")),
            ("an unusual path", request("host1.example", "/api/v1/a%20file")),
        ):
            us, units = least(found.find, asked)
            print(f"{routes:5} routes, {hosts:3} hosts, {what}: {us:.2f} µs ({units:.3f} units)")


if __name__ == "__main__":
    main()
