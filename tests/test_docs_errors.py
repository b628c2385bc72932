"""`docs/errors.md` lists every code the source raises, once, and none that it does not."""

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from octans import errors

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
CODE = re.compile(r"OC\d{4}\b")
FOLDERS = ("ir", "dsl", "catalog_db", "stats", "cost", "planner", "executor", "examples")
SOURCES = [
    *ROOT.glob("*.py"),
    *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")),
]
KINDS = {
    "OC01": errors.SyntaxProblem,
    "OC02": errors.BindError,
    "OC03": errors.PlanError,
    "OC04": errors.RunError,
    "OC05": errors.CatalogError,
    "OC09": errors.InternalError,
}


@cache
def trees():
    """The syntax tree of every source."""
    return {
        str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES
    }


def raised():
    """Every code that stands in the source as a string of its own, and where."""
    found = {}
    for where, tree in trees().items():
        for node in ast.walk(tree):
            value = node.value if isinstance(node, ast.Constant) else None
            if isinstance(value, str) and CODE.fullmatch(value):
                found.setdefault(value, f"{where}:{node.lineno}")
    return found


def listed():
    """The codes of the page's tables, in order."""
    return re.findall(r"^\| (OC\d{4}) \|", PAGE, flags=re.MULTILINE)


def test_every_code_is_listed():
    missing = {code: where for code, where in raised().items() if code not in listed()}
    assert not missing


def test_no_code_is_listed_in_vain():
    assert not set(listed()) - set(raised())


def test_no_code_is_listed_twice_and_all_are_in_order():
    twice = [code for code, times in Counter(listed()).items() if times > 1]
    assert not twice
    assert listed() == sorted(listed())


@pytest.mark.parametrize(("prefix", "kind"), KINDS.items())
def test_the_page_and_the_tree_of_errors_agree_on_kinds(prefix, kind):
    assert re.search(rf"^## {prefix}: .* — `{kind.__name__}`$", PAGE, flags=re.MULTILINE)
    assert f"{prefix}xx" in (errors.__doc__ or "")


def test_a_code_is_raised_by_its_own_kind_only():
    """A call that makes an error of one kind carries no code of another."""
    wrong = []
    kinds = {kind.__name__: prefix for prefix, kind in KINDS.items()}
    for where, tree in trees().items():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            for keyword in node.keywords:
                if keyword.arg == "code" and isinstance(keyword.value, ast.Constant):
                    prefix = kinds.get(node.func.id)
                    if prefix and not str(keyword.value.value).startswith(prefix):
                        wrong.append(f"{where}:{node.lineno}")
    assert not wrong
