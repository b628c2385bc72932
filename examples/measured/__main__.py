"""`python -m octans.examples.measured FOLDER CATALOG`: import public measurements."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ...dsl.diagnostics import render
from ...errors import OctansError, RunError
from ...session import connect
from . import DATA_SETS
from .loading import Imported, load

DESCRIPTION = """Import measurements of models that others published into an Octans catalog.

The data are not part of Octans: fetch what you want into one folder, each data set in a folder of
its name."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    sources = "\n".join(f"  {data.name:18} {data.origin}" for data in DATA_SETS.values())
    made = argparse.ArgumentParser(
        prog="python -m octans.examples.measured",
        description=DESCRIPTION,
        epilog=f"data sets:\n{sources}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("folder", type=Path, metavar="FOLDER", help="holds the data sets' folders")
    made.add_argument("catalog", metavar="CATALOG", help="a catalog file; made where there is none")
    made.add_argument("--only", metavar="NAME,…", help="these data sets; default: those in FOLDER")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Import; the exit code."""
    made = parser()
    options = made.parse_args(arguments)
    names = [] if options.only is None else options.only.split(",")
    unknown = [name for name in names if name not in DATA_SETS]
    if unknown:
        made.error(f"no such data set: {', '.join(unknown)}; there are {', '.join(DATA_SETS)}")
    try:
        run(options.folder, options.catalog, names)
    except OctansError as error:
        print(render(error), file=sys.stderr)
        return 1
    return 0


def run(folder: Path, catalog: str, names: Sequence[str]) -> None:
    """Import the named data sets, or all whose folder is there.

    Raises:
        RunError: OC0450, nothing is there.
        OctansError: of an import.
    """
    folder = folder.resolve()
    chosen = names or [name for name in DATA_SETS if (folder / name).is_dir()]
    if not chosen:
        raise RunError(
            f"no data set is in {folder}",
            code="OC0450",
            notes=tuple(f"{data.name}: {data.origin}" for data in DATA_SETS.values()),
            hint="fetch one of them into a folder of its name",
        )
    with connect(catalog) as session:
        for name in chosen:
            _report(name, load(session, DATA_SETS[name], folder, _tell))


def _tell(text: str) -> None:
    print(f"  {text} …", file=sys.stderr, flush=True)


def _report(name: str, added: Imported) -> None:
    print(f"{name}: {added}")
    if added.unpriced:
        print(
            f"  no price is published of {', '.join(added.unpriced)}: they count as free of "
            "charge; declare them with a PRICE before importing"
        )


if __name__ == "__main__":
    sys.exit(main())
