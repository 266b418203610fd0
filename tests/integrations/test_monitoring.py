"""The dashboard and the alerts of `docs/monitoring`: they ask for what the hook reports."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, cast

import pytest
import yaml
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import REGISTRY, generate_latest

from tests.support.pages import DOCS, find_blocks
from wxpay_async import __version__
from wxpay_async.engine.telemetry import Event, EventKind
from wxpay_async.errors import ClockSkewError, ConfigurationRefusedError
from wxpay_async.integrations import opentelemetry
from wxpay_async.integrations.opentelemetry import OpenTelemetryHook
from wxpay_async.protocol.error_codes import CODES

FOLDER: Final = DOCS / "monitoring"
PAGE: Final = DOCS / "monitoring.md"
NAME: Final = re.compile(r"\b(?:wxpay|http_client)_[a-z_]+")
CHOICE: Final = re.compile(r'wxpay_code=~"([^"]+)"')


def report_everything(hook: OpenTelemetryHook) -> None:
    """Let a hook hear of one thing of each kind."""
    for kind in EventKind:
        hook(
            Event(
                kind=kind,
                operation="pay",
                app_key="k",
                request_id="r",
                fate="refused",
                code="CO_MSG_000006",
                seconds=0.1,
                attempt=1,
                shared=True,
                url="https://platform.example/api",
                status=200,
                waited_for="quota",
                quota_in_use=3,
                quota_held={"people": 1},
            )
        )


@cache
def list_exported() -> frozenset[str]:
    """Return the names of metrics and labels, as Prometheus reads them."""
    reader = PrometheusMetricReader()
    provider = MeterProvider([reader])
    report_everything(OpenTelemetryHook(meter=provider.get_meter("wxpay_async")))
    text = generate_latest(REGISTRY).decode()
    provider.shutdown()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    # A doubt that opened and closed leaves its gauge at 0, which is exported all the same.
    return frozenset(name for line in lines for name in re.findall(r"[a-zA-Z_]+(?=[{=])", line))


def read_rules() -> list[dict[str, Any]]:
    """Return the alerts."""
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def read_panels() -> list[dict[str, Any]]:
    """Return the panels of the dashboard."""
    return cast("list[dict[str, Any]]", json.loads((FOLDER / "grafana.json").read_text())["panels"])


def list_queries() -> Iterator[str]:
    """Yield every query of both files, and of the page."""
    yield from (rule["expr"] for rule in read_rules())
    blocks = [block.text for block in find_blocks(PAGE) if block.language == "yaml"]
    yield from (rule["expr"] for text in blocks for rule in yaml.safe_load(text))
    yield from (target["expr"] for panel in read_panels() for target in panel["targets"])


@pytest.mark.parametrize("query", list(list_queries()))
def test_query_asks_for_what_is_reported(query: str) -> None:
    """Each metric and each label exists; a name that was changed shows nothing, for ever."""
    bare = re.sub(r'"[^"]*"', '""', query)
    names = set(NAME.findall(bare)) | set(re.findall(r"[a-z_]+(?=!?=~?\")", bare))

    assert names
    assert set() == names - list_exported()


def test_made_up_metric_is_found() -> None:
    """The check above goes red."""
    assert "wxpay_outcomes_total" in list_exported()
    assert "wxpay_outcome_total" not in list_exported()


def test_alert_of_a_misconfiguration_has_every_code_that_means_one() -> None:
    """And none that means something else."""
    (rule,) = [each for each in read_rules() if each["alert"] == "WxpayMisconfigured"]
    (choice,) = CHOICE.findall(rule["expr"])
    kinds = (ClockSkewError, ConfigurationRefusedError)
    meant = {code for code, (kind, _) in CODES.items() if issubclass(kind, kinds)}

    assert meant == {code for code in CODES if re.fullmatch(choice, code)}


def test_alerts_are_the_ones_that_the_document_explains() -> None:
    """Each says what to do, and where a command is named, it exists."""
    text = PAGE.read_text()
    rules = read_rules()

    assert {rule["alert"] for rule in rules} == set(
        re.findall(r"^\| `(Wxpay\w+)`", text, re.MULTILINE)
    )
    assert all(rule["annotations"]["todo"] and rule["labels"]["severity"] for rule in rules)


def test_panels_do_not_overlap() -> None:
    """Each has a place and a title of its own, and says what it shows."""
    panels = read_panels()

    assert len(panels) == len({(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels})
    assert len(panels) == len({p["title"] for p in panels}) == len({p["id"] for p in panels})
    assert all(panel["description"] for panel in panels)


def test_scope_has_the_version_and_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend then knows which conventions the names follow."""
    reader = InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider([reader])
    monkeypatch.setattr(opentelemetry.trace, "get_tracer", tracers.get_tracer)
    monkeypatch.setattr(opentelemetry.metrics, "get_meter", meters.get_meter)
    report_everything(OpenTelemetryHook())

    data = reader.get_metrics_data()
    assert data is not None
    (scope,) = [each for resource in data.resource_metrics for each in resource.scope_metrics]
    assert ("wxpay_async", __version__) == (scope.scope.name, scope.scope.version)
    assert str(scope.schema_url).startswith("https://opentelemetry.io/schemas/1.")
    assert all(str(metric.description).endswith(".") for metric in scope.metrics)
    meters.shutdown()
