"""Settings are typed: a wrong name, type, unit or range never passes silently."""

from __future__ import annotations

import pytest
from octans.catalog_db.settings import DECLARED, Settings
from octans.errors import CatalogError


def test_every_setting_of_the_language_has_a_default_and_a_typed_reader():
    settings = Settings()
    assert set(DECLARED) == {
        "max_total_cost", "max_wall", "max_profiling_cost", "seed", "disabled_rules", "workers",
        "progress", "allow_priors", "cache", "deployment", "max_statistics_age",
        "prefix_store", "sequential_test", "call_timeout",
    }  # fmt: skip
    for name in settings:
        assert getattr(settings, name) == settings.get(name) == DECLARED[name].default


@pytest.mark.parametrize(
    ("name", "value", "unit", "expected"),
    [
        ("max_total_cost", 5, "USD", 5.0),
        ("MAX_WALL", 0.5, "s", 0.5),
        ("max_wall", None, "", None),
        ("seed", 7, "", 7),
        ("seed", 7.0, "", 7),
        ("workers", 4, "", 4),
        ("workers", None, "", None),
        ("allow_priors", "ON", "", True),
        ("cache", True, "", True),
        ("progress", "false", "", False),
        ("disabled_rules", "a, b", "", ("a", "b")),
        ("disabled_rules", ("a",), "", ("a",)),
        ("disabled_rules", "", "", ()),
        ("deployment", "teller_42", "", "teller_42"),
        ("deployment", None, "", None),
        ("prefix_store", 0, "B", 0.0),
        ("call_timeout", 0.25, "s", 0.25),
        ("call_timeout", None, "", None),
    ],
)
def test_good_values_take_their_type(name, value, unit, expected):
    settings = Settings()
    settings.set(name, value, unit=unit)
    assert settings.get(name) == expected
    assert type(settings.get(name)) is type(expected)
    settings.reset(name)
    assert settings.get(name) == DECLARED[name.lower()].default


@pytest.mark.parametrize(
    ("name", "value", "unit"),
    [
        ("max_total_cost", 5, ""),
        ("max_total_cost", 5, "s"),
        ("max_total_cost", -1, "USD"),
        ("max_wall", float("inf"), "s"),
        ("max_wall", "2 min", ""),
        ("max_wall", True, "s"),
        ("seed", 1.5, ""),
        ("seed", -1, ""),
        ("seed", None, ""),
        ("seed", 3, "s"),
        ("seed", float("inf"), ""),
        ("seed", float("nan"), ""),
        ("workers", 0, ""),
        ("workers", True, ""),
        ("cache", "maybe", ""),
        ("cache", 1, ""),
        ("disabled_rules", 3, ""),
        ("disabled_rules", None, ""),
        ("prefix_store", None, ""),
        ("prefix_store", 5, "s"),
        ("call_timeout", 0, "s"),
        ("call_timeout", 2, ""),
    ],
)
def test_bad_values_are_refused_and_change_nothing(name, value, unit):
    settings = Settings()
    with pytest.raises(CatalogError) as caught:
        settings.set(name, value, unit=unit)
    assert caught.value.code == "OC0510"
    assert name in caught.value.message
    assert settings.get(name) == DECLARED[name].default


def test_an_unknown_setting_names_its_neighbours():
    settings = Settings()
    for act in (lambda: settings.set("max_wal", 1), lambda: settings.reset("max_wal")):
        with pytest.raises(CatalogError) as caught:
            act()
        assert caught.value.code == "OC0509"
        assert "max_wall" in caught.value.candidates
    assert "seed" in settings
    assert "sed" not in settings
