"""The command `simulate`: a scenario in; a table, JSON or a chart out."""

from __future__ import annotations

from collections.abc import Callable

import click

from smartedge.cli.errors import Stop
from smartedge.cli.paint import painted
from smartedge.cli.progress import progress
from smartedge.config.model import ConfigError
from smartedge.config.sources import read_file
from smartedge.config.values import escaped


@click.command(epilog="Example: smartedge simulate docs/scenarios/day.json --strategy ewma")
@click.argument("scenario")
@click.option("--seed", type=click.IntRange(0, 1 << 62), metavar="N", help="Chance, instead of the file's `simulate.seed`.")
@click.option("--strategy", metavar="NAME", multiple=True, help="Only this strategy; may be repeated.")
@click.option("--svg", metavar="FILE", help="Draw a chart into FILE.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON instead of a table.")
def simulate(scenario: str, seed: int | None, strategy: tuple[str, ...], svg: str | None, as_json: bool) -> None:
    """Try strategies on a model of your backends, in virtual time.

    SCENARIO is a configuration such as backends.json with one more section, `simulate`.
    """
    from smartedge.simulator import chart, report  # late: no other command needs them
    from smartedge.simulator.engine import compare
    from smartedge.simulator.scenario import load

    try:
        text = read_file(scenario)
        if text is None:
            raise Stop(f"{escaped(scenario)}: there is no such file")
        loaded = load(text, scenario, strategies=strategy, seed=seed)
    except ConfigError as error:
        raise Stop(str(error)) from error
    with progress() as show:
        names = list(loaded.configs)
        runs = compare(
            loaded,
            lambda name, now_s: show(
                f"{name} ({names.index(name) + 1} of {len(names)}): {min(now_s / loaded.world.duration_s, 1):.0%}"
            ),
        )
    if as_json:
        click.echo(report.document(loaded.world, runs))
        return _draw(svg, lambda: chart.svg(loaded, runs))
    title, *lines = report.table(loaded.world, runs).splitlines()
    click.echo("\n".join([painted(title, "title"), *lines]))
    return _draw(svg, lambda: chart.svg(loaded, runs))


def _draw(path: str | None, chart: Callable[[], str]) -> None:
    """Write a chart, if one is wanted. Raises Stop."""
    if path is None:
        return
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(chart())
    except OSError as error:
        raise Stop(f"{escaped(path)}: {error.strerror}") from error
