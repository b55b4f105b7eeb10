"""The documentation says what is there: commands, paths, flags, variables, metrics, links, examples."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest

from smartedge.admin.metrics import TABLE
from smartedge.app import CATCH_ALL, create_app
from smartedge.cli.main import program
from smartedge.config import sources as config_sources
from smartedge.config.model import Config, parse
from smartedge.observe.log_line import FIELDS, MORE_FIELDS, TRY_FIELDS
from tests.scripts import docs_script

ROOT = Path(__file__).resolve().parent.parent
READMES = [ROOT / "README.md", ROOT / "README.pt-BR.md"]
PAGES = [*READMES, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OTHER_VARIABLES = config_sources.OTHER_VARIABLES

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
every_readme = pytest.mark.parametrize("readme", READMES, ids=lambda page: page.name)


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, *languages: str) -> list[str]:
    return [body for language, body in FENCE.findall(text(page)) if language in languages]


def commands(page: Path) -> str:
    """Everything that a reader may type: fenced shell text and code in running text."""
    prose = FENCE.sub("", text(page))
    return "\n".join([*blocks(page, "sh", "console"), *re.findall(r"`([^`]+)`", prose)])


def configurations(page: Path) -> Iterator[str]:
    """JSON that is meant for backends.json: in blocks of its own, in curl's -d and in echo."""
    whole = (block for block in blocks(page, "json") if '"backends"' in block or '"discover"' in block)
    yield from (
        block for block in whole if '"simulate"' not in block and "registry:Registry" not in block
    )  # a class that is shown
    yield from re.findall(r"-d '(\{\"backends\".*?\})'", commands(page))


def test_the_reference_table_is_made_of_the_schema_of_today() -> None:
    module = docs_script("make_configuration")

    assert module.page() == text(module.PAGE), "run: python docs/make_configuration.py"


def test_the_table_of_metrics_is_made_of_the_programs_own() -> None:
    module = docs_script("make_metrics")

    assert module.page() == text(module.PAGE), "run: python docs/make_metrics.py"


def test_the_picture_at_the_head_of_the_readme_shows_what_there_is_today() -> None:
    """It is drawn from a real session by docs/make_demo.py; what the program and the tour say alike must be the same in it."""
    maker = docs_script("make_demo")
    drawn = "\n".join(
        "".join(row.itertext()) for row in ElementTree.parse(maker.PICTURE).getroot().iter() if row.tag.endswith("text")
    )
    usual = parse(text(ROOT / "backends.json"))

    for line in (
        f"ok: {len(usual.backends)} backends, strategy {usual.strategy}",
        "🚀 SmartEdge iniciado na porta 8080",
        "✅ http://localhost:8082 OK",
        "❌ http://localhost:8081 Offline",
        f"$ {maker.STOP}",
        "Failed requests:        0",
    ):
        assert line in drawn, "run: python docs/make_demo.py"
    for readme in READMES:
        assert f"\nok: {len(usual.backends)} backends, strategy {usual.strategy}\n" in text(readme)
        assert f"$ {maker.STOP}\n" in text(readme)


def test_the_index_names_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / target).resolve() for target in re.findall(r"\]\(([^)#]+)\)", text(index))}

    assert {page for page in PAGES if page != index} - linked == set()


@every_readme
def test_an_access_log_line_has_the_fields_that_are_shown(readme: Path) -> None:
    """The example lacked `hedges`, of which the page about overload told."""
    (line,) = [block for block in blocks(readme, "json") if block.startswith('{"time"')]

    assert list(json.loads(line)) == ["time", *FIELDS]


def test_the_page_of_the_access_log_has_its_fields() -> None:
    page = text(ROOT / "docs" / "access-log.md")
    tables = re.findall(r"\| field \| what it says \|\n\|---\|---\|\n((?:\|.*\|\n)+)", page)
    told = [re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) for table in tables]

    assert told == [["time", *FIELDS], list(MORE_FIELDS), list(TRY_FIELDS)]


NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "duas": 2, "três": 3, "quatro": 4, "cinco": 5}


@every_readme
def test_what_speed_costs_is_what_was_measured(readme: Path) -> None:
    """It named figures that were in no table."""
    told = re.search(r"(\d[.,]\d\d) \((\d[.,]\d\d)–(\d[.,]\d\d)\)", text(readme))
    assert told is not None
    newest = text(ROOT / "docs" / "performance.md").partition("## Where it stands")[2].partition("|\n\n")[0]
    rows = {cells[1].strip("* "): cells[2] for line in newest.splitlines() if (cells := line.split("|"))[3:]}
    measured = re.findall(r"\d\.\d\d", rows["smartedge"])

    assert [figure.replace(",", ".") for figure in told.groups()] == measured[:3]
    times = re.search(r"(?:and|e) (\w+) (?:times that of|vezes a do) nginx", text(readme))
    assert times is not None
    for peer in ("nginx", "haproxy"):
        assert NUMBERS[times[1]] == round(float(measured[0]) / float(rows[peer].split()[0]))


def test_the_reference_names_every_key() -> None:
    reference = text(ROOT / "docs" / "configuration.md")

    assert [key for key in Config.model_fields if f"| `{key}` |" not in reference] == []


@every_page
def test_every_json_block_is_json(page: Path) -> None:
    for block in blocks(page, "json"):
        json.loads(block)


@every_page
def test_every_configuration_that_is_shown_is_accepted(page: Path) -> None:
    for configuration in configurations(page):
        assert parse(configuration).all_services()


@every_readme
def test_the_full_form_in_the_readme_shows_the_defaults(readme: Path) -> None:
    full = json.loads(next(block for block in configurations(readme) if '"health"' in block))
    usual = parse(json.dumps({"backends": full["backends"]}))
    shown = parse(json.dumps(full))

    assert shown == usual


@every_page
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", text(ROOT / "Makefile"), re.MULTILINE))
    named = set(re.findall(r"(?:^|[^\w./-])make ([a-z][a-z-]+)\b", commands(page), re.MULTILINE))

    assert named - targets == set()


@every_page
def test_every_command_and_flag_that_is_named_exists(page: Path) -> None:
    known = {name: {opt for p in command.params for opt in p.opts} for name, command in program.load_all().items()}
    for line in commands(page).splitlines():
        for name, arguments in re.findall(r"-m smartedge ([a-z]+)([^;&|]*)", line):
            assert name in known, line
            flags = set(re.findall(r"(?<!\S)--[a-z-]+", arguments))
            assert flags - known[name] - {"--help"} == set(), line


def test_the_configuration_of_the_compose_file_that_scales_is_the_one_that_is_shown() -> None:
    shown = (ROOT / "deploy" / "scale" / "backends.json").read_text(encoding="utf-8")

    assert shown in blocks(ROOT / "docs" / "discovery.md", "json")
    assert "deploy/scale/backends.json" in (ROOT / "deploy" / "scale" / "compose.yaml").read_text(encoding="utf-8")


def test_the_reference_names_every_flag_of_run() -> None:
    reference = text(ROOT / "docs" / "configuration.md")
    run = program.load_all()["run"]

    assert [p.opts[0] for p in run.params if isinstance(p, click.Option) and p.opts[0] not in reference] == []


@every_page
def test_every_variable_that_is_named_exists(page: Path) -> None:
    known = set(config_sources._VARIABLES.values()) | OTHER_VARIABLES | {"SMARTEDGE_MYPYC"}  # read by setup.py, not by the edge

    assert set(re.findall(r"\bSMARTEDGE_[A-Z_]*[A-Z]\b", text(page))) - known == set()


def test_the_reference_names_every_variable() -> None:
    reference = text(ROOT / "docs" / "configuration.md")
    known = set(config_sources._VARIABLES.values()) | OTHER_VARIABLES

    assert {name for name in known if f"`{name}`" not in reference} == set()


@every_readme
def test_the_table_of_endpoints_has_just_those_that_there_are(readme: Path) -> None:
    app = create_app(parse('{"backends": ["http://localhost:8081"]}'))
    rules = {re.sub(r"<[^>]*>", "{}", rule.rule) for rule in app.url_map.iter_rules() if rule.endpoint != CATCH_ALL}
    named = set(re.findall(r"^\| (?:GET|POST) \| `(/[^`]*)` \|", text(readme), re.MULTILINE))

    assert {re.sub(r"{[^}]*}", "{}", path) for path in named} == rules


@every_page
def test_every_metric_that_is_named_exists(page: Path) -> None:
    known = {line.name for line in TABLE}
    named = set(re.findall(r"\b(smartedge_[a-z_]+?)(?:_bucket|_sum|_count)?[{ ]", text(page)))

    assert named - known == set()


@every_page
def test_every_link_inside_the_repository_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text(page))):
        if "://" in target:
            continue
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if fragment:
            titles = re.findall(r"^#+ (.*)$", text(file), re.MULTILINE)
            anchor = docs_script("make_configuration").anchor
            assert fragment in {anchor(title) for title in titles}, target


@every_page
def test_every_file_that_is_named_as_code_exists(page: Path) -> None:
    named = re.findall(r"`((?:deploy|bench|docs|tests)/[\w./-]*\w|server\d\.py)`", text(page))

    assert [name for name in named if not (ROOT / name).exists()] == []


@every_page
def test_every_module_that_is_named_exists(page: Path) -> None:
    named = re.findall(r"`((?:balancer|control|discovery|proxy|simulator)/\w+\.py|app\.py|edge\.py)`", text(page))

    assert [name for name in named if not (ROOT / "smartedge" / name).exists()] == []


def test_both_readmes_show_the_same_commands_and_answers() -> None:
    def shown(readme: Path) -> list[str]:
        """Without comments and prose answers: those are translated."""
        whole = "\n".join(body for _, body in FENCE.findall(text(readme)))
        return [re.sub(r"\s+# .*$", "", line) for line in whole.splitlines() if line.strip()]

    assert shown(READMES[0]) == shown(READMES[1])


def test_both_readmes_have_the_same_shape() -> None:
    def shape(readme: Path) -> list[str]:
        lines = FENCE.sub("```", text(readme)).splitlines()
        return [kind[0] for line in lines if (kind := re.match(r"#+|```|\| |- ", line))]

    assert shape(READMES[0]) == shape(READMES[1])


def test_the_routing_pages_table_and_picture_are_made_of_one_result() -> None:
    """They differed: 30,042 ms in the picture and 416 in the table."""
    page, pictures = docs_script("make_routing").made()
    assert page == (ROOT / "docs" / "routing.md").read_text(encoding="utf-8"), "run: python docs/make_routing.py"
    for path, text in pictures.items():
        assert text == path.read_text(encoding="utf-8"), "run: python docs/make_routing.py"
