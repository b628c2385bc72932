"""Plan snapshots: `pytest --update-plans` writes their outputs anew; CI never does."""

import pytest
from octans.executor.power import rapl


@pytest.fixture(autouse=True)
def _no_counters(monkeypatch, tmp_path_factory):
    """Outcomes must not depend on whether this machine tells its energy."""
    if not hasattr(_no_counters, "root"):
        _no_counters.root = tmp_path_factory.mktemp("no_powercap")
    monkeypatch.setattr(rapl, "POWERCAP", _no_counters.root)


def pytest_addoption(parser):
    parser.addoption(
        "--update-plans",
        action="store_true",
        help="rewrite the outputs in tests/plans/*.plan; look at the diff before you commit it",
    )


@pytest.fixture
def update_plans(request):
    return request.config.getoption("--update-plans")
