"""The command line as typer sees it: commands, options, help."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from . import __version__
from .cli import CATALOG_VARIABLE, serve
from .console import FORMATS, Format, Request, as_format, guarded

HELP = """A query optimizer for compound AI pipelines.

Without a command: runs the statements of -c, or of standard input, or starts a shell.

\b
Examples:
  octans                                    a shell, catalog in memory
  octans demo                               a tour on real handwritten digits
  octans --catalog shop.duckdb run setup.sql
  octans --catalog shop.duckdb -c "EXPLAIN SELECT read_amount(strip) FROM strips"
  octans --format csv -c "SELECT …" > out.csv
  octans --dry-run run query.sql            rows, seconds, price; nothing runs
"""

application = typer.Typer(
    help=HELP, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
)

Catalog = Annotated[
    str | None,
    typer.Option("--catalog", metavar="PATH", envvar=CATALOG_VARIABLE, help="A catalog file."),
]
Output = Annotated[
    str | None, typer.Option("--format", metavar="|".join(FORMATS), help="How rows print.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Price, seconds and rows; nothing runs.")]
Quiet = Annotated[bool, typer.Option("--no-progress", help="No progress bar.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"octans {__version__}")
        raise typer.Exit


def _format(text: str | None) -> Format:
    format = as_format(text or "table")
    if format is None:
        raise typer.BadParameter(f"--format is one of {', '.join(FORMATS)}")
    return format


@application.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    command: Annotated[
        str | None, typer.Option("-c", "--command", metavar="TEXT", help="Statements to run.")
    ] = None,
    catalog: Catalog = None,
    format: Output = None,
    dry_run: DryRun = False,
    no_progress: Quiet = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="The version.")
    ] = False,
) -> None:
    """Statements of -c, or of standard input, or the shell; see HELP."""
    request = Request(command, None, catalog, _format(format), dry_run, not no_progress)
    if context.invoked_subcommand is None:
        raise typer.Exit(guarded(lambda: serve(request)))
    if command is not None:
        raise typer.BadParameter("-c stands alone, without a command")
    context.obj = request


@application.command(help="Run the statements of a file; - is standard input.")
def run(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file of statements.")],
    catalog: Catalog = None,
    format: Output = None,
    dry_run: DryRun = False,
    no_progress: Quiet = False,
) -> None:
    """Options before and behind `run` mean the same; the later one counts."""
    asked: Request = context.obj
    request = replace(
        asked,
        file=file,
        catalog=catalog if catalog is not None else asked.catalog,
        format=asked.format if format is None else _format(format),
        dry_run=dry_run or asked.dry_run,
        progress=asked.progress and not no_progress,
    )
    raise typer.Exit(guarded(lambda: serve(request)))


@application.command(help="A narrated tour: cheque amounts read from real handwritten digits.")
def demo(
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer strips, networks trained briefly.")
    ] = False,
    folder: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Where its files go.")
    ] = None,
) -> None:
    """The demo of examples/cheques."""
    from .examples.cheques.demo import main as tour

    raise typer.Exit(guarded(lambda: tour(where=folder, quick=quick)))
