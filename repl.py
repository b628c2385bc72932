"""The shell: statements over several lines until `;`, history, completion, a few dot commands.

Ctrl-C while typing drops the input, while running cancels the statement; Ctrl-D leaves.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.enums import EditingMode
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from . import __version__
from .console import OK, Request, run_script
from .planner.explain.numbers import quantity

if TYPE_CHECKING:
    from prompt_toolkit.input import Input
    from prompt_toolkit.output import Output

    from .session import Session

_KEYWORDS = """
ADVICE ALTERNATIVES ANALYZE AND AS AT BASE BATCH BEGIN BUDGET BY CLUSTER CONFIDENCE COPY COST COUNT
CREATE DESCRIBE DEVICE DEVICES DISTINCT DROP EACH END ERROR EXPLAIN FAIL FORMAT FROM GROUP HAVING
HISTORIES IN INSERT INTO JOIN KIND KNOBS LABELS LIMIT LINK MAXIMIZE MEMORY MINIMIZE MODEL MODELS NOT
NULL OBSERVATIONS OF ON OR ORDER PIPELINE PIPELINES PLANS PRICE PROMPT QUALITY REPLACE RESET RETURN
RETURNS RUNS SAMPLE SEARCH SELECT SET SHOW SKIP SLO SLOS SOFT STATISTICS STEPS THREADS TIER TO
UNIFORM USING VARIANT VARIANTS VOLATILE WHEN WHERE WHY WITH EXTENDED_STATISTICS
accuracy cost latency_p50 latency_p95 latency_p99 throughput total_cost wall
"""
KEYWORDS = tuple(_KEYWORDS.split())

COMMANDS = {
    ".format table|csv|json": "how rows print",
    ".help": "this help",
    ".quit": "leave (or Ctrl-D)",
    ".read FILE": "run the statements of a file",
    ".tables": "what there is: models, pipelines, devices, SLOs, tables",
    ".timer on|off": "print how long a statement took",
}

HELP = """Statements end with ; and may span lines. For a start:
  CREATE MODEL … ;  CREATE VARIANT … ;  CREATE PIPELINE … ;   declare what exists
  ANALYZE PIPELINE p USING (SELECT …) LABELS (…) ;            measure it
  EXPLAIN SELECT … WITH SLO (accuracy >= 0.95) ;              the plan and its price; nothing runs
  SELECT … WITH SLO (accuracy >= 0.95) MINIMIZE cost ;        run it
  SHOW MODELS | VARIANTS | PIPELINES | DEVICES | SLOS | PLANS FOR x | STATISTICS FOR x ;
"""


class CatalogCompleter(Completer):
    """Completes keywords, models, variants, pipelines, devices, SLOs and tables."""

    def __init__(self, session: Session) -> None:
        """Names are read from the session's catalog at every completion."""
        self._session = session

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """Names first, then keywords; commands at the start of a line beginning with a dot."""
        line = document.text_before_cursor
        if line.startswith(".") and " " not in line:
            for command in COMMANDS:
                word = command.split()[0]
                if word.startswith(line):
                    yield Completion(word, -len(line), display_meta=COMMANDS[command])
            return
        word = line[len(line.rstrip(_WORD)) :]
        if not word:
            return
        lower = word.lower()
        for name, kind in names(self._session):
            if name.lower().startswith(lower) and name != word:
                yield Completion(name, -len(word), display_meta=kind)
        for keyword in KEYWORDS:
            if keyword.lower().startswith(lower) and keyword.lower() != lower:
                shown = keyword.lower() if word.islower() else keyword
                yield Completion(shown, -len(word))


_WORD = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_."


def names(session: Session) -> Iterator[tuple[str, str]]:
    """All names of the catalog with their kinds; variants by their full names."""
    catalog = session.catalog
    for model in catalog.models():
        yield model.name, "model"
        for variant in catalog.variants(model.name):
            yield variant.full_name, "variant"
    for kind, declared in (
        ("pipeline", catalog.pipelines()),
        ("device", catalog.devices()),
        ("slo", catalog.slos()),
    ):
        for item in declared:
            if item.name is not None:
                yield item.name, kind
    for table in session.tables():
        yield table, "table"


def finished(text: str) -> bool:
    """Is this a whole input: empty, a dot command, or statements ended by `;`?

    A `;` inside quotes, comments or a pipeline's body does not end a statement. What cannot be
    read (an open quote, an open body) goes on; what is wrong is for the statement to report.
    """
    stripped = text.strip()
    if not stripped or stripped.startswith("."):
        return True
    from .dsl.tokens import tokenize, words
    from .errors import SyntaxProblem

    try:
        line = words(tokenize(text), text)
    except SyntaxProblem:
        return False
    return not line or (line[-1].text == ";" and not _is_open([word.upper for word in line]))


def _is_open(line: list[str]) -> bool:
    """Is a bracket or a pipeline's body still open? `line` are words in capitals."""
    brackets = sum(word in "([{" for word in line if word) - sum(
        word in ")]}" for word in line if word
    )
    if brackets > 0:
        return True
    body = 0
    pipeline = False
    for before, word in zip(["", *line], line, strict=False):
        if body == 0 and word == ";":
            pipeline = False
        elif word == "PIPELINE" and before in ("CREATE", "REPLACE"):
            pipeline = True
        elif pipeline and word == "BEGIN" and before == "AS":
            body = 1
        elif body and word == "CASE":
            body += 1
        elif body and word == "END":
            body -= 1
    return body > 0


def history_path() -> Path:
    """`$XDG_STATE_HOME/octans/history`, by default below ~/.local/state."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "octans" / "history"


def open_history() -> History:
    """The history file, or memory where none can be written."""
    path = history_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))


def _bindings() -> KeyBindings:
    """Enter ends a finished input and otherwise starts a new line; Alt-Enter always submits."""
    keys = KeyBindings()

    @keys.add("enter")
    def enter(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.complete_state is not None and buffer.complete_state.current_completion:
            buffer.complete_state = None
        elif finished(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n")

    @keys.add("escape", "enter")
    def submit(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    return keys


def prompt_session(
    session: Session,
    history: History | None = None,
    input: Input | None = None,
    output: Output | None = None,
) -> PromptSession[str]:
    """The line editor; `input` and `output` stand in for the terminal in tests."""
    return PromptSession(
        "octans> ",
        multiline=True,
        prompt_continuation=lambda width, number, soft: "   ...> ".rjust(width),
        history=open_history() if history is None else history,
        completer=CatalogCompleter(session),
        complete_while_typing=False,
        key_bindings=_bindings(),
        enable_history_search=True,
        editing_mode=EditingMode.VI if "vi" in os.environ.get("EDITOR", "") else EditingMode.EMACS,
        input=input,
        output=output,
    )


def run_repl(session: Session, request: Request, prompt: PromptSession[str] | None = None) -> int:
    """Read and run until Ctrl-D or `.quit`; returns the exit code.

    Errors of statements are printed and do not leave the shell.
    """
    prompt = prompt or prompt_session(session)
    print(f"Octans {__version__}. .help for help, Ctrl-D to leave.")
    if request.catalog is None:
        print("The catalog is in memory: start with --catalog PATH to keep it.")
    shell = _Shell(session, request)
    while not shell.left:
        try:
            text = prompt.prompt()
        except KeyboardInterrupt:
            continue
        except EOFError:
            break
        shell.run(text)
    return OK


class _Shell:
    """Runs inputs; holds what dot commands switch."""

    def __init__(self, session: Session, request: Request) -> None:
        self.session = session
        self.request = request
        self.timer = False
        self.left = False

    def run(self, text: str) -> None:
        """One input: a dot command or statements."""
        stripped = text.strip()
        if not stripped:
            return
        if stripped.startswith("."):
            self.command(stripped)
            return
        self.script(text, None)

    def script(self, text: str, name: str | None) -> None:
        """Statements, timed if asked."""
        start = time.perf_counter()
        run_script(self.session, text, name, self.request)
        if self.timer:
            print(f"{quantity(time.perf_counter() - start, 's')}")

    def command(self, line: str) -> None:
        """A dot command."""
        word, _, rest = line.rstrip(";").partition(" ")
        rest = rest.strip()
        match word:
            case ".help":
                print(HELP)
                print("\n".join(f"{name:23} {what}" for name, what in COMMANDS.items()))
            case ".quit" | ".exit":
                self.left = True
            case ".tables":
                for name, kind in names(self.session):
                    print(f"{kind:9} {name}")
            case ".timer":
                self.timer = {"on": True, "off": False}.get(rest, not self.timer)
                print(f"timer is {'on' if self.timer else 'off'}")
            case ".format" if rest:
                self.format(rest)
            case ".read":
                self.read(rest)
            case _:
                print(f"unknown command {word}: .help lists them", file=sys.stderr)

    def format(self, text: str) -> None:
        """`.format csv`."""
        from .console import FORMATS, as_format

        chosen = as_format(text)
        if chosen is None:
            print(f"the format is one of {', '.join(FORMATS)}", file=sys.stderr)
        else:
            self.request = replace(self.request, format=chosen)

    def read(self, file: str) -> None:
        """`.read FILE`."""
        try:
            text = Path(file).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            print(f"cannot read {file or 'nothing'}: {reason}", file=sys.stderr)
            return
        self.script(text, file)
