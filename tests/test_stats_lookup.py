"""`Statistics`: newest first, steps before models, priors only on request, no heavy imports."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from octans.ir.models import Prior, Variant
from octans.stats.observation import Observation, assignment_text
from octans.stats.statistics import Statistics

AT = datetime(2026, 1, 1, tzinfo=UTC)


def row(subject, metric, statistic, value, **more):
    settings = {"n": 100, "at": AT, "low": value * 0.9, "high": value * 1.1} | more
    return Observation(subject, metric, statistic, value, **settings)


def curve(subject, seconds, **more):
    made = {"variant": "m.v", "device": "cpu"} | more
    return [
        row(subject, "latency", "mean", seconds * batch, batch=batch, **made) for batch in (4, 1, 2)
    ]


def test_the_newest_observation_counts():
    old = row("m", "quality", "mean", 0.5, variant="m.v")
    new = row("m", "quality", "mean", 0.6, variant="m.v", at=AT + timedelta(days=1))
    for rows in ([old, new], [new, old]):
        assert Statistics(rows).quality("m", "m.v", "").value == 0.6


def test_steps_fall_back_to_their_model_but_never_mix_curves():
    found = Statistics([*curve("m", 1.0), *curve("p.s", 2.0)[:1]])
    assert found.batches("p.s", "m.v", "", "cpu") == (4,)
    assert found.latency("p.s", "m.v", "", "cpu", 2, "mean") is None
    assert found.latency("p.s", "m.v", "", "cpu", 4, "mean").value == 8.0
    assert found.batches("p.other", "m.v", "", "cpu") == (1, 2, 4)
    assert found.latency("p.other", "m.v", "", "cpu", 2, "mean").value == 2.0
    assert found.batches("p.other", "m.v", "", "gpu") == ()


def test_conditional_quality_and_rate_fall_back_to_the_unconditional():
    given = ("p.a", "a.x", "k := 1")
    text = assignment_text({"p.a": ("a.x", "k := 1")})
    found = Statistics(
        [
            row("p.s", "quality", "mean", 0.9, variant="m.v"),
            row("p.s", "quality", "mean", 0.4, variant="m.v", given="p.a", assignment=text),
            row("p.s", "rate", "share", 0.3),
            row("p.s", "rate", "share", 0.1, variant="a.x", knobs="k := 1", given="p.a"),
        ]
    )
    assert found.quality("p.s", "m.v", "", given).value == 0.4
    assert found.quality("p.s", "m.v", "", ("p.a", "a.y", "")).value == 0.9
    assert found.rate("p.s", given).value == 0.1
    assert found.rate("p.s", ("p.a", "a.y", "")).value == 0.3
    assert found.rate("p.s").value == 0.3
    assert found.rate("p.t") is None


def test_lengths_are_of_one_measurement():
    later = AT + timedelta(hours=1)
    found = Statistics(
        [
            row("p.s", "length", "pmf(3)", 0.5, run=1),
            row("p.s", "length", "pmf(9)", 0.5, run=1),
            row("p.s", "length", "pmf(3)", 0.25, run=2, at=later, n=60),
            row("p.s", "length", "pmf(4)", 0.75, run=2, at=later, n=60),
        ]
    )
    assert found.lengths("p.s") == ((3, 0.25), (4, 0.75))
    assert found.length_n("p.s") == 60
    assert found.lengths("p.t") is None


def test_end_to_end_is_by_assignment():
    found = Statistics(
        [
            row("p", "accuracy", "mean", 0.9, assignment="p.s=m.v()"),
            row("p", "latency_p95", "mean", 0.2, assignment="p.s=m.v()"),
            row("p", "accuracy", "mean", 0.8, assignment="p.s=m.w()"),
        ]
    )
    ends = found.end_to_end("p")
    assert ends["p.s=m.v()"]["accuracy"].value == 0.9
    assert ends["p.s=m.v()"]["latency_p95"].value == 0.2
    assert set(ends) == {"p.s=m.v()", "p.s=m.w()"}
    assert found.end_to_end("q") == {}


def test_imported_numbers_without_intervals_are_not_certain():
    bare = {"low": None, "high": None, "variant": "m.v"}
    found = Statistics(
        [
            row("m", "quality", "mean", 1.0, **bare),
            row("m", "memory", "peak", 10.0, device="cpu", **bare),
        ]
    )
    quality = found.quality("m", "m.v", "")
    assert quality.low < 0.97
    assert quality.high == 1.0
    memory = found.memory("m", "m.v", "", "cpu")
    assert (memory.low, memory.high) == (5.0, 20.0)


def test_priors_only_on_request_and_labelled():
    variant = Variant("m", "v", None, priors=(Prior("latency", 0.01), Prior("accuracy", 0.9)))
    assert Statistics([], variants=[variant]).quality("m", "m.v", "") is None
    assert Statistics([], variants=[variant]).batches("m", "m.v", "", "cpu") == ()
    found = Statistics([], variants=[variant], allow_priors=True)
    quality = found.quality("p.s", "m.v", "")
    assert (quality.value, quality.low, quality.high) == (0.9, 0.0, 1.0)
    assert (quality.n, quality.source) == (0, "prior")
    assert found.batches("p.s", "m.v", "", "cpu") == (1,)
    assert found.latency("p.s", "m.v", "", "cpu", 1, "p95").source == "prior"
    measured = Statistics(curve("m", 1.0), variants=[variant], allow_priors=True)
    assert measured.latency("p.s", "m.v", "", "cpu", 1, "mean").source == "measured"


def test_failure_and_tokens():
    made = {"variant": "m.v"}
    found = Statistics(
        [
            row("m", "failure", "share", 0.1, device="gpu", **made),
            row("m", "tokens_in", "mean", 12.0, **made),
            row("m", "tokens_out", "mean", 3.0, **made),
        ]
    )
    assert found.failure("p.s", "m.v", "", "cpu").value == 0.1, "of another device, for want of it"
    read, written = found.tokens("p.s", "m.v", "")
    assert (read.value, written.value) == (12.0, 3.0)
    assert found.tokens("p.s", "m.w", "") is None


def test_assignment_text_is_canonical():
    text = assignment_text({"p.b": ("m.v", ""), "p.a": ("n.w", "k := 1")})
    assert text == "p.a=n.w(k := 1);p.b=m.v()"


@pytest.mark.parametrize("module", ["statistics", "promise", "intervals"])
def test_explain_s_way_loads_no_numerical_library(module):
    program = (
        f"import sys, octans.stats.{module} as m\n"
        "if hasattr(m, 'required_margin'): m.required_margin(500, 0.95, 0.025)\n"
        "print([n for n in ('numpy', 'scipy', 'pyarrow', 'pandas') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
