"""A data set into a catalog: check the files, declare, insert.

Everything goes through statements a user could type. What is in the catalog already stays as it
is: a variant or device declared before (with a real backend, with a price) keeps its declaration,
and a number that stands there and is not stale is not inserted again, so importing twice changes
nothing.

Error codes: OC0450 a folder or file is not there; OC0451 a file lacks columns; OC0452 the catalog
has another model of that name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...dsl import ast
from ...dsl.binder import bind_definition
from ...dsl.parser import parse_one
from ...errors import RunError
from ...ir.models import Model
from .dataset import DataSet, Number, Relation, csv, knobs_of, name_of

if TYPE_CHECKING:
    from ...session import Session

Tell = Callable[[str], None]

_COLUMNS = (
    *("subject", "variant", "knobs", "device", "batch", "metric", "statistic", "value"),
    *("ci_low", "ci_high", "n", "n_failed", "source"),
)
_KEY = ("subject", "variant", "knobs", "device", "batch", "metric", "statistic")
_SAME = 1e-9
"""Relative difference below which two numbers are one."""


@dataclass(frozen=True)
class Imported:
    """What an import added to the catalog; `unpriced` names devices without a published price."""

    models: int
    variants: int
    devices: int
    observations: int
    unpriced: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.models} models, {self.variants} variants, {self.devices} devices and "
            f"{self.observations} observations added"
        )


def load(session: Session, data: DataSet, folder: Path, tell: Tell) -> Imported:
    """Import one data set from `folder`, which holds the folders of all.

    Raises:
        RunError: OC0450, OC0451, OC0452.
        OctansError: a statement was refused.
    """
    tell(f"{data.name}: checking files")
    check(session, data, folder)
    models = sum(_declare_model(session, text) for text in data.models)
    devices, unpriced = _declare_devices(session, data, folder)
    variants = observations = 0
    for relation in data.relations:
        text = _sql(relation.rows, data, folder)
        found = _rows(session, _variants(relation, text))
        for number, row in enumerate(found):
            if number % 100 == 0:
                tell(f"{data.name}: variants {number} of {len(found)} of {row['model']}")
            variants += _declare_variant(session, row, relation.knobs)
        tell(f"{data.name}: observations")
        observations += _insert(session, relation, text)
    return Imported(models, variants, devices, observations, unpriced)


def check(session: Session, data: DataSet, folder: Path) -> None:
    """Are the files there, with the columns they had when the loader was written?

    Raises:
        RunError: OC0450, OC0451.
    """
    for path, needed in {**data.files, **data.optional}.items():
        if not (folder / path).is_file():
            if path not in data.files:
                continue
            raise RunError(
                f"{data.name} needs {path}, which is not in {folder}",
                code="OC0450",
                hint=f"it is published at {data.origin}; give the folder that holds {data.name}/",
            )
        there = _columns(session, path, folder)
        missing = [name for name in needed if name.lower() not in there]
        if missing:
            raise RunError(
                f"{path} lacks the columns {', '.join(missing)}",
                code="OC0451",
                notes=(f"it has {', '.join(there) or 'none'}",),
                hint=f"it was published otherwise at {data.origin}, or is not this file",
            )


def _columns(session: Session, path: str, folder: Path) -> list[str]:
    """The columns of a file, in lower case."""
    if path.endswith(".json"):
        rows = "(SELECT unnest(configurations, recursive := true) FROM read_json('{folder}/PATH'))"
        text = rows.replace("PATH", path)
        with_list = session.sql(
            _placed(f"DESCRIBE SELECT * FROM read_json('{{folder}}/{path}')", folder)
        )
        if "configurations" not in [row[0] for row in with_list.fetchall()]:
            return []
    else:
        text = csv(path)
    described = session.sql(_placed(f"DESCRIBE SELECT * FROM {text}", folder)).fetchall()
    return [str(row[0]).lower() for row in described]


def _placed(text: str, folder: Path) -> str:
    """SQL with the folder's path in place."""
    return text.replace("{folder}", str(folder).replace("'", "''"))


def _sql(text: str, data: DataSet, folder: Path) -> str:
    """SQL over the folder's files; an optional file that is not there is an empty one."""
    for path, columns in data.optional.items():
        if not (folder / path).is_file():
            empty = ", ".join(f'NULL AS "{name}"' for name in columns)
            text = text.replace(csv(path), f"(SELECT {empty} WHERE false)")
    return _placed(text, folder)


def _rows(session: Session, text: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = session.sql(text).arrow().to_pylist()
    return rows


def _declare_model(session: Session, text: str) -> bool:
    """Create a model; one that is there already must be the same."""
    statement = parse_one(text)
    assert isinstance(statement, ast.CreateModel)
    wanted = bind_definition(statement, session.catalog)
    assert isinstance(wanted, Model)
    there = session.catalog.model(wanted.name)
    if there is None:
        session.sql(text)
        return True
    if there.replace(version=wanted.version) != wanted:
        raise RunError(
            f"the catalog has another model {wanted.name}",
            code="OC0452",
            notes=(f"the measurements are of: {text}",),
            hint="import into a catalog of its own",
        )
    return False


def _declare_devices(session: Session, data: DataSet, folder: Path) -> tuple[int, tuple[str, ...]]:
    """Create the devices that are not there; how many, and which have no price."""
    known = {device.name.lower() for device in session.catalog.devices()}
    unpriced, added = [], 0
    for row in _rows(session, f"FROM ({_sql(data.devices, data, folder)}) ORDER BY name"):
        if row["name"] in known:
            continue
        items = [f"KIND {row['kind']}", "COUNT 1"]
        if row["memory_gb"] is not None:
            items.append(f"MEMORY {row['memory_gb']:g} GB")
        if row["usd_per_hour"] is None:
            unpriced.append(row["name"])
        else:
            items.append(f"PRICE {row['usd_per_hour']} USD PER HOUR")
        session.sql(f"CREATE DEVICE {row['name']} ({', '.join(items)})")
        added += 1
    return added, tuple(unpriced)


def _variants(relation: Relation, rows: str) -> str:
    """SQL of the variants of a relation with the values of their knobs."""
    domains = [
        f"list_sort(list(DISTINCT {knob}) FILTER ({knob} IS NOT NULL)) AS {knob}"
        for knob in relation.knobs
    ]
    chosen = ", ".join(["model", "origin", f"{name_of('origin')} AS name", *domains])
    return f"SELECT {chosen} FROM ({rows}) GROUP BY model, origin ORDER BY model, origin"


def _declare_variant(session: Session, row: Mapping[str, Any], knobs: Iterable[str]) -> bool:
    """Create a variant that is not there."""
    if session.catalog.variant(f"{row['model']}.{row['name']}") is not None:
        return False
    origin = row["origin"].replace("'", "''")
    domains = ", ".join(f"{knob} IN ({', '.join(map(str, row[knob]))})" for knob in sorted(knobs))
    session.sql(
        f"CREATE VARIANT {row['model']}.{row['name']} "
        f"USING python('octans.examples.measured.elsewhere:model', origin := '{origin}')"
        + (f" KNOBS ({domains})" if domains else "")
    )
    return True


def _insert(session: Session, relation: Relation, rows: str) -> int:
    """Insert the numbers that are not in the catalog; how many."""
    numbers = " UNION ".join(_number(number, relation) for number in relation.numbers)
    same = " AND ".join(f"o.{name} IS NOT DISTINCT FROM s.{name}" for name in _KEY)
    text = f"""
    INSERT INTO octans.observations ({", ".join(_COLUMNS)})
    WITH published AS ({rows}), numbers AS ({numbers})
    SELECT {", ".join(f"o.{name}" for name in _COLUMNS)}
    FROM numbers AS o LEFT JOIN octans.statistics AS s
        ON {same} AND s.state IN ('fresh', 'unused') AND s.n = o.n AND s.n_failed = o.n_failed
        AND abs(s.value - o.value) <= {_SAME} * abs(o.value)
    WHERE o.value IS NOT NULL AND s.subject IS NULL
    ORDER BY o.subject, o.variant, o.knobs, o.device, o.metric, o.statistic
    """
    return int(session.sql(text).fetchall()[0][0])


def _number(number: Number, relation: Relation) -> str:
    """SQL of one number of every row, in the columns of an observation."""
    on_device, on_batch = number.scope != "answer", number.scope == "call"
    parts = {
        "subject": "model",
        "variant": f"model || '.' || {name_of('origin')}",
        "knobs": knobs_of(relation.knobs),
        "device": "device" if on_device else "NULL::VARCHAR",
        "batch": "batch" if on_batch else "NULL::INTEGER",
        "metric": f"'{number.metric}'",
        "statistic": f"'{number.statistic}'",
        "value": f"({number.value})::DOUBLE",
        "ci_low": f"({number.low})::DOUBLE",
        "ci_high": f"({number.high})::DOUBLE",
        "n": f"({number.n})::BIGINT",
        "n_failed": f"({number.failed})::BIGINT",
        "source": f"'{number.source}'",
    }
    columns = ", ".join(f"{text} AS {name}" for name, text in parts.items())
    return f"SELECT {columns} FROM published"
