"""`python('module:factory')`: a factory called with the knobs gives a function of a batch.

What runs is what the module's file says when a copy is loaded. Python imports a module once, so one
whose file changed since is run anew, beside the imported one, which stays as it is for whoever else
uses it; modules that it imports itself are not looked at.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType

import pyarrow as pa

from ...errors import RunError
from ..artefacts import file_digest
from ..failures import cannot_load, describe
from .base import Answer, LoadedModel, LoadRequest, MemoryMeter, importing

_RUNNING = threading.RLock()
"""Held while a file runs as a module: another stage must not find it half made."""
_imported: dict[str, tuple[ModuleType, bytes, ModuleType]] = {}
"""By name, a module as Python imported it, the hash of its file, and what that hash's code is."""
EXPECTED = "the target is 'module:factory' or 'path/to/file.py:factory'"


class PythonModel:
    """The callable a factory made; not thread-safe as far as we know, so one per slot."""

    thread_safe = False

    def __init__(
        self, function: Callable[[pa.RecordBatch], Answer], memory_bytes: int | None
    ) -> None:
        self.call = function
        self.memory_bytes = memory_bytes

    def close(self) -> None:
        """Call the callable's own `close`, if it has one."""
        close = getattr(self.call, "close", None)
        if callable(close):
            close()


class PythonBackend:
    """Loads `python` variants."""

    def load(self, request: LoadRequest) -> LoadedModel:
        """Import the module, call `factory(**options, **knobs)`."""
        name = request.variant.full_name
        module_name, _, factory_name = request.target.rpartition(":")
        if not module_name or not factory_name:
            raise cannot_load(name, f"{request.target!r} names no factory", EXPECTED)
        meter = MemoryMeter()
        with importing():
            module = _module(module_name, request)
        factory = getattr(module, factory_name, None)
        if not callable(factory):
            raise cannot_load(name, f"{module_name} has no function {factory_name}", EXPECTED)
        try:
            function = factory(**request.options, **dict(request.knobs))
        except (Exception, SystemExit) as error:
            raise cannot_load(name, f"{factory_name} raised {describe(error)}") from error
        if not callable(function):
            kind = type(function).__name__
            raise cannot_load(
                name, f"{factory_name} returned a {kind}", "return a function of a record batch"
            )
        return PythonModel(function, meter.grown())


def _module(name: str, request: LoadRequest) -> ModuleType:
    """By path if it looks like one, else by import, else as a file below `base_dir`."""
    variant = request.variant.full_name
    if name.endswith(".py") or "/" in name:
        path = request.base_dir / name
        return _from_file(path if path.suffix == ".py" else path.with_suffix(".py"), variant)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        path = request.base_dir.joinpath(*name.split(".")).with_suffix(".py")
        if path.is_file():
            return _from_file(path, variant)
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            hint = f"it is neither importable nor a file below {request.base_dir}"
            raise cannot_load(variant, f"there is no module {name}", hint) from error
        raise cannot_load(variant, f"importing {name} raised {describe(error)}") from error
    except (Exception, SystemExit) as error:
        raise cannot_load(variant, f"importing {name} raised {describe(error)}") from error
    return _current(name, module, variant)


def _current(name: str, module: ModuleType, variant: str) -> ModuleType:
    """The imported module, or where its file changed since it was first used, the file run anew."""
    spec = module.__spec__
    if spec is None or not spec.has_location or spec.origin is None:
        return module
    with _RUNNING:
        try:
            digest = file_digest(Path(spec.origin))
        except OSError:
            return module  # nobody can measure it either: its artefact is unreadable
        known = _imported.get(name)
        if known is None or known[0] is not module:
            known = (module, digest, module)
        elif known[1] != digest:
            known = (module, digest, _anew(spec, variant))
        _imported[name] = known
    return known[2]


def _from_file(path: Path, variant: str) -> ModuleType:
    path = path.resolve()
    if not path.is_file():
        raise cannot_load(variant, f"there is no file {path}")
    stamp = path.stat()
    name = f"_octans_{abs(hash((str(path), stamp.st_mtime_ns, stamp.st_size))):x}"
    with _RUNNING:
        return sys.modules[name] if name in sys.modules else _run_file(name, path, variant)


def _run_file(name: str, path: Path, variant: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise cannot_load(variant, f"{path} is not a Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        _run(module, spec, variant)
    except RunError:
        del sys.modules[name]
        raise
    return module


def _anew(spec: ModuleSpec, variant: str) -> ModuleType:
    module = importlib.util.module_from_spec(spec)
    _run(module, spec, variant)
    return module


def _run(module: ModuleType, spec: ModuleSpec, variant: str) -> None:
    """Run what the file says now: bytecode that Python kept is told from it by whole seconds."""
    loader, path = spec.loader, Path(spec.origin or "")
    if not isinstance(loader, SourceFileLoader):
        problem = f"{path.name} changed since it was imported"
        raise cannot_load(variant, problem, "start the program again")
    try:
        exec(loader.source_to_code(path.read_bytes(), str(path)), module.__dict__)
    except (Exception, SystemExit) as error:
        raise cannot_load(variant, f"running {path.name} raised {describe(error)}") from error
