"""Every kind of syntax error, drawn: `tests/errors/*.txt` hold a text, `----`, and what is shown.

`pytest --update-plans` (or OCTANS_UPDATE=1) writes the files anew; read the difference.
"""

import os
from pathlib import Path

import pytest
from octans.dsl.advice import parse_advice
from octans.dsl.diagnostics import render
from octans.dsl.parser import parse, parse_one
from octans.dsl.problems import CODES
from octans.errors import OctansError

FILES = sorted((Path(__file__).parent / "errors").glob("oc01*.txt"))
READERS = {"oc0112": lambda text: parse_advice(text, 0), "oc0114": parse_one}


def drawn(path, text):
    """The error of a text, as the command line shows it."""
    reader = READERS.get(path.stem.split("_")[0], parse)
    with pytest.raises(OctansError) as caught:
        reader(text)
    return render(caught.value.in_source(text, "query.sql"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_error_is_drawn_as_recorded(path, request):
    """Message, place, label and help stay as they were read and found good."""
    text, _, recorded = path.read_text(encoding="utf-8").partition("\n----\n")
    shown = drawn(path, text)
    if request.config.getoption("--update-plans", False) or os.environ.get("OCTANS_UPDATE"):
        path.write_text(f"{text}\n----\n{shown}\n", encoding="utf-8")
        return
    assert shown + "\n" == recorded
    assert shown.startswith(f"error[{path.stem[:6].upper()}]")


def test_every_code_has_a_snapshot():
    """A new code without a recorded example fails here."""
    assert {path.stem[:6].upper() for path in FILES} == set(CODES)
