"""The plan of the house: which folder may know which, which library it may use; no circle, no file too long, no name twice.

docs/architecture.md has the same table, with what each folder is for.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1] / "smartedge"

MAY_IMPORT = {
    # folder or file: the folders that it may import from, beside its own
    "balancer": "",
    "http": "balancer",
    "http2": "balancer http",
    "config": "balancer",
    "discovery": "balancer http config",
    "cluster": "config discovery",
    "workers": "balancer",
    "acme": "config http",
    "health": "balancer http http2",
    "server": "balancer http http2",
    "proxy": "balancer http http2 server",
    "observe": "balancer http config workers proxy",
    "process": "balancer http http2 config workers acme server proxy observe",
    "edge": "balancer http http2 config discovery cluster workers acme health server proxy observe process",
    "admin": "balancer http config discovery workers health proxy observe process edge",
    "simulator": "balancer config health",
    "app": "balancer http config workers server proxy observe process edge admin",
    "worker": "balancer http config workers server observe process edge app",
    "cli": "balancer http config discovery workers health server proxy observe process edge admin simulator convert app worker",
    "convert": "",
    "testing": "config server edge app",
    "__main__": "process cli",
}
"""Arrows point down. `http` knows the errors and the specs of `balancer`, nothing else of it."""

LIBRARIES = {
    "acme": "acme",
    "click": "cli",
    "cryptography": "acme",
    "dns": "discovery",
    "flask": "admin app",
    "gevent": "__main__ acme admin cli cluster discovery edge health http http2 observe process proxy server testing workers",
    "gunicorn": "app cli worker",
    "hpack": "http2",
    "httptools": "health http server",
    "josepy": "acme",
    "maxminddb": "proxy",
    "prometheus_client": "admin",
    "opentelemetry": "observe",
    "pydantic": "config simulator",
    "pytest": "testing",
    "requests": "discovery observe proxy testing",
    "werkzeug": "admin app",
}

NOT_IN_THE_DOMAIN = {"asyncio", "datetime", "http", "logging", "os", "socket", "ssl", "subprocess", "sys", "time", *LIBRARIES}
"""No I/O, no clock, no log: time and chance are arguments there (http for the names of status codes is the one exception)."""

LONGEST = 400
"""Lines of a file; from 300 on it is a question."""


def modules() -> dict[str, Path]:
    """Every module of ours by its name below `smartedge.`, without the packages themselves."""
    paths = (path for path in sorted(ROOT.rglob("*.py")) if path.name != "__init__.py")
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}


MODULES = modules()


@cache
def imports(path: Path) -> frozenset[str]:
    """The full names that a module imports, wherever in it; those too that only type checkers read."""
    found: set[str] = set()
    pending: list[Any] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        for statements in ("body", "orelse", "finalbody", "handlers", "cases"):  # expressions import nothing
            pending += getattr(node, statements, ())
    return frozenset(found)


def ours(name: str) -> set[str]:
    """The modules of ours that a module imports."""
    found = set()
    for imported in imports(MODULES[name]):
        below = imported.removeprefix("smartedge.")
        if below != imported:
            found |= {candidate for candidate in (below, below.rpartition(".")[0]) if candidate in MODULES}
    return found


def folder(name: str) -> str:
    return name.partition(".")[0]


def test_every_folder_has_its_line() -> None:
    assert {folder(name) for name in MODULES} == MAY_IMPORT.keys()


def test_imports_point_down_between_folders() -> None:
    wrong = [
        f"{name} -> {other}"
        for name in MODULES
        for other in ours(name)
        if folder(other) not in (folder(name), *MAY_IMPORT[folder(name)].split())
    ]
    assert wrong == []


def test_no_file_imports_itself_by_a_detour() -> None:
    """Neither when it runs nor for type checkers alone: what only those import counts too."""
    assert circles() == set()


def circles() -> set[frozenset[str]]:
    """The strongly connected parts of more than one module (Tarjan, 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: set[frozenset[str]] = set()

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in ours(name):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            part = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(part) > 1:
                found.add(frozenset(part))

    for name in MODULES:
        if name not in index:
            visit(name)
    return found


def test_a_library_is_used_only_where_it_belongs() -> None:
    users: dict[str, set[str]] = {library: set() for library in LIBRARIES}
    for name, path in MODULES.items():
        for imported in imports(path):
            users.get(imported.partition(".")[0], set()).add(folder(name))
    assert users == {library: set(folders.split()) for library, folders in LIBRARIES.items()}


def test_the_domain_is_standard_library_without_io_clock_or_log() -> None:
    wrong = [
        f"{name}: {imported}"
        for name, path in MODULES.items()
        if folder(name) == "balancer"
        for imported in imports(path)
        if imported.partition(".")[0] in NOT_IN_THE_DOMAIN and not imported.startswith("http.HTTPStatus")
    ]
    assert wrong == []


def test_http_knows_errors_and_specs_of_the_domain_only() -> None:
    wrong = [
        f"{name} -> {other}"
        for name in MODULES
        if folder(name) == "http"
        for other in ours(name)
        if folder(other) == "balancer" and other not in ("balancer.errors", "balancer.spec")
    ]
    assert wrong == []


def test_no_file_is_too_long_to_be_read() -> None:
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def test_one_class_name_stands_for_one_thing() -> None:
    """Who searches for a name finds what it is; what begins with _ is its file's own."""
    homes: dict[str, list[str]] = {}
    for name, path in MODULES.items():
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(statement, ast.ClassDef) and not statement.name.startswith("_"):
                homes.setdefault(statement.name, []).append(name)
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


def test_packages_hold_no_code_of_their_own() -> None:
    for path in ROOT.glob("*/**/__init__.py"):
        assert len(ast.parse(path.read_text(encoding="utf-8")).body) <= 1, f"{path} is for a docstring"


def test_nothing_is_patched_but_in_main() -> None:
    """A library that patches the standard library surprises whoever imports it."""
    patching = {name for name, path in MODULES.items() if "patch_all" in path.read_text(encoding="utf-8")}
    assert patching <= {"__main__"}


def test_the_table_of_the_documentation_names_every_folder() -> None:
    text = (ROOT.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    missing = [place for place in MAY_IMPORT if f"`{place}" not in text]
    assert missing == []


TESTS = {path: path.read_text(encoding="utf-8") for path in Path(__file__).parent.rglob("*.py")}


def test_no_test_file_is_imported_by_another() -> None:
    """What two of them need has a module of its own: house.py makes our objects, fakes.py and peers.py what stands around."""
    of_ours = re.compile(
        r"^\s*(?:from|import) (tests\b[\w.]*(?: import (?:\([^)]*\)|.*))?)", re.MULTILINE
    )  # parsing all takes 2 s
    found = [(path.name, imported) for path, text in TESTS.items() for imported in of_ours.findall(text)]
    assert len(found) > len(TESTS) / 2
    assert [one for one in found if re.search(r"\btest_", one[1])] == []


def test_nothing_is_mocked() -> None:
    """Stand-ins are given, not patched in: a mock goes on passing when what it stands for has changed."""
    assert [
        path.name
        for path, text in TESTS.items()
        if "unittest" in text and any(name.startswith("unittest") for name in imports(path))
    ] == []
