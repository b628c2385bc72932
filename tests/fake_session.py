"""A stand-in for `octans.session` that the command line's and the shell's tests drive."""

import sys
import types
from types import SimpleNamespace

import pyarrow as pa
from octans.errors import BindError, RunError, Span
from octans.ir.estimates import Cost, Estimate
from octans.result import Result


class FakeCatalog:
    """One object of each kind."""

    def models(self):
        return (SimpleNamespace(name="classify"),)

    def variants(self, model):
        return (SimpleNamespace(full_name=f"{model}.forest"),)

    def pipelines(self):
        return (SimpleNamespace(name="read_amount"),)

    def devices(self):
        return (SimpleNamespace(name="cpu0"),)

    def slos(self):
        return (SimpleNamespace(name="interactive"),)


class FakeSession:
    """Answers statements by their first word; remembers what it was asked."""

    def __init__(self, path=None):
        self.path = path
        self.catalog = FakeCatalog()
        self.progress = None
        self.asked = []
        self.cancelled = 0
        self.closed = False

    def run_script(self, text, name=None):
        for statement in filter(None, map(str.strip, text.split(";"))):
            self.asked.append((statement, name))
            yield self.answer(statement, text, name)

    def answer(self, statement, text, name):
        match statement.split()[0].upper():
            case "SELECT":
                table = pa.table({"n": [1, None], "v": [[1.5], [float("nan")]]})
                return Result(table, failed=lambda: 1 if "failing" in statement else 0)
            case "CREATE":
                return Result(message="created model classify")
            case "EXPLAIN":
                return Result(text="Plan  MINIMIZE cost")
            case "CANCEL":
                raise RunError("cancelled after 3 finished rows", code="OC0402")
            case "INTERRUPT":
                raise KeyboardInterrupt
            case word:
                start = text.index(statement)
                raise BindError(
                    f"no model is called {word.lower()}", code="OC0201",
                    span=Span(start, start + len(word)),
                ).in_source(text, name)  # fmt: skip

    def estimate(self, text, name=None):
        for statement in filter(None, map(str.strip, text.split(";"))):
            if statement.startswith("SELECT"):
                rows = Estimate(100, 100, 100, 0)
                usd = Estimate(0.5, 0.4, 0.6, 300)
                yield statement, Cost(rows=rows, wall=None, total_cost=usd)

    def quotes(self, text, name=None):
        for statement in filter(None, map(str.strip, text.split(";"))):
            if statement.startswith("ANALYZE"):
                yield statement, ("some 3 s",)

    def tables(self):
        return ("strips",)

    def cancel(self):
        self.cancelled += 1

    def close(self):
        self.closed = True


def install(monkeypatch):
    """Put the fake in the place of `octans.session`; the sessions it opens are in the list."""
    opened = []

    def connect(path=None):
        opened.append(FakeSession(path))
        return opened[-1]

    module = types.ModuleType("octans.session")
    module.connect = connect
    monkeypatch.setitem(sys.modules, "octans.session", module)
    import octans

    monkeypatch.setattr(octans, "session", module, raising=False)
    return opened
