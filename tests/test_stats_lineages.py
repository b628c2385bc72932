"""Ladders of derived variants are pruned by monotonicity, and the assumption is audited."""

from __future__ import annotations

from dataclasses import replace

import pytest
from octans.ir.models import Derivation
from octans.ir.physical import Choice
from octans.stats.lineages import audited, milder
from octans.stats.profile import PLAIN, Aim, Strategy, profile
from profiling import ERRORS, SECONDS, FakeRunner, request, rows

DATA = rows(600)
RUNGS = {"read.p10": 0.1, "read.p50": 0.5, "read.p90": 0.9}
DERIVATIONS = {name: Derivation("read.base", "PRUNE", (rung,)) for name, rung in RUNGS.items()}


def run(errors, strategy):
    ERRORS.update(errors)
    SECONDS.update({name: 3e-4 * (1 - rung) + 1e-5 for name, rung in RUNGS.items()})
    choices = {"p.read": [Choice("read.base"), *map(Choice, RUNGS)]}
    asked = request(
        DATA, choices=choices, derivations=DERIVATIONS, aim=Aim(models=(("read", 0.9),))
    )
    try:
        return profile(asked, FakeRunner(DATA), strategy=strategy)
    finally:
        for name in errors:
            del ERRORS[name], SECONDS[name]


def test_milder_ones_of_a_lineage():
    others = {
        "m.i8": Derivation("m.b", "QUANTIZE", ("int8",)),
        "m.h": Derivation("m.b", "quantize", ("fp16",)),
        "m.r4": Derivation("m.b", "REDUCE", (4,)),
        "m.r8": Derivation("m.b", "REDUCE", (8,)),
        "m.other": Derivation("m.c", "REDUCE", (9,)),
        "m.odd": Derivation("m.b", "DISTIL", ()),
    }
    assert milder("m.i8", others) == ("m.b", "m.h")
    assert milder("m.r4", others) == ("m.b", "m.r8")
    assert milder("m.odd", others) == milder("m.b", others) == ()
    assert milder("read.p90", DERIVATIONS) == ("read.base", "read.p10", "read.p50")


def test_stronger_ones_are_not_tried_where_a_milder_one_falls_short():
    # p90 errs as often as is allowed, so that by itself it is not soon decided.
    errors = {"read.p10": 0.02, "read.p50": 0.5, "read.p90": 0.1}
    found = {d.variant: d for d in run(errors, Strategy(audit=0.0)).decided}
    assert "read.p50, which is milder, falls short" in found["read.p90"].reason
    assert found["read.p90"].rows < len(DATA)
    off = {d.variant: d for d in run(errors, Strategy(audit=0.0, ladders=False)).decided}
    assert "milder" not in str(off.get("read.p90"))


def test_a_violated_ladder_is_reported_and_no_longer_pruned():
    """Strength without loss: the audit sees it, and what was pruned is measured again."""
    errors = {"read.p10": 0.5, "read.p50": 0.01, "read.p90": 0.02}
    seed = next(s for s in range(99) if audited("read.p50", 0.5, s) > audited("read.p90", 0.5, s))
    outcome = run(errors, Strategy(audit=0.5, seed=seed))
    assert any("read.p50 suffices although read.p10" in note for note in outcome.notes)
    assert not any("milder" in done.reason for done in outcome.decided)


def test_the_audit_is_a_seeded_share():
    names = [f"m.v{i}" for i in range(1000)]
    chosen = [name for name in names if audited(name, 0.25, 3)]
    assert chosen == [name for name in names if audited(name, 0.25, 3)]
    assert 180 < len(chosen) < 320
    assert not any(audited(name, 0.0, 3) for name in names)


@pytest.mark.parametrize("strategy", [PLAIN, replace(PLAIN, ladders=True)])
def test_nothing_is_pruned_without_looks(strategy):
    errors = {"read.p10": 0.02, "read.p50": 0.5, "read.p90": 0.1}
    assert not run(errors, strategy).decided
