"""What ANALYZE answers: a row for every choice it measured, and what is worth knowing besides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .dsl.binder import BoundAnalyze
from .result import Result

if TYPE_CHECKING:
    import pyarrow as pa

    from .stats.profile import ProfileResult


def summary(bound: BoundAnalyze, table: pa.Table, result: ProfileResult) -> Result:
    """What was measured, a row a choice: its best batch size, its quality, why it was stopped.

    What never answered has no batch size.
    """
    import pyarrow as pa

    best: dict[tuple[str, str, str, str], tuple[float, int] | None] = {}
    quality, useless = {}, set()
    for seen in result.observations:
        key = (seen.subject, seen.variant or "", seen.knobs)
        at = (*key, seen.device or "")
        if seen.metric == "latency" and seen.statistic == "mean" and seen.batch:
            per_element = (seen.value / seen.batch, seen.batch)
            best[at] = min(best.get(at) or per_element, per_element)
        elif seen.metric == "failure":
            best.setdefault(at, None)
            if seen.value == 1.0:
                useless.add(at)
        elif seen.metric == "quality" and seen.given is None:
            quality[key] = seen
    stopped = {
        (done.step, done.variant, done.knobs): f"after {done.rows} rows: {done.reason}"
        for done in result.decided
    }
    rows: list[dict[str, object]] = []
    for at, fastest in best.items():
        subject, variant, knobs, device = at
        seen_quality = quality.get((subject, variant, knobs))
        rows.append(
            {
                "step": subject,
                "variant": variant,
                "knobs": knobs,
                "device": device,
                "best_batch": None if fastest is None else fastest[1],
                "us_per_element": None if fastest is None else round(fastest[0] * 1e6, 2),
                "quality": None if seen_quality is None else round(seen_quality.value, 4),
                "low": _rounded(None if seen_quality is None else seen_quality.low),
                "high": _rounded(None if seen_quality is None else seen_quality.high),
                "n": None if seen_quality is None else seen_quality.n,
                "stopped": stopped.get(
                    (subject, variant, knobs), "it never answered" if at in useless else None
                ),
            }
        )
    schema = pa.schema(
        [(name, pa.string()) for name in ("step", "variant", "knobs", "device")]
        + [("best_batch", pa.int64()), ("us_per_element", pa.float64())]
        + [(name, pa.float64()) for name in ("quality", "low", "high")]
        + [("n", pa.int64()), ("stopped", pa.string())]
    )
    return Result(pa.Table.from_pylist(rows, schema), message=_message(bound, table, result))


def beyond(limit_usd: float | None, usd: float) -> Iterator[str]:
    """What to say of a bound in USD that was passed."""
    if limit_usd is not None and usd > limit_usd:
        yield (
            f"{usd - limit_usd:.3g} USD more than the budget of {limit_usd:g} USD were "
            "spent: what is running is never broken off"
        )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _message(bound: BoundAnalyze, table: pa.Table, result: ProfileResult) -> str:
    """One line for the whole, and one for everything worth knowing."""
    roles = table.column("__role").to_pylist()
    building = roles.count("building")
    lines = [
        f"analyzed {bound.kind} {bound.subject}: {roles.count('search')} rows searched, "
        f"{roles.count('held_back')} held back, {len(result.observations)} observations, "
        f"{result.seconds:.1f} s, {result.usd:.6f} USD"
    ]
    if building:
        lines.append(f"note: {building} rows entered a derived variant and measure nothing")
    left_out = f"left out: {', '.join(result.left_out)}"
    if result.stopped is not None:
        lines.append(f"stopped: {result.stopped}; {left_out}")
    elif result.left_out:
        lines.append(left_out)
    if result.decided:
        rows = roles.count("search")
        lines.append(
            f"{len(result.decided)} choices were decided early; {result.saved:.0%} of the rows of "
            f"all choices and plans were not needed ({rows} each)"
        )
    return "\n".join([*lines, *(f"note: {note}" for note in result.notes)])
