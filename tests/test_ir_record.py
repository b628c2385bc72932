"""Our `dataclass` does what the standard library's does, for everything Octans uses of it."""

import copy
import dataclasses
import pickle
from dataclasses import field
from functools import cached_property

import pytest
from octans.ir.record import dataclass as ours

FORMS = [{}, {"frozen": True}, {"frozen": True, "slots": True}, {"slots": True}]
FORMS += [{"frozen": True, "eq": False}, {"eq": False}]


def classes(**form):
    """The same class made by both."""
    made = []
    for decorate in (dataclasses.dataclass, ours):

        @decorate(**form)
        class Point:
            """A point."""

            x: int
            y: float = 2.0
            tags: list = field(default_factory=list, compare=False)
            hidden: str = field(default="h", repr=False)
            late: str = field(default="l", init=False)
            named: int = field(default=0, kw_only=True)

        made.append(Point)
    return made


def given(work, cls):
    """What some work with a class gives: a value, or the kind of error."""
    try:
        return work(cls)
    except (TypeError, AttributeError) as error:
        return type(error)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_it_agrees_with_the_original(form):
    theirs, mine = classes(**form)
    for work in (
        lambda cls: repr(cls(1, 3.5, ["t"], named=4)),
        lambda cls: cls(1) == cls(1, tags=["another"]),
        lambda cls: cls(1) == cls(2),
        lambda cls: cls(1) == 1,
        lambda cls: cls(1) == theirs(1) and cls is mine,
        lambda cls: form.get("eq", True) and hash(cls(1, named=2)) == hash(cls(1, named=2)),
        lambda cls: cls(),
        lambda cls: cls(1, 2, [], "h", 5),
        lambda cls: cls(1, nothing=2),
        lambda cls: setattr(cls(1), "x", 2),
        lambda cls: delattr(cls(1), "x"),
        lambda cls: cls(1).late,
        lambda cls: cls(1).tags is cls(1).tags,
        lambda cls: dataclasses.asdict(cls(1)),
        lambda cls: repr(dataclasses.replace(cls(1), y=9.0)),
        lambda cls: [f.name for f in dataclasses.fields(cls)],
        lambda cls: cls.__match_args__,
        lambda cls: repr(copy.copy(cls(7))),
        lambda cls: repr(copy.deepcopy(cls(7, tags=[1]))),
        lambda cls: vars(cls(1)),
    ):
        assert given(work, theirs) == given(work, mine)


@ours(frozen=True)
class Checked:
    """A value that looks at itself."""

    name: str
    size: int = 1

    def __post_init__(self):
        if self.size < 0:
            raise ValueError("too small")

    @cached_property
    def twice(self):
        return self.name * 2


@ours(frozen=True)
class More(Checked):
    """A heir."""

    extra: tuple = ()


@ours(frozen=True, slots=True)
class Tight:
    """Without a dictionary."""

    a: int
    b: str = "b"


def test_what_it_is_asked_after_and_before():
    with pytest.raises(ValueError, match="too small"):
        Checked("a", -1)
    assert Checked("a").twice == "aa"
    with pytest.raises(dataclasses.FrozenInstanceError):
        Checked("a").name = "b"


def test_heirs_have_all_fields():
    assert More("a", 2, (3,)) == More("a", 2, extra=(3,))
    assert More("a") != Checked("a")
    assert repr(More("a")) == "More(name='a', size=1, extra=())"


def test_matching_takes_fields_in_order():
    match Tight(1, "x"):
        case Tight(a, b):
            assert (a, b) == (1, "x")


@pytest.mark.parametrize("value", [Checked("a", 3), More("a", 2, (1,)), Tight(1)])
def test_values_survive_pickling(value):
    again = pickle.loads(pickle.dumps(value))
    assert again == value
    assert hash(again) == hash(value)


def test_own_methods_win():
    @ours(frozen=True)
    class Loud:
        name: str

        def __repr__(self):
            return self.name.upper()

        def __hash__(self):
            return 7

    assert repr(Loud("a")) == "A"
    assert hash(Loud("a")) == 7


def test_no_two_instances_share_a_default():
    @ours()
    class Bag:
        items: list = field(default_factory=list)

    assert Bag().items is not Bag().items
