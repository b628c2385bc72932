"""Statements through a whole session, as they were read and found good.

opt      the rewritten plan and the physical one
explain  what EXPLAIN prints, without the times of this run
error    the error as it is drawn
exec     the rows, or the message, of the last statement
"""

import shutil

import octans
import pytest
import session_world
from octans.dsl.diagnostics import render
from octans.dsl.parser import parse
from octans.errors import OctansError
from octans.planner.format import format_plan
from octans.planning import Planned
from session_world import masked
from snapshots import check, read_cases

CASES = read_cases("opt", "explain", "error", "exec", session=True)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """The world in a file, made once."""
    path = tmp_path_factory.mktemp("world") / "world.duckdb"
    session_world.connect(path).close()
    return path


@pytest.fixture(scope="module")
def shared(catalog, tmp_path_factory):
    """For cases of one statement that changes nothing."""
    path = tmp_path_factory.mktemp("shared") / "world.duckdb"
    shutil.copy(catalog, path)
    with octans.connect(path) as session:
        session.sql("SET progress = false")
        yield session_world.settled(session)


@pytest.fixture
def own(catalog, tmp_path):
    """For cases that change something first."""
    path = tmp_path / "world.duckdb"
    shutil.copy(catalog, path)
    with octans.connect(path, base_dir=tmp_path) as session:
        session.sql("SET progress = false")
        yield session_world.settled(session)


def planned(session, text):
    """The last statement's plans: rewritten, and physical."""
    *before, last = parse(text)
    if before:
        session.sql(text[: last.span.start])
    found = Planned.of(session, last, octans.dsl.ast.ExplainOptions()).query
    return f"{format_plan(found.logical)}\n--\n{format_plan(found.physical.root)}"


def rows(result):
    """A result as lines: its message, or its columns and rows."""
    if not result.has_rows:
        return result.message
    if result.text is not None:
        return masked(result.text)
    head = " | ".join(f"{n} {t}" for n, t in zip(result.columns, result.types, strict=True))
    lines = (" | ".join("NULL" if v is None else str(v) for v in row) for row in result.fetchall())
    failed = [f"{result.failed_rows} failed"] if result.failed_rows else []
    return masked("\n".join([head, *lines, *failed]))


def answer(case, session):
    match case.command:
        case "opt":
            return planned(session, case.text)
        case "explain" | "exec":
            return rows(session.sql(case.text))
        case _:
            with pytest.raises(OctansError) as caught:
                session.sql(case.text, name="query.sql").arrow()
            return masked(render(caught.value))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_statement_answers_as_agreed(case, request, update_plans):
    alone = len(parse_or_one(case.text)) == 1 and case.command != "exec"
    session = request.getfixturevalue("shared" if alone else "own")
    output = answer(case, session)
    for word in case.options.get("expect", ()):
        assert word in output
    for word in case.options.get("expect-not", ()):
        assert word not in output
    check(case, output, update_plans)


def parse_or_one(text):
    """The statements; a text that does not parse is one."""
    try:
        return parse(text)
    except OctansError:
        return (text,)
