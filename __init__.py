"""Octans: a database-style query optimizer for compound AI pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .session import Session as Session
    from .session import connect as connect

__version__ = "0.1.0.dev0"
__all__ = ["Session", "__version__", "connect"]


def __getattr__(name: str) -> Any:
    if name in ("connect", "Session"):
        from . import session

        return getattr(session, name)
    raise AttributeError(f"module 'octans' has no attribute {name!r}")
