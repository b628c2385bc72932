"""Backends: how the code behind a variant is loaded and called.

A backend knows one kind of `USING kind('target', option := value)`. It must not know plans,
chunks, batching or SQL: it gets a record batch whose columns are the model's inputs and answers
with its outputs. `backend_for` finds it by its kind.
"""

from __future__ import annotations

from ..failures import not_available
from ..kinds import KINDS, LATER
from .base import Backend, LoadedModel, LoadRequest


def backend_for(kind: str) -> Backend:
    """The backend of that kind.

    Raises:
        RunError: OC0405, a kind of a later version or an unknown one.
    """
    if kind == "python":
        from .python import PythonBackend

        return PythonBackend()
    if kind == "onnx":
        from .onnx import OnnxBackend

        return OnnxBackend()
    if kind == "sklearn":
        from .sklearn import SklearnBackend

        return SklearnBackend()
    if kind == "replay":
        from .replay import ReplayBackend

        return ReplayBackend()
    known = "this version has " + ", ".join(KINDS)
    raise not_available(f"the backend {kind}", LATER.get(kind, known))


__all__ = ["KINDS", "Backend", "LoadRequest", "LoadedModel", "backend_for"]
