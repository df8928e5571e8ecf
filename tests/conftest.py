"""What all tests share: a working directory that is thrown away, order between processes, no silent gaps."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.database import DirectoryBasedExampleDatabase

CHECKOUT = Path(__file__).parent.parent

# Machines under load are slow without being wrong.
settings.register_profile(
    "project", deadline=None, database=DirectoryBasedExampleDatabase(CHECKOUT / ".hypothesis" / "examples")
)
settings.load_profile("project")

# Programs started by tests find the package from any directory, installed or not.
os.environ["PYTHONPATH"] = os.pathsep.join(
    dict.fromkeys([str(CHECKOUT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])
)


@pytest.fixture(scope="session", autouse=True)
def scratch_directory() -> Iterator[None]:
    """Trial's `mktemp` makes directories where the tests run; they are not to stay in the checkout."""
    before = os.getcwd()
    # A short name: unix sockets in it have at most 107 bytes.
    directory = tempfile.mkdtemp(prefix="gt-", dir="/tmp")
    os.chdir(directory)
    yield
    os.chdir(before)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several processes, a file stays together; guests are booted one after the other."""
    for item in items:
        is_system = item.get_closest_marker("system") is not None
        group = "system" if is_system else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))


def is_ci() -> bool:
    """Whether every tool must be there."""
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


def refused_skip(report: Any) -> None:
    """Make a failure of a skipped test, with the reason."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"not run, and with CI=true that is a failure: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI nothing is skipped for want of a tool."""
    report = yield
    if report.skipped and is_ci() and not hasattr(report, "wasxfail"):
        refused_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for whole files."""
    report = yield
    if report.outcome == "skipped" and is_ci():
        refused_skip(report)
    return report
