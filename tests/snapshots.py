"""Reading and writing `tests/plans/*.plan`.

A file is a list of cases with an empty line between them:

    # why this case is here
    norm expect=push_filter_into_source expect-not=order_filters
    the text, over several lines
    ----
    the output, over several lines

Outputs hold no empty line. Cases of files called `session*.plan` run through a whole session, those
of the other files through the folders they are about.
"""

from dataclasses import dataclass
from pathlib import Path

PLANS = Path(__file__).parent / "plans"


@dataclass(frozen=True)
class Case:
    """One snapshot; `options` keeps an option's values in order."""

    path: Path
    why: str
    command: str
    options: dict
    text: str
    output: str

    @property
    def id(self):
        return f"{self.path.stem}: {self.why}"


def read_cases(*commands, session=False):
    """All cases of these commands, in file order."""
    return [
        case
        for path in sorted(PLANS.glob("*.plan"))
        if path.name.startswith("session") == session
        for case in _read(path)
        if case.command in commands
    ]


def _read(path):
    cases = []
    for block in path.read_text().strip().split("\n\n"):
        why, head, *body = block.split("\n")
        command, *words = head.split()
        options = {}
        for word in words:
            name, _, value = word.partition("=")
            options.setdefault(name, []).append(value)
        text, _, output = "\n".join(body).partition("----")
        cases.append(
            Case(path, why.removeprefix("# "), command, options, text.strip(), output.strip())
        )
    return cases


def write_output(case, output):
    """Put the output into the file, whatever stood there."""
    blocks = case.path.read_text().strip().split("\n\n")
    places = [i for i, c in enumerate(_read(case.path)) if c.why == case.why]
    assert len(places) == 1, f"two cases of {case.path.name} have one reason: {case.why}"
    head = blocks[places[0]].partition("\n----")[0]
    blocks[places[0]] = f"{head}\n----\n{output}"
    case.path.write_text("\n\n".join(blocks) + "\n")


def check(case, output, update):
    """Compare, or rewrite."""
    assert "\n\n" not in output
    if update:
        write_output(case, output)
    else:
        assert output == case.output
