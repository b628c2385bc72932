"""The command line: what it runs, what it prints where, and how it exits."""

import io
import json
import os
import subprocess
import sys

import fake_session
import pyarrow as pa
import pytest
from octans import cli, progress
from octans.console import Request, print_result
from octans.result import Result


@pytest.fixture
def opened(monkeypatch):
    monkeypatch.delenv(cli.CATALOG_VARIABLE, raising=False)
    monkeypatch.setenv("TERMINAL_WIDTH", "100")
    return fake_session.install(monkeypatch)


def test_a_command_prints_tables_and_messages(opened, capsys):
    assert cli.main(["-c", "CREATE MODEL x; SELECT 1; EXPLAIN SELECT 1"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("created model classify\n┌")
    assert out.endswith("Plan  MINIMIZE cost\n")
    assert err == ""
    assert opened[0].closed


def test_csv_carries_rows_alone_and_messages_go_to_stderr(opened, capsys):
    assert cli.main(["--format", "csv", "-c", "CREATE MODEL x; SELECT failing"]) == 0
    out, err = capsys.readouterr()
    assert out == "n,v\n1,[1.5]\n,[NaN]\n"
    assert err == "created model classify\n1 rows failed\n"


@pytest.mark.parametrize("format", ["csv", "json"])
def test_what_a_result_says_beside_its_rows_goes_to_stderr(capsys, format):
    """A search that ended early must not look like one that is done."""
    result = Result(pa.table({"n": [1]}), message="stopped: budget used up")
    print_result(result, format)
    out, err = capsys.readouterr()
    assert "stopped" not in out
    assert err == "stopped: budget used up\n"


def test_json_is_valid_json_with_nulls(opened, capsys):
    assert cli.main(["--format", "json", "-c", "SELECT 1"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows == [{"n": 1, "v": [1.5]}, {"n": None, "v": ["nan"]}]


def test_an_error_goes_to_stderr_with_a_caret_and_tells_what_ran(opened, capsys):
    assert cli.main(["-c", "SELECT 1; clasify"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("┌")
    assert "error[OC0201]: no model is called clasify" in err
    assert "^^^^^^^" in err
    assert "in statement 2; 1 statement before it ran" in err


def test_a_file_is_run_under_its_name(opened, capsys, tmp_path):
    script = tmp_path / "setup.sql"
    script.write_text("SELECT 1;\nnonsense;", encoding="utf-8")
    assert cli.main(["run", str(script)]) == 1
    assert "setup.sql:2:1" in capsys.readouterr().err
    assert opened[0].asked[0] == ("SELECT 1", str(script))


def test_a_missing_file_is_a_usage_error(opened, capsys, tmp_path):
    assert cli.main(["run", str(tmp_path / "no.sql")]) == 2
    assert "No such file" in capsys.readouterr().err
    assert opened == []


def test_a_file_that_is_no_text_is_a_usage_error(opened, capsys, tmp_path):
    (tmp_path / "x.sql").write_bytes(b"\xff\xfe\x00")
    assert cli.main(["run", str(tmp_path / "x.sql")]) == 2
    assert "not UTF-8" in capsys.readouterr().err


def test_standard_input_is_a_script(opened, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("EXPLAIN SELECT 1"))
    assert cli.main(["run", "-"]) == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO("EXPLAIN SELECT 1"))
    assert cli.main([]) == 0
    assert capsys.readouterr().out == "Plan  MINIMIZE cost\n" * 2


def test_a_dry_run_prices_and_runs_nothing(opened, capsys):
    assert cli.main(["--dry-run", "-c", "SELECT 1; CREATE MODEL x"]) == 0
    out = capsys.readouterr().out
    assert "$0.500" in out
    assert "[0.400, 0.600]" in out
    assert "100" in out
    assert "?" in out
    assert opened[0].asked == []


def test_a_dry_run_says_what_an_analyze_would_take(opened, capsys):
    assert cli.main(["--dry-run", "-c", "ANALYZE MODEL m; SELECT 1"]) == 0
    out = capsys.readouterr().out
    assert "$0.500" in out
    assert "ANALYZE MODEL m\n  some 3 s\n" in out
    assert cli.main(["--dry-run", "-c", "ANALYZE MODEL m"]) == 0
    assert capsys.readouterr().out == "ANALYZE MODEL m\n  some 3 s\n"
    assert cli.main(["--dry-run", "-c", "CREATE MODEL x"]) == 0
    assert "nothing to price" in capsys.readouterr().out


def test_the_catalog_comes_from_the_option_or_the_environment(opened, capsys, monkeypatch):
    cli.main(["--catalog", "a.duckdb", "-c", "EXPLAIN"])
    monkeypatch.setenv(cli.CATALOG_VARIABLE, "b.duckdb")
    cli.main(["-c", "EXPLAIN"])
    cli.main(["--catalog", "c.duckdb", "-c", "EXPLAIN"])
    assert [session.path for session in opened] == ["a.duckdb", "b.duckdb", "c.duckdb"]


def test_a_cancelled_or_interrupted_run_exits_with_130(opened, capsys):
    assert cli.main(["-c", "CANCEL"]) == 130
    assert "OC0402" in capsys.readouterr().err
    assert cli.main(["-c", "INTERRUPT"]) == 130
    assert opened[1].cancelled == 1
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--nonsense"],
        ["-c"],
        ["--format", "yaml", "-c", "SELECT 1"],
        ["-c", "SELECT 1", "run", "x.sql"],
        ["run"],
        ["walk"],
    ],
)
def test_wrong_usage_exits_with_2_and_says_why(opened, capsys, arguments):
    assert cli.main(arguments) == 2
    assert "Error" in capsys.readouterr().err
    assert opened == []


def test_help_shows_examples_and_commands(opened, capsys):
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "octans --catalog shop.duckdb -c" in out
    assert "demo" in out
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("octans 0.")


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", "SELECT 1"],
        ["--catalog", "x.duckdb", "--format", "json", "-c", "SELECT 1"],
        ["run", "a.sql"],
        ["run", "--no-progress", "a.sql"],
        ["--dry-run", "run", "--catalog", "y", "a.sql", "--format", "csv"],
        ["--catalog", "x", "run", "--catalog", "y", "-"],
    ],
)
def test_typer_and_the_plain_reading_agree(monkeypatch, arguments):
    """The light path is only there for speed: it must ask for the same thing."""
    from octans import commands

    asked = []
    monkeypatch.delenv(cli.CATALOG_VARIABLE, raising=False)
    monkeypatch.setattr(commands, "serve", lambda request: asked.append(request) or 0)
    with pytest.raises(SystemExit):
        commands.application(arguments, prog_name="octans")
    light = cli.plain(arguments)
    assert light is None or asked == [light]
    if arguments[0] == "-c":
        assert light == Request(text="SELECT 1")


def test_the_plain_path_does_not_import_typer():
    code = (
        "import sys; from octans.cli import plain\n"
        "assert plain(['-c', 'SELECT 1']) is not None\n"
        "heavy = {'typer', 'rich', 'prompt_toolkit', 'pyarrow', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import pytest, fake_session
from octans import cli
with pytest.MonkeyPatch.context() as patch:
    fake_session.install(patch)
    fake_session.FakeSession.answer = lambda self, *a: fake_session.Result(text="x" * 70000)
    sys.exit(cli.main(["-c", "EXPLAIN; EXPLAIN; EXPLAIN"]))
"""


def test_a_closed_pipe_ends_silently():
    code = SCRIPT.format(tests=os.path.dirname(__file__))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.read(10)
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(30) == 141
    assert errors == b""


def test_no_progress_bar_without_a_terminal():
    assert progress.progress_bar() is None


def test_a_bar_keeps_silent_at_first_and_clears_itself(monkeypatch):
    drawn = []

    class Drawn:
        def update(self, task, **known):
            drawn.append(known)

        def stop(self):
            drawn.append("stopped")

    monkeypatch.setattr(progress, "_start", lambda: (Drawn(), 0))
    bar = progress.ProgressBar(patience=3600)
    bar.update(1, 10, ["a"])
    bar.finish()
    assert drawn == []
    bar = progress.ProgressBar(patience=0)
    bar.update(1, None, [])
    bar.update(5, 10, ["a", "b"])
    bar.finish()
    bar.finish()
    assert drawn[0]["total"] is None
    assert drawn[1].pop("rate") > 0
    assert drawn[1] == {"completed": 5, "total": 10, "description": "a, b"}
    assert drawn[2:] == ["stopped"]


def test_the_drawn_bar_shows_stage_names_as_they_are():
    """Names are the user's: rich markup in them is text."""
    bar, task = progress._start()
    bar.update(task, completed=1, total=2, description="[red]evil[/red]")
    stages = bar.columns[0].render(bar.tasks[0])
    bar.stop()
    assert stages.plain == "[red]evil[/red]"
