"""What a variant is made of on this machine: its files, by content, and the libraries it runs on.

Light, because a plan asks whether anything changed since it was measured: a file is read only when
its size, time or place changed since its hash was last known.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from ..ir.models import Backend
from ..stats.staleness import Environment

LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "python": ("python",),
    "onnx": ("onnxruntime",),
    "sklearn": ("scikit-learn", "skops"),
    "replay": (),
}
"""Distributions that a backend's answers and times depend on; `python` is the interpreter."""

UNREADABLE = "unreadable"
"""Instead of the hash of files that cannot be read."""

_digests: dict[Path, tuple[str, bytes]] = {}
_lock = threading.Lock()


def artefact(backend: Backend, base_dir: Path) -> bytes | None:
    """The hash of what is called, a digest a file; None where it has no file.

    Raises:
        OSError: a file cannot be read.
    """
    found = files(backend, base_dir)
    return None if found is None else b"".join(map(file_digest, found))


def files(backend: Backend, base_dir: Path) -> tuple[Path, ...] | None:
    """The files a variant names: its target, its weights beside it, those of its options."""
    if backend.kind == "python":
        path = _source(backend.target.rpartition(":")[0], base_dir)
    else:
        path = base_dir / backend.target
    if path is None:
        return None
    named = [base_dir / value for _, value in backend.options if isinstance(value, str)]
    weights = path.with_name(path.name + ".data")  # where ONNX keeps what a file cannot hold
    found = [path, *(other for other in (weights, *named) if other.is_file())]
    return tuple(file.resolve() for file in found)


def size(backend: Backend, base_dir: Path) -> int:
    """Bytes of what is called.

    Raises:
        OSError: a file is not there.
    """
    return sum(file.stat().st_size for file in files(backend, base_dir) or ())


def stamp(path: Path) -> str:
    """Size, times and place of a file.

    Raises:
        OSError: there is none.
    """
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def stamps_of(backend: Backend, base_dir: Path) -> tuple[str, ...] | None:
    """The stamps of what is called; None where it has no file, or one that is not there."""
    try:
        return tuple(map(stamp, files(backend, base_dir) or ())) or None
    except OSError:
        return None


def file_digest(path: Path) -> bytes:
    """The hash of a file's bytes, read again when its stamp says that it changed.

    Raises:
        OSError: it cannot be read.
    """
    now = stamp(path)
    with _lock:
        known = _digests.get(path)
    if known is not None and known[0] == now:
        return known[1]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    with _lock:
        _digests[path] = (now, digest)
    return digest


def environment(
    backend: Backend, base_dir: Path, known: Environment | None = None, *, imports: bool = False
) -> Environment:
    """What a variant is made of now.

    Args:
        backend: of the variant.
        base_dir: where its paths start.
        known: what it was made of: its hash holds while its files have the same stamps, and its
            libraries are those whose versions are looked up.
        imports: find out which libraries a python module imports, which takes a while.
    """
    try:
        paths = files(backend, base_dir) or ()
        stamps = {str(path): stamp(path) for path in paths}
        same = known is not None and known.stamps == stamps
        digest = known.artefact if same and known is not None else _hex(paths)
    except OSError:
        stamps, digest = {}, UNREADABLE
    names = set(LIBRARIES.get(backend.kind, ()))
    if known is not None:
        names |= set(known.libraries)
    elif imports and backend.kind == "python":
        names |= _imported([Path(path) for path in stamps])
    libraries = {name: found for name in sorted(names) if (found := version(name)) is not None}
    return Environment(digest, libraries, stamps)


def _hex(paths: tuple[Path, ...]) -> str:
    joined = b"".join(map(file_digest, paths))
    return hashlib.blake2b(joined, digest_size=16).hexdigest() if paths else ""


@cache
def version(name: str) -> str | None:
    """The version of a distribution; None where it is not installed."""
    from importlib import metadata

    if name == "python":
        return f"{sys.version_info.major}.{sys.version_info.minor}"
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _imported(paths: list[Path]) -> set[str]:
    """The distributions that the modules in these files import by themselves."""
    import ast

    tops: set[str] = set()
    for path in paths:
        if path.suffix != ".py":
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue  # loading it will say so
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                tops |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                tops.add(node.module.split(".")[0])
    return {name for top in tops - sys.stdlib_module_names for name in _owners(top)}


@cache
def _owners(top: str) -> tuple[str, ...]:
    """The distributions a top-level module comes from; mostly one of its own name."""
    return (top,) if version(top) is not None else tuple(_all_owners().get(top, ()))


@cache
def _all_owners() -> Mapping[str, Sequence[str]]:
    """Every top-level module's distributions: reads what is installed, which takes a while."""
    from importlib import metadata

    return metadata.packages_distributions()


def _source(module: str, base_dir: Path) -> Path | None:
    """The file of a python variant's module, found as its backend finds it."""
    if module.endswith(".py") or "/" in module:
        return (base_dir / module).with_suffix(".py")
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    except Exception:  # noqa: BLE001 -- a parent package is the user's code; loading will report it
        return None
    if spec is not None:
        return Path(spec.origin) if spec.has_location and spec.origin else None
    return base_dir.joinpath(*module.split(".")).with_suffix(".py")
