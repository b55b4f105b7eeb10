"""The walls of the house: which module may know which, and where each library may be used."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "smartedge"

WALLS = {
    # What a package may not know: only the edge and what stands on it puts the parts together.
    "balancer": ("control", "proxy", "discovery", "config", "edge"),
    "proxy": ("control", "discovery", "config", "edge"),
    "control": ("proxy", "discovery", "edge"),
    "discovery": ("control", "proxy", "balancer", "edge"),
    "config": ("control", "proxy", "discovery", "edge"),
    "simulator": ("control", "proxy", "discovery", "edge"),
}
DOORS = {
    *(("control.probe", f"proxy.{name}") for name in ("sockets", "tls", "tlswire", "wire")),  # probes go the way of requests
    ("simulator.probes", "control.schedule"),  # probes come when they do, and the schedule is without clock and socket
}

LIBRARIES = {
    "flask": "app control.admin control.decision_pages control.drain_pages control.operator_pages control.pages",
    "werkzeug": "app control.admin",
    "requests": "proxy.transport",
    "gevent": "__main__ control.checks control.housekeeping control.logwriter control.probe discovery.names fleet serve"
    " proxy.crew proxy.handler proxy.hedge proxy.left proxy.queue proxy.server proxy.sockets proxy.tls proxy.tlswire proxy.tunnel"
    " proxy.wire whereabouts",
    "httptools": "control.verdict proxy.answer_head proxy.reader",
    "prometheus_client": "control.metrics",
    "pydantic": "config config_problems config_sections simulator.scenario",
    "click": "cli cli_ask cli_check cli_operate cli_simulate cli_stop",
    "gunicorn": "app fleet worker",
}
NOT_IN_THE_DOMAIN = {"asyncio", "datetime", "http", "logging", "os", "socket", "ssl", "subprocess", "sys", "time"}
"""No I/O, no clock, no log: time and chance are arguments there (http for the names of status codes is the one exception)."""


def modules() -> dict[str, Path]:
    """Every module of ours by its name below `smartedge.`, without the packages themselves."""
    paths = (path for path in sorted(ROOT.rglob("*.py")) if path.name != "__init__.py")
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}


@cache
def imports(path: Path) -> frozenset[str]:
    """The full names that a module imports when it runs, wherever in it; what only type checkers read does not count."""
    found: set[str] = set()
    pending: list[ast.AST] = [ast.parse(path.read_text())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            pending += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        pending += ast.iter_child_nodes(node)
    return frozenset(found)


def ours(path: Path) -> set[str]:
    """The modules of ours that a module imports."""
    found = set()
    for name in imports(path):
        below = name.removeprefix("smartedge.")
        if below != name:
            found |= {candidate for candidate in (below, below.rpartition(".")[0]) if candidate in MODULES}
    return found


MODULES = modules()


def test_no_module_imports_itself_by_a_detour() -> None:
    """Depth first; what stands on the way when a module is met again is a circle."""
    done: set[str] = set()
    way: list[str] = []

    def visit(name: str) -> None:
        assert name not in way, f"a circle: {' -> '.join([*way[way.index(name) :], name])}"
        if name not in done:
            way.append(name)
            for other in sorted(ours(MODULES[name])):
                visit(other)
            done.add(way.pop())

    for name in MODULES:
        visit(name)


@pytest.mark.parametrize("name", MODULES)
def test_the_parts_do_not_know_each_other(name: str) -> None:
    forbidden = WALLS.get(name.partition(".")[0].partition("_")[0], ())
    for other in ours(MODULES[name]):
        part = other.partition(".")[0].partition("_")[0]
        assert part not in forbidden or (name, other) in DOORS, f"{name} must not know {other}"


@pytest.mark.parametrize("name", MODULES)
def test_libraries_are_used_only_where_they_belong(name: str) -> None:
    for library in {imported.partition(".")[0] for imported in imports(MODULES[name])}:
        if library in LIBRARIES:
            assert name in LIBRARIES[library].split(), f"{name} must not use {library}"


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("balancer.")])
def test_the_domain_is_standard_library_without_io_clock_or_log(name: str) -> None:
    for imported in imports(MODULES[name]):
        assert imported.partition(".")[0] not in NOT_IN_THE_DOMAIN - {"http"} | LIBRARIES.keys(), (
            f"{name} must not use {imported}"
        )
        assert not imported.startswith(("http.client", "http.server"))


def test_packages_hold_no_code_of_their_own() -> None:
    for path in ROOT.glob("*/__init__.py"):
        assert len(ast.parse(path.read_text()).body) <= 1, f"{path} is for a docstring"


def test_nothing_is_patched_but_in_main() -> None:
    """A library that patches the standard library surprises whoever imports it."""
    patching = {name for name, path in MODULES.items() if "patch_all" in path.read_text()}
    assert patching <= {"__main__"}
