"""What the catalog refuses, code by code; each function makes the error, the caller raises it.

====== ==============================================================
OC0501 another process has the catalog open
OC0502 the directory of the catalog does not exist
OC0503 the file is not a DuckDB database
OC0504 the file cannot be opened or written
OC0505 the file was written by a newer Octans, or by a newer DuckDB
OC0506 no such definition
OC0507 the name is taken
OC0508 other definitions need it
OC0509 no such setting
OC0510 a setting's value is of the wrong type or out of range
OC0511 the catalog is closed
OC0512 observations could not be written
OC0513 a sample lacks the columns it needs
OC0514 a definition is incomplete
OC0515 kept outputs are damaged
====== ==============================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..errors import CatalogError

_PID = r"\(PID (\d+)\)"


def opening(path: str, cause: Exception, *, exists: bool, directory: bool) -> CatalogError:
    """Why DuckDB did not open the file; `directory`: the folder of the file exists."""
    text = str(cause)
    first = text.splitlines()[0]
    if "Conflicting lock" in text or "being used by another process" in text:
        return _locked(path, text)
    if not directory:
        return CatalogError(
            f"the directory of the catalog '{path}' does not exist",
            code="OC0502",
            hint="create the directory first, or give another path",
        )
    if "not a valid DuckDB database" in text:
        return CatalogError(
            f"'{path}' is not a catalog: the file is not a DuckDB database",
            code="OC0503",
            hint="give the path of a catalog, or of a file that does not exist yet",
        )
    if "version number" in text or "newer version" in text:
        return CatalogError(
            f"the catalog '{path}' was written by another version of DuckDB",
            code="OC0505",
            notes=(first,),
            hint="install the DuckDB that wrote it, or a newer one",
        )
    return CatalogError(
        f"the catalog '{path}' cannot be {'opened' if exists else 'created'}",
        code="OC0504",
        notes=(first,),
        hint="Octans must be able to read and write the file and its directory",
    )


def _locked(path: str, text: str) -> CatalogError:
    found = re.search(_PID, text)
    holder = f"process {found.group(1)}" if found else "another process"
    return CatalogError(
        f"the catalog '{path}' is open in {holder}",
        code="OC0501",
        notes=("a catalog is opened by one process at a time, even for reading",),
        hint=f"close it there (pid {found.group(1)}), or work on a copy" if found else None,
    )


def writing(path: str | None, cause: Exception) -> CatalogError:
    """DuckDB refused a write that is in order: disk full, file removed, read-only."""
    return CatalogError(
        f"the catalog '{path or ':memory:'}' cannot be written",
        code="OC0504",
        notes=(str(cause).splitlines()[0],),
        hint="Octans must be able to read and write the file and its directory",
    )


def unwritten(count: int, cause: Exception) -> CatalogError:
    """Observations stay in the queue."""
    return CatalogError(
        f"{count} observations cannot be written to the catalog",
        code="OC0512",
        notes=(str(cause).splitlines()[0],),
    )


def newer_schema(path: str, found: int, known: int) -> CatalogError:
    """The file has migrations this Octans does not know."""
    return CatalogError(
        f"the catalog '{path}' has schema {found}; this Octans knows schemas up to {known}",
        code="OC0505",
        hint="open it with the newer Octans that wrote it",
    )


def unknown(kind: str, name: str, candidates: Iterable[str] = ()) -> CatalogError:
    """No definition of that kind has the name."""
    return CatalogError(f"there is no {kind} {name}", code="OC0506", candidates=tuple(candidates))


def taken(kind: str, name: str, by: str) -> CatalogError:
    """The name belongs to a definition of kind `by`."""
    if by == kind:
        return CatalogError(
            f"{kind} {name} already exists",
            code="OC0507",
            hint=f"CREATE OR REPLACE {kind.upper()} gives it a new version",
        )
    return CatalogError(
        f"{kind} {name} cannot be created: there is a {by} of that name",
        code="OC0507",
        hint="models and pipelines are called alike, so they share their names",
    )


def needed(kind: str, name: str, dependants: Iterable[str]) -> CatalogError:
    """Definitions that would dangle."""
    listed = tuple(dependants)
    return CatalogError(
        f"{kind} {name} cannot be dropped: {', '.join(listed)} "
        f"{'needs' if len(listed) == 1 else 'need'} it",
        code="OC0508",
        hint=f"drop {listed[0]} first",
    )


def damaged(step: str, variant: str) -> CatalogError:
    """A block of kept outputs is not what was written; it is left out, never used."""
    return CatalogError(
        f"kept outputs of {variant} in {step} are damaged; they are forgotten and computed again",
        code="OC0515",
    )
