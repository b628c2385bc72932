"""Every kind of binding error, drawn: `tests/errors/oc02*.txt` hold a text, `----`, what is shown.

`pytest --update-plans` writes the files anew; read the difference.
"""

from pathlib import Path

import pytest
from binding_catalog import demo_catalog
from octans.dsl import ast
from octans.dsl.binder import bind_analyze, bind_select
from octans.dsl.binding.problems import CODES
from octans.dsl.diagnostics import render
from octans.dsl.parser import parse
from octans.errors import BindError, SyntaxProblem

FILES = sorted((Path(__file__).parent / "errors").glob("oc02*.txt"))


def bind_all(text, catalog):
    """Bind every statement of a script; declarations are kept."""
    for statement in parse(text):
        match statement:
            case ast.Select():
                bind_select(statement, catalog)
            case ast.Analyze():
                bind_analyze(statement, catalog)
            case _:
                catalog.keep(statement)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_error_is_drawn_as_recorded(path, update_plans):
    """Message, place, label and help stay as they were read and found good."""
    text, _, recorded = path.read_text(encoding="utf-8").partition("\n----\n")
    with pytest.raises(BindError) as caught:
        bind_all(text, demo_catalog())
    shown = render(caught.value.in_source(text, "query.sql"))
    if update_plans:
        path.write_text(f"{text}\n----\n{shown}\n", encoding="utf-8")
        return
    assert shown + "\n" == recorded
    assert shown.startswith(f"error[{path.stem[:6].upper()}]")


def test_every_code_has_a_snapshot():
    """A new code without a recorded example fails here."""
    assert {path.stem[:6].upper() for path in FILES} == set(CODES)


@pytest.mark.parametrize("chain", ["+".join(["id"] * 600), " OR ".join(["double(id) = 1"] * 600)])
def test_a_long_chain_of_operators_is_a_typed_error(chain):
    """Binding a tree recurses; Python's own RecursionError never reaches a user."""
    with pytest.raises(SyntaxProblem) as caught:
        bind_all(f"SELECT double(id), {chain} FROM numbers", demo_catalog())
    assert caught.value.code == "OC0109"
