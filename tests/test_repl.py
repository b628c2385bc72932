"""The shell: statements over lines, completion, dot commands, Ctrl-C and Ctrl-D."""

import pytest
from fake_session import FakeSession
from octans import repl
from octans.console import Request
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput


def typed(keys, session=None):
    """Run the shell on these keys."""
    session = session or FakeSession()
    with create_pipe_input() as pipe:
        pipe.send_text(keys)
        prompt = repl.prompt_session(session, InMemoryHistory(), pipe, DummyOutput())
        assert repl.run_repl(session, Request(), prompt) == 0
    return session


def test_a_statement_may_span_lines_until_its_semicolon(capsys):
    session = typed("SELECT 1\rFROM x;\r\x04")
    assert session.asked == [("SELECT 1\nFROM x", None)]
    assert "┌" in capsys.readouterr().out


def test_a_statement_s_error_does_not_leave_the_shell(capsys):
    session = typed("nonsense;\rEXPLAIN x;\r\x04")
    out, err = capsys.readouterr()
    assert "error[OC0201]" in err
    assert "Plan  MINIMIZE cost" in out
    assert len(session.asked) == 2


def test_ctrl_c_while_typing_drops_the_input_and_stays(capsys):
    session = typed("SELECT half\x03EXPLAIN x;\r\x04")
    assert session.asked == [("EXPLAIN x", None)]


def test_ctrl_c_while_running_cancels_the_statement_and_stays(capsys):
    session = typed("INTERRUPT;\rEXPLAIN x;\r\x04")
    assert session.cancelled == 1
    assert "Plan  MINIMIZE cost" in capsys.readouterr().out


def test_quit_leaves():
    assert typed(".quit\rEXPLAIN x;\r").asked == []


def test_dot_commands(capsys, tmp_path):
    script = tmp_path / "a.sql"
    script.write_text("EXPLAIN from file;", encoding="utf-8")
    keys = f".help\r.tables\r.timer on\r.read {script}\r.read nothing.sql\r.format csv\r"
    session = typed(keys + "SELECT 1;\r.wrong\r\x04")
    out, err = capsys.readouterr()
    assert session.asked[0] == ("EXPLAIN from file", str(script))
    assert "pipeline  read_amount" in out
    assert "table     strips" in out
    assert "timer is on" in out
    assert "\nn,v\n" in out
    assert "unknown command .wrong" in err
    assert "cannot read nothing.sql" in err
    assert ".read FILE" in out


@pytest.mark.parametrize(
    ("text", "done"),
    [
        ("", True),
        (".help", True),
        ("SELECT 1", False),
        ("SELECT 1;", True),
        ("SELECT 1; -- then", True),
        ("SELECT ';", False),
        ("SELECT ';'", False),
        ("SELECT 1; /* open", False),
        ("SELECT (1;", False),
        ("CREATE PIPELINE p (x INT) RETURNS (y INT) AS BEGIN a := m(x);", False),
        ("CREATE PIPELINE p (x INT) RETURNS (y INT) AS BEGIN a := m(x); RETURN a; END;", True),
        (
            "CREATE OR REPLACE PIPELINE p (x INT) RETURNS (y INT) AS BEGIN "
            "RETURN CASE WHEN x > 1 THEN 1 END;",
            False,
        ),
        ("SELECT CASE WHEN x THEN 1 END;", True),
        ("-- only a comment", True),
    ],
)
def test_input_goes_on_until_the_statement_ends(text, done):
    assert repl.finished(text) is done


def completions(text):
    completer = repl.CatalogCompleter(FakeSession())
    return [c.text for c in completer.get_completions(Document(text), CompleteEvent())]


def test_names_of_the_catalog_complete_before_keywords():
    assert completions("SELECT cl") == ["classify", "classify.forest", "cluster"]
    assert completions("SELECT classify.f") == ["classify.forest"]
    assert completions("SELECT read_") == ["read_amount"]
    assert completions("FROM str") == ["strips"]


def test_keywords_complete_in_the_case_they_were_begun():
    assert "EXPLAIN" in completions("EXPL")
    assert "explain" in completions("expl")


def test_dot_commands_complete_at_the_start_of_a_line():
    assert completions(".ti") == [".timer"]
    assert completions("SELECT ") == []


def test_history_is_kept_below_the_state_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    history = repl.open_history()
    history.store_string("SELECT 1;")
    path = tmp_path / "octans" / "history"
    assert "SELECT 1;" in path.read_text(encoding="utf-8")
    assert path.stat().st_mode & 0o077 == 0


def test_history_falls_back_to_memory(monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
    assert isinstance(repl.open_history(), InMemoryHistory)
