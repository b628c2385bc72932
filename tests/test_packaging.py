"""What is shipped is what runs: the wheel holds every resource, and works away from its sources."""

import ast
import fnmatch
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import octans
import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SHIPPED = PROJECT["tool"]["setuptools"]
DISTRIBUTIONS = {"google": "protobuf", "sklearn": "scikit-learn", "pynvml": "nvidia-ml-py"}
"""Distributions named otherwise than what they install."""


def folder(package):
    """Where a package's files are: the root is the package `octans`."""
    return ROOT.joinpath(*package.split(".")[1:])


def resources():
    """Files of packages that are no Python, with the package they are in."""
    return [
        (package, path.name)
        for package in SHIPPED["packages"]
        if package != "octans"
        for path in sorted(folder(package).iterdir())
        if path.is_file() and path.suffix not in (".py", ".pyc")
    ]


def test_every_resource_is_package_data():
    data = SHIPPED["package-data"]
    left_out = [
        f"{package}: {name}"
        for package, name in resources()
        if not any(fnmatch.fnmatch(name, pattern) for pattern in data.get(package, ()))
    ]
    assert not left_out
    assert (ROOT / "py.typed").exists()
    assert "py.typed" in data["octans"]


def test_no_pattern_of_package_data_is_idle():
    for package, patterns in SHIPPED["package-data"].items():
        for pattern in patterns:
            assert list(folder(package).glob(pattern)), f"{package} ships no {pattern}"


def test_the_version_is_said_once():
    assert PROJECT["project"]["version"] == octans.__version__


def test_mypy_looks_at_every_module():
    looked_at = set(PROJECT["tool"]["mypy"]["packages"])
    folders = {f"octans.{package.split('.')[1]}" for package in SHIPPED["packages"][1:]}
    modules = {f"octans.{path.stem}" for path in ROOT.glob("*.py")}
    assert (folders | modules) - looked_at <= {"octans.__init__", "octans.__main__"}


def test_what_the_code_imports_is_declared():
    """In the core or in an extra; what is declared for later versions may be unused yet."""
    declared = {
        re.match(r"[A-Za-z0-9._-]+", text).group().lower()
        for texts in (
            PROJECT["project"]["dependencies"],
            *PROJECT["project"]["optional-dependencies"].values(),
        )
        for text in texts
    }
    used = {DISTRIBUTIONS.get(name, name) for name in imported()}
    assert "duckdb" in used
    assert not used - declared


def imported():
    """Top names of all absolute imports in the packages, the standard library apart."""
    found = set()
    for package in SHIPPED["packages"]:
        for path in folder(package).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    found |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    found.add((node.module or "").split(".")[0])
    return found - sys.stdlib_module_names


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of what git tracks or would track."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    call(sys.executable, "-m", "build", "--wheel", "--outdir", place, source, cwd=place)
    (built,) = place.glob("*.whl")
    return built


def call(*command, cwd, **environment):
    """Run a command that has to succeed; what it printed."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.mark.slow
def test_the_wheel_holds_the_packages_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for package, name in resources():
        assert "/".join([*package.split("."), name]) in names
    assert "octans/py.typed" in names
    tops = {name.split("/")[0] for name in names}
    assert tops == {"octans", f"octans-{octans.__version__}.dist-info"}
    inside = {name.split("/")[1] for name in names if name.startswith("octans/")}
    assert not inside & {"tests", "benchmarks", "docs", "build"}


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_environment(wheel, tmp_path):
    """Install it with its dependencies where nothing is, and run the demo from elsewhere."""
    environment = tmp_path / "venv"
    call(sys.executable, "-m", "venv", environment, cwd=tmp_path)
    programs = environment / "bin"
    torch = os.environ.get("TORCH", "torch==2.13.0")
    call(
        programs / "python", "-m", "pip", "install", "--quiet",
        "--no-compile",  # of all the modules installed, few are imported here
        "-c", ROOT / "constraints.txt", torch, f"{wheel}[demo]",
        cwd=tmp_path,
    )  # fmt: skip
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    alone = {"PYTHONPATH": "", "XDG_CACHE_HOME": str(tmp_path / "nobody")}
    octans_program = programs / "octans"
    said = call(octans_program, "--version", cwd=elsewhere, **alone)
    assert said == f"octans {octans.__version__}\n"
    assert "42" in call(octans_program, "-c", "SELECT 6 * 7 AS answer", cwd=elsewhere, **alone)
    told = tmp_path / "cheques"
    story = call(octans_program, "demo", "--quick", "--dir", told, cwd=elsewhere, **alone)
    assert "best everywhere" in story
    assert "Traceback" not in story
    assert (told / "cheques.duckdb").exists()
    assert not list(elsewhere.iterdir()), "the demo writes into its own folder only"
    assert not (tmp_path / "nobody" / "octans" / "cheques").exists()
