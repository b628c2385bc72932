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


@pytest.fixture
def update_plans(request):
    return request.config.getoption("--update-plans")
