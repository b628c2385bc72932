"""The tour can be followed: files are written, statements run, errors are those shown."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import octans
import pytest
from octans.dsl.diagnostics import render
from octans.errors import OctansError

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "tour.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.slow


def test_the_tour_can_be_followed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    ran = []
    for info, text in FENCE.findall(PAGE):
        match info.split():
            case ["python", "session"]:
                subprocess.run([sys.executable, "-c", text], cwd=tmp_path, check=True)
            case ["python", name]:
                Path(name).write_text(text, encoding="utf-8")
                if name.startswith("make_"):
                    subprocess.run([sys.executable, name], cwd=tmp_path, check=True)
            case ["sql"]:
                with octans.connect("digits.duckdb") as session:
                    for result in session.run_script(text):
                        assert result.text or result.fetchall() is not None
                ran.append(text)
            case ["sql", "error", code]:
                with (
                    octans.connect("digits.duckdb") as session,
                    pytest.raises(OctansError) as caught,
                ):
                    session.sql(text).fetchall()
                assert caught.value.code == code
                assert render(caught.value).splitlines()[0] in PAGE, "the page shows another error"
                ran.append(code)
            case []:
                pass  # output, of another machine
    assert len(ran) == 10
    sys.modules.pop("digits", None)


def test_every_output_follows_what_gave_it():
    kinds = [info.split() for info, _ in FENCE.findall(PAGE)]
    for before, kind in itertools.pairwise(kinds):
        if kind == []:
            assert before[:1] == ["sql"]
