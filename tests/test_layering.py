"""The house keeps its shape: imports run one way, heavy libraries stay out, files stay small."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("ir", "dsl", "catalog_db", "stats", "cost", "planner", "executor")
MAY_IMPORT = {
    "ir": {"ir"},
    "dsl": {"dsl", "ir"},
    "stats": {"stats", "ir"},
    "cost": {"cost", "stats", "ir"},
    "planner": {"planner", "cost", "stats", "ir"},
    "catalog_db": {"catalog_db", "stats", "ir"},
    "executor": {"executor", "stats", "ir"},
}
HEAVY = {
    "torch", "botorch", "gpytorch", "ortools", "networkx", "sklearn", "skops", "pandas",
    "onnxruntime", "onnx", "skl2onnx", "scipy", "threadpoolctl", "rich", "ray", "vllm", "polars",
    "matplotlib",
}  # fmt: skip
LINES = 450
WORDS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
BROAD = {"Exception", "BaseException"}
AT_THE_BORDER = "noqa: BLE001"
"""A broad except stands only where foreign code is called, and says why behind this mark."""

MODULES = sorted(
    [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")] + list(ROOT.glob("*.py"))
)
PACKAGED = [*MODULES, *sorted((ROOT / "examples").rglob("*.py"))]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), name(path))


def folder(path: Path) -> str | None:
    """The package folder a module is in; None for the root's modules."""
    first = path.relative_to(ROOT).parts[0]
    return first if first in FOLDERS else None


def imported(path: Path) -> set[str]:
    """First parts of what a module imports from Octans, whether run or only type-checked."""
    found: set[str] = set()
    depth = len(path.relative_to(ROOT).parts)
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.level:
            # level 1 is the module's own package, level `depth` the root
            inside = list(path.relative_to(ROOT).parts[: depth - node.level])
            inside += node.module.split(".") if node.module else []
            found |= {inside[0]} if inside else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= _absolute([node.module or ""])
        elif isinstance(node, ast.Import):
            found |= _absolute([alias.name for alias in node.names])
    return found


def _absolute(modules: list[str]) -> set[str]:
    return {m.split(".")[1] for m in modules if m.startswith("octans.")}


def at_module_level(node: ast.AST) -> list[ast.Import | ast.ImportFrom]:
    """Imports that run when the module is imported; those for type checking do not."""
    found: list[ast.Import | ast.ImportFrom] = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import | ast.ImportFrom):
            found.append(child)
        else:
            found += at_module_level(child)
    return found


def top_names(node: ast.Import | ast.ImportFrom) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    return set() if node.level else {(node.module or "").split(".")[0]}


def test_imports_run_one_way():
    roots = {path.stem for path in ROOT.glob("*.py")}
    offences = [
        f"{name(path)} imports {other}"
        for path in MODULES
        if folder(path)
        for other in imported(path) & ({*FOLDERS} | roots)
        if other not in MAY_IMPORT[folder(path)] | {"errors"}
    ]
    assert not offences


def test_our_own_folders_are_imported_relatively():
    offences = [
        f"{name(path)}:{node.lineno} imports {ours} absolutely"
        for path in MODULES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Import | ast.ImportFrom)
        and (ours := top_names(node) & {"octans", *FOLDERS})
    ]
    assert not offences


def test_heavy_libraries_are_imported_where_they_are_used():
    offences = [
        f"{name(path)}:{node.lineno} imports {heavy} for everybody"
        for path in MODULES
        for node in at_module_level(tree(path))
        if (heavy := top_names(node) & HEAVY)
    ]
    assert not offences


def test_no_folder_of_ours_is_named_like_a_standard_module():
    assert not set(FOLDERS) & sys.stdlib_module_names


def test_modules_stay_small_enough_to_hold_in_mind():
    counts = {name(path): len(lines(path)) for path in PACKAGED}
    offences = [f"{path} has {n} lines; split it" for path, n in counts.items() if n > LINES]
    assert not offences


def test_nothing_is_left_for_later():
    offences = [
        f"{name(path)}:{number}: {line.strip()}"
        for path in PACKAGED
        for number, line in enumerate(lines(path), 1)
        if WORDS.search(line)
    ]
    offences += [
        f"{name(path)}:{node.lineno} is a stub"
        for path in PACKAGED
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Raise)
        and node.exc is not None
        and ast.unparse(node.exc).split("(")[0] == "NotImplementedError"
    ]
    assert not offences


def test_errors_are_caught_by_their_kind():
    offences = [
        f"{name(path)}:{node.lineno} swallows {caught}"
        for path in PACKAGED
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler)
        and (caught := caught_broadly(node))
        and AT_THE_BORDER not in lines(path)[node.lineno - 1]
    ]
    assert not offences


def test_every_package_is_listed_for_the_wheel():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = set(project["tool"]["setuptools"]["packages"])
    found = {
        "octans." + ".".join(path.parent.relative_to(ROOT).parts)
        for area in (*FOLDERS, "examples")
        for path in (ROOT / area).rglob("__init__.py")
    }
    assert found | {"octans"} == listed


def test_every_folder_says_what_it_owns():
    packages = [path for area in FOLDERS for path in (ROOT / area).rglob("__init__.py")]
    assert not [name(path) for path in packages if not ast.get_docstring(tree(path))]


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import torch", {"torch"}),
        ("class A:\n    import scipy.stats", {"scipy"}),
        ("try:\n    from pandas import x\nexcept ImportError:\n    pass", {"pandas"}),
        ("def f():\n    import torch", set()),
        ("if TYPE_CHECKING:\n    import torch", set()),
    ],
)
def test_the_check_for_heavy_imports_sees_them(code, found):
    seen = [top_names(node) for node in at_module_level(ast.parse(code))]
    assert set().union(*seen) & HEAVY == found


@pytest.mark.parametrize(
    ("handler", "broad"),
    [
        ("except Exception: pass", True),
        ("except: pass", True),
        ("except (ValueError, BaseException): x = 1", True),
        ("except ValueError: pass", False),
        ("except BaseException:\n    clean()\n    raise", False),
        ("except Exception as e:\n    raise RunError() from e", False),
    ],
)
def test_the_check_for_broad_excepts_sees_them(handler, broad):
    (node,) = (
        n for n in ast.walk(ast.parse(f"try: f()\n{handler}")) if isinstance(n, ast.ExceptHandler)
    )
    assert bool(caught_broadly(node)) == broad


def caught_broadly(handler: ast.ExceptHandler) -> set[str]:
    """The broad kinds it swallows; cleaning up and raising again swallows nothing."""
    if isinstance(handler.body[-1], ast.Raise):
        return set()
    match handler.type:
        case None:
            return {"BaseException"}
        case ast.Tuple(elts=parts):
            return {ast.unparse(part) for part in parts} & BROAD
        case kind:
            return {ast.unparse(kind)} & BROAD
