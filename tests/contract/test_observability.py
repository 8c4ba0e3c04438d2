"""What is given to Prometheus and Grafana names metrics and alerts that exist."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from ops.alerts import AlertCode
from ops.metrics import families
from tests.snapshots import quiet

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
}
BUCKETS = "_bucket"


def known() -> dict[str, tuple[str, ...]]:
    """Return every metric as it is spelled in an expression, with its labels."""
    suffixes = {"counter": "_total", "histogram": BUCKETS, "info": "_info"}
    return {
        family.name + suffixes.get(family.type, ""): tuple(getattr(family, "_labelnames", ()))
        for family in families(quiet(), (), version="0.1.0")
    }


def expressions(node: Any) -> Iterator[str]:
    """Return every expression of a dashboard."""
    if isinstance(node, dict):
        yield from (text for name, text in node.items() if name in {"expr", "query"} and isinstance(text, str))
        node = list(node.values())
    if isinstance(node, list):
        for each in node:
            yield from expressions(each)


def used(expression: str) -> dict[str, set[str]]:
    """Return the metrics of an expression, each with the labels that are asked for in its braces."""
    found: dict[str, set[str]] = {}
    for name, braces in re.findall(r"\b(renewal_\w+)(?:\{([^}]*)\})?", expression):
        found.setdefault(name, set()).update(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", braces))
    return found


DASHBOARD = orjson.loads((DEPLOY / "grafana" / "dashboard.json").read_bytes())
ASKED = sorted({text for text in expressions(DASHBOARD) if "renewal_" in text} | {r["expr"] for r in RULES.values()})


@pytest.mark.parametrize("expression", ASKED)
def test_every_expression_asks_for_what_there_is(expression: str) -> None:
    """An empty panel looks like a quiet night, and a rule on a name that is gone never fires."""
    metrics, asked = known(), used(expression)
    assert asked
    assert [] == [name for name in asked if name not in metrics]
    for name, labels in asked.items():
        assert labels <= {*metrics[name], *(["le"] if name.endswith(BUCKETS) else [])}


def test_every_metric_is_on_the_dashboard() -> None:
    """A figure that nobody sees need not be counted."""
    shown = {name for expression in expressions(DASHBOARD) for name in used(expression)}
    assert {"renewal_build_info"} == set(known()) - shown


def test_the_dashboard_has_a_row_for_each_question() -> None:
    """Who is called at night looks for the row of the alert."""
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert ["Overview", "Platforms", "Dead letters", "Sweeps", "Queues and processes"] == rows
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert [] == [place for place in places if place["x"] + place["w"] > 24]
    assert len(places) == len({panel["id"] for panel in DASHBOARD["panels"]})


def test_every_alert_has_one_rule_with_its_severity_and_page() -> None:
    """What `renewal alerts` tells is what calls somebody."""
    rules = dict(RULES)
    assert "critical" == rules.pop("RenewalNotScraped")["labels"]["severity"]
    expected = {f"Renewal{code.title().replace('_', '')}": code for code in AlertCode}
    assert set(expected) == set(rules)
    for name, code in expected.items():
        assert f'renewal_alerts{{code="{code}"}}' in rules[name]["expr"]
        assert {"severity": code.severity.value} == rules[name]["labels"]
        assert code.runbook == rules[name]["annotations"]["runbook_url"]


def test_every_rule_is_tried() -> None:
    """`promtool test rules` says nothing of a rule that no test names."""
    tests = yaml.safe_load((DEPLOY / "prometheus" / "rules.test.yml").read_text(encoding="utf-8"))["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert set(RULES) == fired
