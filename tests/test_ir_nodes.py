"""Fingerprints are canonical and stable; traversal bears long chains and shared DAGs."""

from __future__ import annotations

import enum
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from octans.ir.logical import Apply, Distinct, Filter, Join, Limit, ModelCall, Source
from octans.ir.models import Backend, KnobDomain, Metric, Variant
from octans.ir.node import Node, Value, collect, parents
from octans.ir.types import Field, NamedExpr, SqlExpr


class Leaf(Node):
    """A test node."""

    value: object


class Pair(Node):
    """A test node with two children."""

    left: Node
    right: Node


class Many(Node):
    """A test node with children between other things."""

    label: str
    inputs: tuple[object, ...]


class Colour(enum.Enum):
    """Enters a fingerprint by its value."""

    RED = "red"


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8)
)
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=12)


def canonical(value: object) -> object:
    """What must tell two values apart: type and bits, not Python's loose equality."""
    if isinstance(value, tuple):
        return ("tuple", *map(canonical, value))
    return (type(value).__name__, repr(value))


@given(TREES, TREES)
def test_fingerprints_are_equal_exactly_for_equal_values(a, b):
    same = canonical(a) == canonical(b)
    assert (Leaf(a).fingerprint == Leaf(b).fingerprint) == same
    assert (Leaf(a) == Leaf(b)) == same
    assert Leaf(a) == Leaf(a)
    assert hash(Leaf(a)) == hash(Leaf(a))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (Leaf(("ab", "c")), Leaf(("a", "bc"))),
        (Leaf((1, (2, 3))), Leaf((1, 2, 3))),
        (Leaf("1"), Leaf(1)),
        (Leaf(1), Leaf(1.0)),
        (Leaf(1), Leaf(True)),
        (Leaf(0.0), Leaf(-0.0)),
        (Leaf(""), Leaf(None)),
        (Leaf(()), Leaf(None)),
        (Field("a", "b"), SqlExpr("a", ("b",))),
        (Metric("a", "b"), Backend("a", "b")),
    ],
)
def test_what_looks_alike_differs(a, b):
    assert a != b
    assert a.fingerprint != b.fingerprint


def test_a_fingerprint_is_the_same_in_another_process_and_version():
    variant = Variant(
        "m", "v", Backend("python", "a:b", (("x", 1.5),)), None, (KnobDomain("k", (1,)),)
    )
    code = (
        "from octans.ir.models import *\n"
        "print(Variant('m', 'v', Backend('python', 'a:b', (('x', 1.5),)), None, "
        "(KnobDomain('k', (1,)),)).fingerprint)"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == variant.fingerprint
    # Stored in catalogs: a change of this text orphans what users have.
    assert Field("a", "INTEGER").fingerprint == "c674387cb4ba164869c959daac924b4e"
    assert len(variant.fingerprint) == 32


def test_what_has_no_canonical_encoding_is_refused():
    for value in ({1}, {"a": 1}, [1], b"x", object()):
        with pytest.raises(TypeError):
            Leaf(value)
    assert Leaf(Colour.RED) == Leaf("red")


def test_values_are_frozen_and_replace_copies():
    field = Field("a", "INTEGER")
    with pytest.raises(AttributeError):
        field.name = "b"  # type: ignore[misc]
    assert field.replace(name="b") == Field("b", "INTEGER")
    assert field == Field("a", "INTEGER")
    assert field != "a"
    assert {field: 1}[Field("a", "INTEGER")] == 1


def test_with_children_keeps_the_object_when_nothing_changes():
    a, b, c = Leaf(1), Leaf(2), Leaf(3)
    pair = Pair(a, b)
    assert pair.with_children([a, b]) is pair
    assert pair.with_children((c, b)) == Pair(c, b)
    mixed = Many("x", (a, "between", b))
    assert mixed.children == (a, b)
    assert mixed.with_children([b, c]) == Many("x", (b, "between", c))
    with pytest.raises(ValueError, match="has 2 children"):
        pair.with_children([a])


def source() -> Source:
    return Source("t", (NamedExpr("a", SqlExpr('"a"', ("a",)), "INTEGER"),))


def test_a_chain_of_100_000_nodes_is_no_problem():
    node = source()
    for _ in range(100_000):
        node = Limit(node, 10)
    assert sum(1 for _ in node.postorder()) == 100_001
    deeper = node.transform_up(lambda n: n.replace(relation="u") if isinstance(n, Source) else n)
    assert collect(deeper, Source)[0].relation == "u"
    assert len(parents(deeper)) == 100_001


def test_a_dag_with_2_to_the_60_paths_is_no_problem():
    node: Node = Leaf(0)
    started = time.perf_counter()
    for _ in range(60):
        node = Pair(node, node)
    seen: list[Node] = []

    def rebuild(at: Node) -> Node:
        seen.append(at)
        return Leaf(1) if isinstance(at, Leaf) else at

    changed = node.transform_up(rebuild)
    assert len(seen) == 61, "each distinct node once"
    assert len(list(changed.postorder())) == 61
    assert changed != node
    assert time.perf_counter() - started < 5, "an exponential walk would never end"


def test_equal_nodes_made_apart_are_one_node():
    shared = Pair(Pair(Leaf(1), Leaf(2)), Pair(Leaf(1), Leaf(2)))
    assert len(list(shared.postorder())) == 4
    assert parents(shared)[Pair(Leaf(1), Leaf(2))] == (shared,)


def test_transform_sees_children_that_are_already_rebuilt():
    def add(at: Node) -> Node:
        return Leaf(at.value + 1) if isinstance(at, Leaf) else Pair(at.right, at.left)

    assert Pair(Leaf(1), Pair(Leaf(2), Leaf(3))).transform_up(add) == Pair(
        Pair(Leaf(4), Leaf(3)), Leaf(2)
    )


def test_postorder_puts_inputs_before_their_readers():
    bottom = source()
    left, right = Distinct(bottom), Limit(bottom, 1)
    top = Join(left, right, "cross")
    assert list(top.postorder()) == [bottom, left, right, top]
    readers = parents(top)
    assert readers[bottom] == (left, right)
    assert readers[top] == ()


def test_the_schema_of_a_plan_grows_with_its_calls():
    call = ModelCall("m", (SqlExpr('"a"', ("a",)),), "m")
    plan = Filter(Apply(source(), call, (Field("m", "DOUBLE"),)), SqlExpr('"m" > 1', ("m",)))
    assert plan.schema == (Field("a", "INTEGER"), Field("m", "DOUBLE"))
    assert isinstance(call, Value)
    assert plan.children == (plan.input,), "a call is no child"
