"""A device's THREADS, imposed on BLAS and OpenMP while a model is called.

OpenMP keeps its number per thread: it is set and restored by the thread that calls. OpenBLAS and
MKL keep one for the process: it is restored when nobody calls a model any more, so a stage that
ends does not loosen another's limit; of two devices with different THREADS the later one counts.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


@contextmanager
def threads_imposed(threads: int | None) -> Iterator[None]:
    """Hold the pools to `threads` while in the block; None leaves them.

    Enter it in the calling thread, after the model's libraries are loaded.
    """
    if threads is None:
        yield
        return
    libraries = _LIBRARIES.found().lib_controllers
    own = [library for library in libraries if library.user_api == "openmp"]
    before = [library.num_threads for library in own]
    for library in own:
        library.set_num_threads(threads)
    _BLAS.enter([library for library in libraries if library.user_api == "blas"], threads)
    try:
        yield
    finally:
        _BLAS.leave()
        for library, number in zip(own, before, strict=True):
            library.set_num_threads(number)


class _Libraries:
    """The thread pools of this process; looked for again once more modules were imported.

    Reading the process's memory map takes milliseconds, which profiling would pay for every run.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._modules = -1
        self._controller: ThreadpoolController | None = None

    def found(self) -> ThreadpoolController:
        from threadpoolctl import ThreadpoolController

        with self._lock:
            if self._controller is None or self._modules != len(sys.modules):
                self._modules = len(sys.modules)
                self._controller = ThreadpoolController()
            return self._controller


class _Blas:
    """The process's BLAS pools: how many hold them, and what to restore."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before: dict[str, tuple[Any, int]] = {}

    def enter(self, libraries: list[Any], threads: int) -> None:
        with self._lock:
            self._users += 1
            for library in libraries:
                self._before.setdefault(library.filepath, (library, library.num_threads))
                _set(library, threads)

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                for library, number in self._before.values():
                    _set(library, number)
                self._before.clear()


def _set(library: Any, threads: int) -> None:
    """Set a BLAS pool's number, whichever thread set it before.

    The first thread to set OpenBLAS's has the say of it in threadpoolctl, and what others set does
    nothing, silently. Who holds it here is counted by `_Blas`, so it is taken from that thread.
    """
    release = getattr(library, "clear_controlling_thread", None)
    if release is None:
        library.set_num_threads(threads)
        return
    release(force=True)
    library.set_num_threads(threads)
    release()


_LIBRARIES = _Libraries()
_BLAS = _Blas()
