"""Immutable values and plan nodes, compared by fingerprint, and their traversal.

A `Value` is a frozen dataclass whose identity is a 128-bit BLAKE2b fingerprint over its class name,
its fields and the fingerprints of the values in them. The fingerprint is computed eagerly: a plan
is a DAG, and hashing shared children over and over would take exponential time, while hashing
lazily would overflow the stack on long chains. Only a canonical encoding enters it, so it may be
stored: the catalog, the caches and the plan history are keyed by it.

A `Node` is a value with children. All traversal is here, iterative and memoised over the DAG.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self, TypeVar, dataclass_transform

from . import record

N = TypeVar("N", bound="Node")


@dataclass_transform(frozen_default=True, eq_default=False)
class Value:
    """Base of everything a plan is made of; subclasses become frozen dataclasses."""

    _digest: bytes
    _children: tuple[Any, ...]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        record.dataclass(frozen=True, eq=False)(cls)

    def __post_init__(self) -> None:
        h = hashlib.blake2b(type(self).__name__.encode(), digest_size=16)
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            _encode(h, getattr(self, field.name))
        object.__setattr__(self, "_digest", h.digest())

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits; equal for equal values, across processes and versions."""
        return self._digest.hex()

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Value):
            return NotImplemented
        return self._digest == other._digest

    def __hash__(self) -> int:
        return int.from_bytes(self._digest[:8], "little", signed=True)

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]


def _encode(h: hashlib.blake2b, value: object) -> None:
    """Feed one field to the hash: a tag, a length where it varies, then the bytes."""
    if isinstance(value, Value):
        h.update(b"v" + value._digest)
    elif isinstance(value, enum.Enum):
        _encode(h, value.value)
    elif value is None:
        h.update(b"0")
    elif isinstance(value, bool):
        h.update(b"t" if value else b"f")
    elif isinstance(value, int):
        text = str(value).encode()
        h.update(b"i%d:" % len(text) + text)
    elif isinstance(value, float):
        h.update(b"d" + struct.pack("<d", value))
    elif isinstance(value, str):
        data = value.encode()
        h.update(b"s%d:" % len(data) + data)
    elif isinstance(value, tuple):
        h.update(b"(%d:" % len(value))
        for item in value:
            _encode(h, item)
    else:
        raise TypeError(f"a plan cannot hold a {type(value).__name__}")


class Node(Value):
    """A value with children: fields that are nodes, and the nodes in tuple fields."""

    def __post_init__(self) -> None:
        super().__post_init__()
        found: list[Node] = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Node):
                found.append(value)
            elif isinstance(value, tuple):
                found.extend(item for item in value if isinstance(item, Node))
        object.__setattr__(self, "_children", tuple(found))

    @property
    def children(self) -> tuple[Node, ...]:
        """The nodes directly below, in field order."""
        return self._children

    def with_children(self, new: Sequence[Node]) -> Self:
        """This node above other children; the same object if they are the same ones."""
        if len(new) != len(self.children):
            raise ValueError(f"{type(self).__name__} has {len(self.children)} children")
        if all(a is b for a, b in zip(new, self.children, strict=True)):
            return self
        queue = iter(new)
        changes: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Node):
                changes[field.name] = next(queue)
            elif isinstance(value, tuple) and any(isinstance(item, Node) for item in value):
                changes[field.name] = tuple(
                    next(queue) if isinstance(item, Node) else item for item in value
                )
        return self.replace(**changes)

    def postorder(self) -> Iterator[Node]:
        """Every distinct node once, children before parents."""
        seen: set[Node] = set()
        stack: list[tuple[Node, bool]] = [(self, False)]
        while stack:
            node, expanded = stack.pop()
            if node in seen:
                continue
            if expanded:
                seen.add(node)
                yield node
            else:
                stack.append((node, True))
                stack.extend((child, False) for child in reversed(node.children))

    def transform_up(self, fn: Callable[[Any], Node]) -> Node:
        """Rebuild bottom-up; `fn` sees each distinct node once, its children already rebuilt."""
        done: dict[Node, Node] = {}
        for node in self.postorder():
            done[node] = fn(node.with_children([done[child] for child in node.children]))
        return done[self]


def parents(root: Node) -> dict[Node, tuple[Node, ...]]:
    """For every node of the DAG the distinct nodes that read it; the root reads for nobody."""
    above: dict[Node, list[Node]] = {root: []}
    for node in root.postorder():
        for child in dict.fromkeys(node.children):
            above.setdefault(child, []).append(node)
    return {node: tuple(readers) for node, readers in above.items()}


def collect(root: Node, kind: type[N]) -> tuple[N, ...]:
    """The distinct nodes of one class, children before parents."""
    return tuple(node for node in root.postorder() if isinstance(node, kind))
