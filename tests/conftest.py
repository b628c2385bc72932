"""Plan snapshots: `pytest --update-plans` writes their outputs anew; CI never does."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _no_energy_counters(monkeypatch):
    """Outcomes must not depend on whether this machine tells its energy."""
    monkeypatch.setattr("octans.executor.power.rapl.POWERCAP", Path("no powercap here"))


def pytest_addoption(parser):
    parser.addoption(
        "--update-plans",
        action="store_true",
        help="rewrite the outputs in tests/plans/*.plan; look at the diff before you commit it",
    )


LONGEST = ("test_demo.py", "test_packaging.py", "test_deriving_session.py", "test_profile.py")
"""Begun first, so that no worker is left with one of them at the end."""


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture
def update_plans(request):
    return request.config.getoption("--update-plans")
