"""What a running edge has found by discovery, as its status page says it, for tests to wait for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.live.edges import LiveEdge
from tests.live.peers import Script, answers
from tests.live.processes import ROOT, ask, wait_until


@contextmanager
def named_backends(count: int) -> Iterator[list[Script]]:
    """So many backends, each of which answers with its number."""
    with ExitStack() as stack:
        yield [stack.enter_context(Script(answers(body=str(number).encode()))) for number in range(count)]


def backends_of(edge: LiveEdge) -> dict[str, Any]:
    """The backends in use by id."""
    return {one["id"]: one for one in edge.backends()}


def source_of(edge: LiveEdge) -> Any:
    """How the one source of the one service is."""
    (service,) = edge.status()["services"].values()
    (source,) = service["discovery"]
    return source


def wait_found(edge: LiveEdge, *ids: str) -> dict[str, Any]:
    """Wait until these backends and no others are in use, and all of them serve."""

    def found() -> Any:
        backends = backends_of(edge)
        assert isinstance(backends, dict)
        return backends if backends.keys() == set(ids) and all(b["health"] == "healthy" for b in backends.values()) else None

    try:
        return wait_until(found, 15, f"{ids} to be in use")  # type: ignore[no-any-return]
    except AssertionError as error:
        raise AssertionError(f"{error}\nin use: {list(backends_of(edge))}\n{source_of(edge)}\n{edge.process}") from None


def wait_state(edge: LiveEdge, state: str, problem: str = "") -> Any:
    """Wait until the source is "fresh", "stale" or "never", and the problem that it tells has these words in it."""

    def told() -> Any:
        source = source_of(edge)
        return source if source["state"] == state and problem in (source["problem"] or "") else None

    try:
        return wait_until(told, 20, f"the source to be {state} ({problem})")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{source_of(edge)}\n{edge.process}") from None


def wait_kept(edge: LiveEdge, *ids: str) -> None:
    """Wait until these backends and no others are on the disk for the next start."""

    def kept() -> bool:
        document = json.loads((edge.directory / ".backends.json.found.json").read_text())
        return {one["id"] for kinds in document.values() for kind in kinds.values() for one in kind["backends"]} == set(ids)

    wait_until(kept, 10, f"{ids} to be kept")


def documented(section: str) -> list[str]:
    """The commands for a shell that a section of docs/discovery.md shows."""
    page = (ROOT / "docs" / "discovery.md").read_text(encoding="utf-8")
    (text,) = re.findall(rf"^## {section}$(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    return re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def requests_of(edge: LiveEdge, script: Script, requests: int = 20) -> int:
    """How many a backend gets of so many requests that are sent now."""
    before = len(script.requests)
    for _ in range(requests):
        assert ask(edge.url).status == 200
    return len(script.requests) - before
