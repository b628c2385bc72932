"""Artefacts that Octans makes: files named by their hash, beside the catalog.

They lie in `<catalog>.artefacts/`, so a catalog that is moved with its folder keeps them; those of
a catalog in memory lie in a temporary folder that is removed with it. A file is complete before it
has its name, and has its name before a definition refers to it: what is killed in between leaves at
most a file that nothing refers to, which the next `sweep` removes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

_WORK = "building-"


class Workspace:
    """A folder to build in. What is adopted from it stays while the workspace is open."""

    def __init__(self, folder: Path, place: Path) -> None:
        """Use `Artefacts.workspace`."""
        self._folder = folder
        self.place = place
        self.adopted: set[str] = set()

    def adopt(self, path: Path, digest: str) -> str:
        """Move a finished file to where artefacts lie; its name there.

        The same content, which its `digest` identifies, is kept once, whoever makes it.
        """
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        name = digest + path.suffix
        self.adopted.add(name)
        os.replace(path, self._folder / name)
        return name


class Artefacts:
    """The artefacts of one catalog file; for any number of threads."""

    def __init__(self, catalog: str | None) -> None:
        """`catalog` is its path; None is in memory."""
        self._lock = threading.Lock()
        self._beside = None if catalog is None else Path(f"{Path(catalog).resolve()}.artefacts")
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._open: list[Workspace] = []

    def path(self, name: str) -> Path:
        """Where an artefact lies."""
        return self._folder() / name

    @contextmanager
    def workspace(self) -> Iterator[Workspace]:
        """A folder to build in, on the file system of the artefacts; gone at the end."""
        with self._lock:
            folder = self._folder()
            folder.mkdir(exist_ok=True)
            place = Path(tempfile.mkdtemp(prefix=_WORK, dir=folder))
            made = Workspace(folder, place)
            self._open.append(made)
        try:
            yield made
        finally:
            with self._lock:
                self._open.remove(made)
                shutil.rmtree(place, ignore_errors=True)

    def sweep(self, needed: Collection[str]) -> None:
        """Remove what nothing needs, and what a killed process left half built."""
        with self._lock:
            folder = self._temporary.name if self._temporary is not None else self._beside
            if folder is None or not os.path.isdir(folder):
                return
            kept = {name for work in self._open for name in work.adopted} | set(needed)
            kept |= {work.place.name for work in self._open}
            for entry in os.scandir(folder):
                if entry.name in kept:
                    continue
                if entry.is_dir():
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)
            if not kept and self._temporary is None:
                os.rmdir(folder)

    def close(self) -> None:
        """Remove the folder of a catalog in memory."""
        if self._temporary is not None:
            self._temporary.cleanup()

    def _folder(self) -> Path:
        if self._beside is not None:
            return self._beside
        if self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="octans-artefacts-")
        return Path(self._temporary.name)
