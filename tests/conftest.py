"""Plan snapshots: `pytest --update-plans` writes their outputs anew; CI never does."""

import pytest


def pytest_addoption(parser):
    parser.addoption(
        "--update-plans",
        action="store_true",
        help="rewrite the outputs in tests/plans/*.plan; look at the diff before you commit it",
    )


@pytest.fixture
def update_plans(request):
    return request.config.getoption("--update-plans")
