"""The description of the admin pages (docs/openapi.json): it has just the routes that there are, and answers are as it says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smartedge.app import CATCH_ALL, create_app
from smartedge.config.model import load
from tests.examples import examples
from tests.fakes import local_client
from tests.scripts import docs_script

ROOT = Path(__file__).parents[2]
DOCUMENT: dict[str, Any] = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
FILE = {"backends": ["http://127.0.0.1:1", {"url": "http://127.0.0.1:2", "id": "b"}], "health": {"interval_s": 60}}
PATTERN = re.compile(r"{(\w+)}")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    directory = tmp_path_factory.mktemp("openapi")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SMARTEDGE_STATE_DIR", str(directory / "state"))
        file = directory / "backends.json"
        file.write_text(json.dumps(FILE))
        app = create_app(load(file), path=str(file))
        yield local_client(app)
        app.edge.stop()


def filled(path: str, parts: dict[str, str] | None = None) -> str:
    usual = {"service": "default", "backend": "b", "address": "10.0.0.1", "action": "drain", "name": "page.js"}
    return PATTERN.sub(lambda match: (usual | (parts or {})).get(match[1], "x"), path)


def test_it_is_made_of_what_the_program_says() -> None:
    module = docs_script("make_openapi")
    assert json.dumps(module.made(), indent=1, ensure_ascii=False) + "\n" == module.PAGE.read_text(encoding="utf-8"), (
        "run: python docs/make_openapi.py"
    )


def test_it_has_every_route_and_no_other(client: FlaskClient) -> None:
    rules = {
        re.sub(r"<(?:\w+:)?(\w+)>", "{}", rule.rule)
        for rule in client.application.url_map.iter_rules()
        if rule.endpoint != CATCH_ALL
    }
    assert {PATTERN.sub("{}", path) for path in DOCUMENT["paths"]} == rules - {"/smartedge"}


@pytest.mark.parametrize("path", sorted(DOCUMENT["paths"]))
def test_each_path_takes_the_methods_that_it_names(path: str, client: FlaskClient) -> None:
    answer = client.open(filled(path), method="BREW")
    assert answer.status_code == 405
    allowed = {method.lower() for method in answer.headers["Allow"].split(", ")} - {"head"}
    assert allowed == DOCUMENT["paths"][path].keys()


OPERATIONS = [(path, method) for path, operations in sorted(DOCUMENT["paths"].items()) for method in sorted(operations)]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["backends", "strategy", "confirm_s", "rollback_on", "author", "id", "url", "weight", "persist", "require_all"]
)
BODIES = st.none() | JSON | st.dictionaries(KEYS, JSON, max_size=3)
# Without what would make another path of it: with `.` or `:` a part may be an address.
TEXTS = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/?#%{}.:"), min_size=1, max_size=8)


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
@settings(max_examples=examples(15), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_asked_is_answered_as_it_says(path: str, method: str, client: FlaskClient, data: st.DataObject) -> None:
    """Statuses, media types and members, for parts, queries and bodies of all kinds."""
    operation = DOCUMENT["paths"][path][method]
    parameters = operation["parameters"]
    parts = {one["name"]: data.draw(TEXTS) for one in parameters if one["in"] == "path" and data.draw(st.booleans())}
    parts.pop("address", None)  # it is one, or the path is another's
    query = {
        one["name"]: data.draw(TEXTS | st.just("1") | st.just("true"))
        for one in parameters
        if one["in"] == "query" and data.draw(st.booleans())
    }
    more = {"json": data.draw(BODIES)} if "requestBody" in operation else {}
    answer = client.open(filled(path, parts), method=method.upper(), query_string=query, **more)
    described = operation["responses"].get(str(answer.status_code))
    assert described is not None, (answer.status_code, answer.text)
    (media,) = described["content"]
    assert media == "*/*" or answer.mimetype == media
    if answer.mimetype in ("application/json", "application/problem+json"):
        document = answer.get_json(force=True)
        schema = described["content"][answer.mimetype]["schema"]
        required = DOCUMENT["components"]["schemas"]["Problem"]["required"] if "$ref" in schema else schema["required"]
        assert set(required) <= document.keys()
    client.application.edge.rollouts._place.write(None)  # type: ignore[attr-defined]
