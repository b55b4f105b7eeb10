"""The page in the browser as it is sent: its files, what they may do, and its tables without JavaScript."""

from __future__ import annotations

import inspect
import json
import re
from html.parser import HTMLParser

import pytest
from flask.testing import FlaskClient

from smartedge.admin import dashboard
from smartedge.admin.dashboard import POLICY, TYPES, WITHOUT, plain_table, static_file, static_names, texts
from smartedge.balancer.health import ProbeResult
from tests.admin.small_edge import SITE, SmallEdge, client_of, problem, serve

FILES = sorted(static_names())
SCRIPTS = [name for name in FILES if name.endswith(".js")]


def text_of(name: str) -> str:
    return static_file(name).decode()


class Elements(HTMLParser):
    """Every element of a page with its attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


# ---- the files ----


def test_a_browser_loads_less_than_100_kb() -> None:
    common = sum(len(static_file(name)) for name in FILES if not name.startswith("texts.") or name == "texts.js")
    for language in WITHOUT:
        assert common + len(static_file(f"texts.{language}.json")) < 100_000


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_short_enough_to_be_read(name: str) -> None:
    assert len(text_of(name).splitlines()) <= 400


@pytest.mark.parametrize("name", FILES)
def test_no_file_names_another_origin(name: str) -> None:
    addresses = re.findall(r"https?://[^\s\"'`)]+", text_of(name))
    assert set(addresses) <= {"http://www.w3.org/2000/svg"}  # a name, which nobody fetches


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_makes_markup_or_code_of_text(name: str) -> None:
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc", text_of(name)) == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_begins_by_saying_what_it_is(name: str) -> None:
    assert re.match(r"// [A-Z].+\.", text_of(name).replace("\n// ", " "))


def test_scripts_import_only_files_that_are_there_and_none_a_circle() -> None:
    imports = {name: set(re.findall(r'from "\./([^"]+)"', text_of(name))) for name in SCRIPTS}
    assert set().union(*imports.values()) <= set(SCRIPTS)
    while leaves := {name for name, wanted in imports.items() if not wanted & imports.keys()}:
        imports = {name: wanted for name, wanted in imports.items() if name not in leaves}
    assert imports == {}


def test_both_languages_say_everything() -> None:
    english, portuguese = (texts(language) | WITHOUT[language] for language in ("en", "pt"))
    assert english.keys() <= portuguese.keys()
    assert {key for key in portuguese.keys() - english.keys() if not key.startswith("word_")} == set()
    for key in english:
        assert set(re.findall(r"{\w+}", english[key])) == set(re.findall(r"{\w+}", portuguese[key])), key


def test_every_text_that_is_asked_for_is_there_and_every_other_is_asked_for() -> None:
    asked = set(re.findall(r'data-(?:text|label|hint)="(\w+)"', text_of("page.html")))
    everything = "".join(map(text_of, SCRIPTS))
    asked |= set(re.findall(r'\bt\("(\w+)"', everything))
    known = texts("en").keys()
    assert asked <= known
    made = tuple(set(re.findall(r"\bt\(`(\w+?)\$\{", everything)))
    elsewhere = everything + inspect.getsource(dashboard)
    unused = {
        key for key in known - asked if not key.startswith((*made, "word_")) and not re.search(rf'["\']{key}["\']', elsewhere)
    }
    assert unused == set()


# ---- how they are sent ----


def test_the_page_may_run_and_load_only_what_lies_beside_it(client: FlaskClient) -> None:
    answer = client.get("/smartedge/")
    assert answer.status_code == 200
    assert answer.content_type == "text/html; charset=utf-8"
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert POLICY.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in POLICY
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    page = Elements(answer.text)
    for script in page.of("script"):
        assert script == {"type": "module", "src": "static/app.js"}
    assert page.of("style") == []
    assert [name for _, attributes in page.found for name in attributes if name == "style" or name.startswith("on")] == []


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_sent_as_what_it_is_and_not_again_while_it_is_the_same(client: FlaskClient, name: str) -> None:
    answer = client.get(f"/smartedge/static/{name}")
    assert (answer.status_code, answer.data) == (200, static_file(name))
    assert answer.content_type == TYPES[name.rpartition(".")[2]]
    assert answer.headers["Cache-Control"] == "no-cache"
    again = client.get(f"/smartedge/static/{name}", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


@pytest.mark.parametrize(
    "name", ["nothing.js", "..%2fdashboard.py", "%2e%2e/dashboard.py", "page.html/", "app.js%00", ".", "%2fetc%2fpasswd"]
)
def test_no_other_file_is_sent(client: FlaskClient, name: str) -> None:
    answer = client.get(f"/smartedge/static/{name}")
    assert b"Copyright" not in answer.data
    assert answer.status_code in (299, 404)  # 299: not ours, so the catch-all of this test


@pytest.mark.parametrize("path", ["/smartedge/", "/smartedge/static/app.js"])
def test_the_page_is_only_read(client: FlaskClient, path: str) -> None:
    assert client.head(path).status_code == 200
    problem(client.post(path), 405)


# ---- without JavaScript ----


def test_without_javascript_there_is_a_table_for_each_service(services: SmallEdge) -> None:
    for backend in services.backends():
        serve(backend, 6)
    services.backend("b1").learned.health.probed(True)
    text = client_of(services).get("/smartedge/").text
    page = Elements(text)
    assert len(page.of("table")) == len(SITE["services"]) == 2
    assert len(page.of("tr")) == 2 * 3
    assert [attributes for tag, attributes in page.found if tag == "th" and attributes.get("scope") == "row"] == [
        {"scope": "row"}
    ] * 4
    for words in ("web", "api", "10.0.0.5", "healthy", "50.0%", "strategy ewma", " ms<"):
        assert words in text
    assert text.index("<noscript><div") < text.index("<table>") < text.index("</noscript>\n\n")


def test_without_javascript_the_numbers_are_for_those_who_may(edge: SmallEdge, client: FlaskClient) -> None:
    edge.token = "secret"
    answer = client.get("/smartedge/")
    assert answer.status_code == 200
    assert "<table" not in answer.text
    assert "b1" not in answer.text
    assert "give the token" in answer.text
    assert "<table" in client.get("/smartedge/", headers={"Authorization": "Bearer secret"}).text
    assert "Authorization" in answer.headers["Vary"]


def test_a_link_on_another_site_leads_to_a_page_without_numbers(client: FlaskClient) -> None:
    assert "<table" not in client.get("/smartedge/", headers={"Sec-Fetch-Site": "cross-site"}).text


@pytest.mark.parametrize(
    ("accepted", "language", "words"),
    [
        ("pt-BR,pt;q=0.9,en;q=0.5", "pt", "Por que não"),
        ("en-GB", "en", "Why not"),
        ("de, fr", "en", "Why not"),
        ("", "en", "Why not"),
    ],
)
def test_it_speaks_the_language_of_the_browser(client: FlaskClient, accepted: str, language: str, words: str) -> None:
    answer = client.get("/smartedge/", headers={"Accept-Language": accepted})
    assert Elements(answer.text).of("html") == [{"lang": language}]
    assert words in answer.text
    assert "Accept-Language" in answer.headers["Vary"]


EVIL = "\"'><script>alert(1)</script><!-- $title \u202e🦊 &amp;"


def test_what_others_have_written_is_text_in_the_table(edge: SmallEdge, client: FlaskClient) -> None:
    edge.backend("b1").learned.keep_probe(1000.0, ProbeResult(False, 500, EVIL, 0.1))
    page = Elements(client.get("/smartedge/").text)
    assert len(page.of("script")) == 1
    assert EVIL in page.words
    at = page.words.index(EVIL)
    assert page.words[at] == EVIL
    document = json.loads(json.dumps(client.get("/smartedge/live").get_json()))
    document["backends"][0][document["columns"].index("id")] = EVIL
    document["services"] = {"default": document["services"]["default"]}
    assert EVIL in Elements(plain_table(document, texts("en") | WITHOUT["en"])).words
