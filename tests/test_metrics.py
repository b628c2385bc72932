"""The built-in quality metrics: what they measure, on whom they are symmetric, what they refuse."""

import sys
import types
import unicodedata
from decimal import Decimal

import octans
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from octans.dsl.parser import parse_one
from octans.dsl.printer import to_text
from octans.errors import OctansError, RunError
from octans.ir.models import Metric
from octans.stats import metrics, text_metrics
from octans.stats.metrics import score

TEXT = st.text(alphabet="ab É漢 .\n", max_size=12)
NUMBER = st.floats(-50, 50).map(lambda v: round(v, 2))
SIDE = st.floats(0, 20).map(lambda v: round(v, 2))
BOX = st.tuples(NUMBER, NUMBER, SIDE, SIDE).map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]])
BOXES = st.lists(BOX, max_size=4)
MASK = st.lists(st.booleans(), min_size=4, max_size=4)
VECTOR = st.lists(NUMBER, min_size=3, max_size=3)
SETS = st.lists(st.one_of(st.none(), st.integers(0, 5)), max_size=6)


def scored(name, answers, truth, *args, kind=None):
    """The scores of values as Arrow columns."""
    metric = Metric(name, "x", args)
    return score(
        metric,
        pa.chunked_array([pa.array(answers, kind)]),
        pa.chunked_array([pa.array(truth, kind)]),
    ).tolist()


def one(name, answer, truth, *args, kind=None):
    (found,) = scored(name, [answer], [truth], *args, kind=kind)
    return found


CASES = [
    ("exact_match", SETS, pa.list_(pa.int64())),
    ("within", NUMBER, pa.float64()),
    ("f1", TEXT, pa.string()),
    ("f1", SETS, pa.list_(pa.int64())),
    ("wer", TEXT, pa.string()),
    ("rouge_l", TEXT, pa.string()),
    ("iou", BOX, pa.list_(pa.float64())),
    ("iou", BOXES, pa.list_(pa.list_(pa.float64()))),
    ("iou", MASK, pa.list_(pa.bool_())),
    ("cosine", VECTOR, pa.list_(pa.float64())),
]
ARGS = {"within": (0.5,)}


@pytest.mark.parametrize(("name", "values", "kind"), CASES)
def test_identity_is_one_range_is_unit_and_null_is_its_own(name, values, kind):
    args = ARGS.get(name, ())

    @settings(deadline=None)  # the first call imports
    @given(values, values)
    def check(answer, truth):
        assert one(name, answer, answer, *args, kind=kind) == pytest.approx(1.0)
        assert 0.0 <= one(name, answer, truth, *args, kind=kind) <= 1.0
        nulls = scored(name, [None, answer, None], [None, None, truth], *args, kind=kind)
        assert nulls == [1.0, 0.0, 0.0]

    check()


@pytest.mark.parametrize("name", ["f1", "wer", "rouge_l"])
def test_an_accent_may_be_part_of_its_letter_or_follow_it(name):
    @settings(deadline=None)  # the first call imports
    @given(st.text(st.characters(categories=["L", "M", "N", "P", "Zs"])))
    def check(text):
        forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD")]
        assert one(name, *forms, kind=pa.string()) == 1.0

    check()
    assert (
        one(name, "cafe\N{COMBINING ACUTE ACCENT}", "caf\N{LATIN SMALL LETTER E WITH ACUTE}") == 1.0
    )
    assert one(name, "cafe\N{COMBINING ACUTE ACCENT}", "cafe") == 0.0


@pytest.mark.parametrize("name", ["f1", "wer", "rouge_l"])
@pytest.mark.parametrize(
    ("answer", "truth"),
    [
        ("की", "के"),  # Hindi
        ("কি", "কে"),  # Bengali
        ("கொடு", "கேடு"),  # Tamil
        ("ไม่", "ไม้"),  # Thai
        ("שָׁלוֹם", "שָׁלִים"),  # Hebrew, pointed
        ("क्ष", "कष"),
    ],
)
def test_words_that_differ_in_a_mark_are_other_words(name, answer, truth):
    """A vowel sign is a mark, no letter."""
    assert one(name, answer, truth) == 0.0
    assert one(name, f"{answer} {truth}", f"{truth} {truth}") == 0.5


@pytest.mark.parametrize(("name", "values", "kind"), [case for case in CASES if case[0] != "wer"])
def test_all_but_the_word_error_rate_are_symmetric(name, values, kind):
    args = ARGS.get(name, ())

    @settings(deadline=None)  # the first call imports
    @given(values, values)
    def check(answer, truth):
        there = one(name, answer, truth, *args, kind=kind)
        assert there == pytest.approx(one(name, truth, answer, *args, kind=kind))

    check()


@pytest.mark.parametrize(
    ("name", "answer", "truth", "expected"),
    [
        ("f1", "The cat sat", "the cat", 0.8),
        ("f1", "cat cat", "cat", 2 / 3),
        ("f1", "", "", 1.0),
        ("f1", "", "cat", 0.0),
        ("f1", "STRASSE", "straße", 1.0),
        ("f1", "東京 駅", "東京", 2 / 3),
        ("f1", "İSTANBUL", "İstanbul", 1.0),
        ("f1", "ok ❤\N{VARIATION SELECTOR-16}", "ok", 1.0),
        ("f1", [1, 1, 2], [1, 2], 1.0),
        ("f1", [1, 2, 3], [3, 4], 0.4),
        ("f1", [], [], 1.0),
        ("f1", [], [1], 0.0),
        ("f1", [None], [None, 1], 2 / 3),
        ("wer", "the cat sat", "the cat sat", 1.0),
        ("wer", "the bat sat", "the cat sat", 2 / 3),
        ("wer", "the sat", "the cat sat", 2 / 3),
        ("wer", "a b c d e f", "the", 0.0),
        ("wer", "", "the cat", 0.0),
        ("wer", "  ", "", 1.0),
        ("wer", "noise", "", 0.0),
        ("wer", "Cat", "cat", 0.0),
        ("rouge_l", "police kill the gunman", "police killed the gunman", 0.75),
        ("rouge_l", "the gunman kill police", "police killed the gunman", 0.5),
        ("rouge_l", "!", "?", 1.0),
        ("rouge_l", "", "word", 0.0),
        ("iou", [0, 0, 2, 2], [1, 0, 3, 2], 1 / 3),
        ("iou", [0, 0, 1, 1], [2, 2, 3, 3], 0.0),
        ("iou", [1, 1, 1, 1], [1, 1, 1, 1], 1.0),
        ("iou", [2, 2, 0, 0], [0, 0, 2, 2], 0.0),
        ("iou", [[0, 0, 1, 1], [5, 5, 6, 6]], [[5, 5, 6, 6], [0, 0, 1, 1]], 1.0),
        ("iou", [[0, 0, 1, 1]], [[0, 0, 1, 1], [5, 5, 6, 6]], 0.5),
        ("iou", [[0, 0, 1, 1]], [], 0.0),
        ("iou", [[0, 0, 1, 1], None], [[0, 0, 1, 1], None], 0.5),
        ("iou", [True, True, False], [True, False, False], 0.5),
        ("iou", [[True], [False]], [[False], [False]], 0.0),
        ("iou", [False, False], [False, False], 1.0),
        ("iou", [True], [True, False], 0.0),
        ("cosine", [1.0, 0.0], [0.0, 2.0], 0.5),
        ("cosine", [1.0, 1.0], [-1.0, -1.0], 0.0),
        ("cosine", [0.0, 0.0], [0.0, 0.0], 1.0),
        ("cosine", [0.0, 0.0], [1.0, 0.0], 0.0),
        ("cosine", [1.0], [1.0, 0.0], 0.0),
        ("cosine", [1e200, 0.0], [1e-200, 0.0], 1.0),
        ("cosine", [float("nan"), 1.0], [1.0, 1.0], 0.0),
    ],
)  # fmt: skip
def test_known_scores(name, answer, truth, expected):
    assert one(name, answer, truth) == pytest.approx(expected)


def test_boxes_are_matched_where_greedy_matching_loses():
    """Each answer overlaps both truths; taking the best pair first leaves the other with less."""
    answers = [[0, 0, 10, 10], [4, 0, 14, 10]]
    truth = [[3, 0, 13, 10], [8, 0, 18, 10]]
    best = one("iou", answers, truth)
    assert best == pytest.approx((7 / 13 + 6 / 14) / 2)


def test_boxes_as_structs_and_with_width_and_height():
    corners = [{"x1": 0.0, "y1": 0.0, "x2": 2.0, "y2": 2.0}]
    assert scored("iou", corners, [{"x1": 1.0, "y1": 0.0, "x2": 3.0, "y2": 2.0}]) == [
        pytest.approx(1 / 3)
    ]
    assert one("iou", [0, 0, 2, 2], [1, 0, 2, 2], "xywh") == pytest.approx(1 / 3)


def test_a_decimal_is_within_a_double():
    answers = pa.chunked_array([pa.array([Decimal("1.00"), Decimal("2.00")])])
    truth = pa.chunked_array([pa.array([1.4, 2.6])])
    assert score(Metric("within", "x", (0.5,)), answers, truth).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("name", "answer"),
    [("f1", 1), ("wer", ["a"]), ("rouge_l", b"a"), ("iou", "a"), ("iou", ["a"]), ("cosine", "a")],
)
def test_a_type_that_was_declared_before_it_was_refused_is_refused_when_scored(name, answer):
    with pytest.raises(RunError) as caught:
        one(name, answer, answer)
    assert caught.value.code == "OC0486"


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidfuzz", None)
    with pytest.raises(RunError) as caught:
        one("wer", "a", "b")
    assert caught.value.code == "OC0483"
    assert "octans[metrics]" in caught.value.hint
    assert text_metrics.f1("a", "a", ()) == 1.0, "f1 needs none"


# --- at CREATE -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returns", "quality", "code"),
    [
        ("VARCHAR", "rouge_2(y)", "OC0480"),
        ("VARCHAR", "wer(y, 1)", "OC0481"),
        ("DOUBLE", "within(y)", "OC0481"),
        ("DOUBLE", "within(y, -1)", "OC0481"),
        ("DOUBLE[4]", "iou(y, 'yxyx')", "OC0481"),
        ("VARCHAR", "f1('mine:score', y)", "OC0481"),
        ("VARCHAR", "python(y)", "OC0481"),
        ("INTEGER", "f1(y)", "OC0486"),
        ("VARCHAR[]", "wer(y)", "OC0486"),
        ("BLOB", "rouge_l(y)", "OC0486"),
        ("VARCHAR", "within(y, 1)", "OC0486"),
        ("INTEGER[]", "within(y, 1)", "OC0486"),
        ("DOUBLE", "iou(y)", "OC0486"),
        ("VARCHAR[]", "iou(y)", "OC0486"),
        ("DOUBLE[][]", "cosine(y)", "OC0486"),
        ("VARCHAR[]", "cosine(y)", "OC0486"),
        ("FLOAT[3]", "iou(y)", "OC0486"),
        ("STRUCT(a DOUBLE, b DOUBLE)", "iou(y)", "OC0486"),
        ("STRUCT(a DOUBLE, b DOUBLE, c DOUBLE, d VARCHAR)", "iou(y)", "OC0486"),
    ],
)
def test_what_can_never_be_scored_is_refused_at_create(returns, quality, code):
    with octans.connect() as session:
        with pytest.raises(OctansError) as caught:
            session.sql(f"CREATE MODEL m (x VARCHAR) RETURNS (y {returns}) QUALITY {quality}")
        assert caught.value.code == code
        assert caught.value.span is not None
        assert session.sql("SHOW MODELS").fetchall() == []


@pytest.mark.parametrize(
    ("returns", "quality"),
    [
        ("VARCHAR", "f1(y)"),
        ("ENUM ('a', 'b')", "wer(y)"),
        ("STRUCT(a INTEGER)[]", "f1(y)"),
        ("UHUGEINT", "within(y, 0.5)"),
        ("DECIMAL(9, 2)", "within(y, 1)"),
        ("FLOAT[4]", "iou(y)"),
        ("INTEGER[4][]", "iou(y, 'xywh')"),
        ("STRUCT(a DOUBLE, b DOUBLE, c DOUBLE, d DOUBLE)[]", "iou(y)"),
        ("BOOLEAN[][]", "iou(y)"),
        ("FLOAT[64]", "cosine(y)"),
        ("VARCHAR", "python('mine:score', y, 2, 'x')"),
    ],
)
def test_what_can_be_scored_is_accepted_and_shown_as_written(returns, quality):
    with octans.connect() as session:
        text = f"CREATE MODEL m (x VARCHAR) RETURNS (y {returns}) QUALITY {quality}"
        assert to_text(parse_one(text)).endswith(f" QUALITY {quality}")
        session.sql(text)
        assert session.sql("SELECT quality FROM octans.models").fetchall() == [(quality,)]
        session.sql(
            f"CREATE PIPELINE p (x VARCHAR) RETURNS (y {returns}) QUALITY {quality} AS "
            "BEGIN y := m(x); RETURN y; END"
        )
        assert session.sql("SELECT quality FROM octans.pipelines").fetchall() == [(quality,)]


# --- the user's own code -------------------------------------------------------------------------


@pytest.fixture
def mine(monkeypatch):
    """A module `mine`; its functions are looked up anew in each test."""
    module = types.ModuleType("mine")
    monkeypatch.setitem(sys.modules, "mine", module)
    metrics._loaded.cache_clear()
    yield module
    metrics._loaded.cache_clear()


def own(answers, *args, target="mine:score"):
    metric = Metric("python", "x", args, target)
    column = pa.chunked_array([pa.array(answers)])
    return score(metric, column, column).tolist()


def test_own_code_gets_answers_truths_and_arguments(mine):
    mine.score = lambda answers, truths, scale: [
        scale if answer == truth else 0 for answer, truth in zip(answers, truths, strict=True)
    ]
    assert own(["a", None], 0.5) == [0.5, 0.5]


@pytest.mark.parametrize(
    "returned",
    [[1.0], [0.5, 1.5], [0.5, float("nan")], [0.5, None], ["a", "b"], None, [[1, 1]], 1.0],
)
def test_own_code_that_returns_no_scores_is_a_typed_error(mine, returned):
    mine.score = lambda answers, truths: returned
    with pytest.raises(RunError) as caught:
        own(["a", "b"])
    assert caught.value.code == "OC0485"


@pytest.mark.parametrize("raised", [ValueError("no"), SystemExit(2)])
def test_own_code_that_raises_is_a_typed_error(mine, raised):
    def fail(answers, truths):
        raise raised

    mine.score = fail
    with pytest.raises(RunError) as caught:
        own(["a"])
    assert caught.value.code == "OC0485"
    assert type(raised).__name__ in caught.value.message


@pytest.mark.parametrize("target", ["mine:nothing", "no_such_module:score", "score", ":score"])
def test_own_code_that_is_not_there_is_a_typed_error(mine, target):
    with pytest.raises(RunError) as caught:
        own(["a"], target=target)
    assert caught.value.code == "OC0484"


def test_own_code_may_stand_in_a_file_of_the_working_directory(tmp_path, monkeypatch, mine):
    (tmp_path / "scorers.py").write_text(
        "def always(answers, truths):\n    return [1] * len(answers)\n"
    )
    (tmp_path / "broken.py").write_text("raise ValueError('half written')\n")
    monkeypatch.chdir(tmp_path)
    assert own(["a", "b"], target="scorers:always") == [1, 1]
    with pytest.raises(RunError) as caught:
        own(["a"], target="broken:always")
    assert caught.value.code == "OC0484"
    assert "half written" in caught.value.message


def test_a_model_is_measured_by_own_code(mine):
    mine.score = lambda answers, truths: [0.25] * len(answers)
    mine.echo = lambda: lambda batch: {"y": batch.column("x")}
    with octans.connect() as session:
        session.sql(
            """
            CREATE MODEL echo (x VARCHAR) RETURNS (y VARCHAR) QUALITY python('mine:score', y);
            CREATE VARIANT echo.v USING python('mine:echo') BASE;
            ANALYZE MODEL echo USING (SELECT 'a' || range AS x FROM range(40));
            """
        )
        found = session.sql("SELECT value FROM octans.statistics WHERE metric = 'quality'")
        assert found.fetchall() == [(0.25,)]
