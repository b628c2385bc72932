"""The examples of `docs/language.md` run, in order, and do what the page says of them."""

import re
import sys
from pathlib import Path

import octans
import pytest
from octans.dsl.parser import parse, parse_one
from octans.dsl.printer import to_text
from octans.errors import OctansError

PAGE = Path(__file__).resolve().parent.parent / "docs" / "language.md"
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(kind):
    """The fenced blocks whose info string begins so: what follows of it, and the text."""
    for found in FENCE.finditer(PAGE.read_text(encoding="utf-8")):
        info, text = found[1].split(), found[2]
        if info[: len(kind)] == kind:
            yield info[len(kind) :], text


def statements(text):
    """The statements of a block as they stand in it."""
    return [text[s.span.start : s.span.end] for s in parse(text)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the page's Python, importable."""
    folder = tmp_path_factory.mktemp("language")
    (source,) = [text for _, text in blocks(["python"])]
    (folder / "reviews.py").write_text(source, encoding="utf-8")
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    sys.modules.pop("reviews", None)


def test_the_examples_run_in_order_and_fail_where_the_page_says(place, monkeypatch):
    monkeypatch.chdir(place)
    said, refused = [], []
    with octans.connect() as session:
        for info, text in blocks(["sql"]):
            match info:
                case []:
                    for statement in statements(text):
                        result = session.sql(statement)
                        said.append(result.text or result.fetchall())
                case ["error", code]:
                    with pytest.raises(OctansError) as caught:
                        session.sql(text).fetchall()
                    assert caught.value.code == code, text
                    assert caught.value.span is not None, text
                    refused.append(code)
        happy = session.sql("SELECT count(*) FROM 'happy.parquet'").fetchall()
    assert happy == [(800,)]
    assert len(said) > 40
    (hopeful,) = [text for text in said if isinstance(text, str) and "mood.hopeful" in text]
    assert "prior" in hopeful, "a number that rests on a prior is labelled"
    assert refused == ["OC0239", "OC0215", "OC0312", "OC0203"]


def test_what_only_a_later_backend_runs_can_be_declared(place):
    with octans.connect() as session:
        for _, text in blocks(["sql", "apart"]):
            for statement in statements(text):
                session.sql(statement)
        names = session.sql("SELECT variant FROM octans.variants ORDER BY ALL").fetchall()
    assert names == [("judge.local",), ("judge.served",)]


def test_what_comes_later_says_so():
    lines = [line for _, text in blocks(["sql", "later"]) for line in text.splitlines()]
    assert len(lines) == 6
    for line in lines:
        with pytest.raises(OctansError) as caught:
            parse_one(line)
        assert caught.value.code == "OC0106", line


def test_the_examples_print_and_read_back():
    for info, text in blocks(["sql"]):
        for statement in parse(text) if info != ["later"] else ():
            assert parse_one(to_text(statement)) == statement


def test_every_metric_and_setting_is_described():
    from octans.catalog_db.settings import DECLARED
    from octans.ir.slo import METRICS

    text = PAGE.read_text(encoding="utf-8")
    missing = [name for name in (*METRICS, *DECLARED) if f"`{name}`" not in text]
    assert not missing
