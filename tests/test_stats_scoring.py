"""Metrics, element scores, samples and splits."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from octans.errors import RunError
from octans.ir.models import Metric
from octans.stats.metrics import score
from octans.stats.sampling import sample, split
from octans.stats.scoring import element_scores

EXACT = Metric("exact_match", "x")


def column(values, kind=None):
    return pa.chunked_array([pa.array(values, kind)])


def test_exact_match_knows_null_and_nan():
    answers = column([1.0, None, None, float("nan"), 2.0])
    truth = column([1.0, None, 1.0, float("nan"), None])
    assert score(EXACT, answers, truth).tolist() == [1, 1, 0, 1, 0]


def test_exact_match_of_nested_values():
    answers = column([[1, None], [1], {"a": 1}["a"] and [2]])
    truth = column([[1, None], [1, 2], [2]])
    assert score(EXACT, answers, truth).tolist() == [1, 0, 1]


def test_numbers_of_different_width_compare():
    assert score(EXACT, column([1, 2], pa.int32()), column([1, 3], pa.int64())).tolist() == [1, 0]


def test_within_a_tolerance():
    metric = Metric("within", "x", (0.5,))
    answers, truth = column([1.0, 1.0, None, None]), column([1.5, 1.6, None, 1.0])
    assert score(metric, answers, truth).tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("metric", "truth", "code"),
    [
        (Metric("rouge_2", "x"), ["a"], "OC0480"),
        (Metric("within", "x"), [1], "OC0481"),
        (Metric("exact_match", "x", (1,)), [1], "OC0481"),
        (EXACT, ["one"], "OC0482"),
    ],
)
def test_what_cannot_be_scored_is_a_typed_error(metric, truth, code):
    with pytest.raises(RunError) as caught:
        score(metric, column([1]), column(truth))
    assert caught.value.code == code


def test_elements_of_failed_and_misaligned_rows_are_wrong():
    answers = column([[1, 2], None, [3], None, []], pa.list_(pa.int64()))
    truth = column([[1, 9], [4, 4, 4], [3, 3], None, []], pa.list_(pa.int64()))
    failed = np.array([False, True, False, False, False])
    lengths = np.array([2, 3, 1, 0, 0])
    scored = element_scores(EXACT, answers, truth, failed, lengths, None)
    by_row = sorted(zip(scored.clusters, scored.scores, strict=True))
    assert by_row == [(0, 0.0), (0, 1.0), (1, 0.0), (1, 0.0), (1, 0.0), (2, 0.0)]


@pytest.mark.parametrize("labels", [[True, False], [["yes"], ["no"]], [{"p": 1}, {"p": 2}]])
def test_a_label_of_elements_that_does_not_fit_is_a_typed_error(labels):
    answers = column([[True], [False]], pa.list_(pa.bool_()))
    with pytest.raises(RunError) as caught:
        element_scores(EXACT, answers, column(labels), np.zeros(2, bool), np.ones(2, int), None)
    assert caught.value.code == "OC0482"
    assert ("list" in caught.value.hint) == (not isinstance(labels[0], list))


def test_labels_of_elements_that_are_all_null_make_every_answer_wrong():
    answers = column([[1, 2], [3]], pa.list_(pa.int64()))
    labels = pa.chunked_array([pa.nulls(2)])
    scored = element_scores(EXACT, answers, labels, np.zeros(2, bool), np.array([2, 1]), None)
    assert scored.scores == [0.0, 0.0, 0.0]


def test_sliced_lists_are_flattened_rightly():
    answers = column([[9], [1, 2], [3]], pa.list_(pa.int64())).slice(1)
    truth = column([[1, 2], [3]], pa.list_(pa.int64()))
    scored = element_scores(EXACT, answers, truth, np.zeros(2, bool), np.array([2, 1]), ["a", "b"])
    assert scored.scores == [1.0, 1.0, 1.0]
    assert scored.clusters == ["a", "a", "b"]


def test_samples_are_uniform_and_repeatable():
    assert sample(5, 10, 0) == [0, 1, 2, 3, 4]
    assert sample(5000, None, 0) == sample(5000, None, 0)
    assert len(sample(5000, None, 0)) == 1000
    counts = np.zeros(20)
    for seed in range(2000):
        counts[sample(20, 5, seed)] += 1
    assert np.abs(counts / 2000 - 0.25).max() < 0.05


def test_a_cluster_lies_on_one_side():
    clusters = [row % 37 for row in range(500)]
    roles = split(500, clusters, 0.5, seed=3)
    sides = {}
    for cluster, role in zip(clusters, roles, strict=True):
        assert sides.setdefault(cluster, role) == role
    assert list(sides.values()).count("held_back") == 18


def test_both_sides_get_something():
    assert sorted(split(2, None, 0.01, 0)) == ["held_back", "search"]
    assert split(3, None, 0.0, 0) == ["search"] * 3
    assert split(1, None, 0.5, 0).count("held_back") in (0, 1)
    assert split(0, None) == []
