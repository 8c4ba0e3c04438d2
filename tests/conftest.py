"""What holds for every test: a skip is loud in CI, and hypothesis repeats itself there."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

IN_CI = bool(os.environ.get("CI"))
# Each area keeps its fixtures in a file of its own beside this one.
pytest_plugins = [f"tests.{path.stem}" for path in sorted(Path(__file__).parent.glob("fixtures_*.py"))]

# No deadline: the machine is shared, and a slow example is no wrong one.
settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if IN_CI else "dev")


# The long ones first: at the end the short ones keep both processes busy.
_FOLDERS = ("chaos", "e2e", "integration")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the folders whose tests take long; within a folder the order stays as random as it was."""
    items.sort(key=lambda item: _FOLDERS.index(item.path.parent.name) if item.path.parent.name in _FOLDERS else 9)


def skipped_tests(config: pytest.Config) -> list[str]:
    """Return each skipped test or file with its reason."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    reports = reporter.stats.get("skipped", []) if reporter else []
    return [f"{report.nodeid}: {_reason(report)}" for report in reports]


def _reason(report: pytest.CollectReport | pytest.TestReport) -> str:
    longrepr = report.longrepr
    return str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run in CI that skipped a test: a rule that was not tried does not hold."""
    if IN_CI and session.exitstatus == pytest.ExitCode.OK and skipped_tests(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """List what a run in CI skipped."""
    skipped = skipped_tests(config)
    if IN_CI and skipped:
        terminalreporter.section("skipped in CI: the run fails", red=True)
        for line in skipped:
            terminalreporter.line(line)
