"""What the options of a step occupy of devices: bytes of memory, slot-seconds, wall time.

Entries are as in `search.table.StageTable.rows`: dim → `[g][option]`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..cost.model import Call
from ..cost.stages import Taken
from ..ir.estimates import Estimate
from ..ir.models import Device
from .objectives import FIRST, Needs


def memory(
    calls: Sequence[Call], devices: Sequence[Device], blocks: int, *, asked: bool
) -> dict[str, tuple[tuple[float, ...], ...]]:
    """Bytes by device: every variant placed on a device is loaded on each of its slots."""
    found = {}
    for device in devices:
        if device.memory_bytes is None and not asked:
            continue
        entries = tuple(
            [
                call.memory.value
                if call.memory is not None and call.device.name == device.name
                else 0.0
                for call in calls
            ]
        )
        if any(entries):
            found[f"memory:{device.name}"] = (entries,) * blocks
    return found


def pace(
    place: int,
    stages: int,
    calls: Sequence[Call],
    devices: Sequence[Device],
    taken: Sequence[Sequence[Taken]],
    needs: Needs,
    rows: Estimate | None,
) -> dict[str, tuple[tuple[float, ...], ...]]:
    """Slot-seconds per row by device (÷ slots) and of each stage alone; wall from them.

    A stage calls one batch at a time, so it is no faster than its own slot-seconds; a device
    is no faster than the sum on it over its slots. Wall = loading + rows × the slowest, and no less
    than the way of the first call of every stage through the plan, loading on it (`FIRST`).
    """
    found: dict[str, tuple[tuple[float, ...], ...]] = {}
    busy = [[took.busy for took in entries] for entries in taken]
    shares: dict[str, list[list[float]]] = {}
    for device in devices:
        shares[device.name] = [
            [
                b / device.count if call.device.name == device.name else 0.0
                for b, call in zip(entries, calls, strict=True)
            ]
            for entries in busy
        ]
    alone = range(stages) if any(d.count > 1 for d in devices) else ()
    if needs.pace:
        for name, blocks in shares.items():
            found[f"busy:{name}"] = tuple(tuple(entries) for entries in blocks)
        if alone:
            found[f"busy@{place}"] = tuple(tuple(entries) for entries in busy)
    if needs.wall and rows is not None:
        count = rows.value
        loads = [call.load.value if call.load is not None else 0.0 for call in calls]

        def wall(blocks: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
            return tuple(
                tuple([count * b + load for b, load in zip(entries, loads, strict=True)])
                for entries in blocks
            )

        idle = [[0.0] * len(calls)] * len(busy)
        for name, blocks in shares.items():
            found[f"wall:{name}"] = wall(blocks)
        found[FIRST] = tuple(
            tuple([took.first + load for took, load in zip(entries, loads, strict=True)])
            for entries in taken
        )
        for other in alone:
            found[f"wall@{other}"] = wall(busy if other == place else idle)
    return found
