"""Probes in virtual time."""

from __future__ import annotations

from tests.simulator.makers import outcome, outcome_figures


def test_probes_take_a_backend_out_and_bring_it_back() -> None:
    changes = [{"at_s": 5, "state": "hang"}, {"at_s": 12, "state": "up"}]
    posts = {"per_s": 100, "idempotent_ratio": 0}  # which wait, though it is silent
    world = {"duration_s": 20, "arrivals": posts, "backends": [{"id": "a", "changes": changes}]}
    quiet = {"failures": 1_000_000, "min_requests": 1_000_000}
    found = outcome(world, timeouts={"first_byte_s": 1}, breaker=quiet)
    slow = [at for at, took_s in zip(found.at, found.took_s, strict=True) if took_s > 0.5]
    by_a = [at for at, backend in zip(found.at, found.backend, strict=True) if backend == 0]

    assert slow, "until three probes in a row had failed"
    assert min(slow) >= 5 - 0.01
    assert max(slow) < 11, "with a time-out of 1 s, three probes that come every 2 s and then every 1 s"
    assert len(slow) < 60, "and few of them: it is silent after a tenth of a second, and asked again when nothing waits there"
    assert [at for at in by_a if 11 < at < 12] == []
    assert 12 < min(at for at in by_a if at > 11) < 17


def test_a_refused_connection_has_the_backend_probed_soon() -> None:
    """With ten minutes between probes only traffic tells that it is gone; three probes a second apart then take it out."""
    world = {"duration_s": 30, "backends": [{"id": "a", "changes": [{"at_s": 2, "state": "down"}]}]}
    found = outcome_figures(world, health={"interval_s": 600}, breaker={"failures": 1_000_000, "min_requests": 1_000_000})

    assert found.errors <= 1
    assert found.retries < 5 * 50, "no more than five seconds of a's share"
