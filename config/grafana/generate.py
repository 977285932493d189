#!/usr/bin/env python3
"""Writes the dashboards of this folder: one table of panels, in the three languages of InfluxDB, and
one of Ringside's own metrics. Python's standard library only.

    config/grafana/generate.py            writes dashboards/*.json
    config/grafana/generate.py --check    fails when a file is not what would be written
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from panels import EVENTS, METRICS, Panel
from queries import APP, Numbers, Question

FOLDER = Path(__file__).parent / "dashboards"
SCHEMA_VERSION = 39  # of Grafana 11
WIDTH = 24  # columns of Grafana's grid

Json = dict[str, Any]


@dataclass(frozen=True)
class Language:
    """One dashboard of events."""

    name: str  # as in InfluxDB's documents
    method: str  # of queries.Question
    hosts: Json  # the query of the variable `host`

    def target(self, question: Question, over_time: bool) -> Json:
        write: Callable[[bool], Json] = getattr(question, self.method)
        return write(over_time)


HOSTS_INFLUXQL = 'SHOW TAG VALUES FROM "log_event" WITH KEY = "host"'
HOSTS_FLUX = """import "influxdata/influxdb/schema"
schema.tagValues(bucket: v.defaultBucket, tag: "host", predicate: (r) => r._measurement == "log_event")"""
HOSTS_SQL = 'SELECT DISTINCT "host" FROM "log_event" WHERE $__timeFilter(time) ORDER BY 1'

LANGUAGES = (
    Language("InfluxQL", "influxql", {"query": HOSTS_INFLUXQL}),
    Language("Flux", "flux", {"query": HOSTS_FLUX}),
    Language(
        "SQL", "sql", {"query": {"refId": "host", "rawSql": HOSTS_SQL, "rawQuery": True, "format": "table"}}
    ),
)


def source(kind: str) -> Json:
    return {"type": kind, "uid": "${datasource}"}


def events_panel(panel: Panel, language: Language) -> Json:
    over_time = panel.kind == "timeseries"
    targets: list[Json] = []
    for letter, question in zip("ABCDEFGH", panel.questions):
        target = language.target(question, over_time)
        targets.append({"refId": letter, "datasource": source("influxdb")} | target)
    written = frame(panel, "influxdb", targets)
    first = panel.questions[0]
    if over_time and isinstance(first, Numbers) and first.by and language.name != "InfluxQL":
        labels = ("app" if tag == APP else tag for tag in first.by)
        defaults(written)["displayName"] = " ".join(f"${{__field.labels.{label}}}" for label in labels)
    if panel.kind == "table" and isinstance(first, Numbers):
        written["transformations"] = [
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {"excludeByName": {"Time": True, "time": True}}},
            {"id": "sortBy", "options": {"sort": [{"field": first.name, "desc": True}]}},
            {"id": "limit", "options": {"limitField": 50}},
        ]
    return written


def metrics_panel(panel: Panel) -> Json:
    over_time = panel.kind == "timeseries"
    targets: list[Json] = []
    for letter, query in zip("ABCDEFGH", panel.queries):
        shape: Json = {"range": True} if over_time else {"instant": True, "range": False}
        if panel.kind == "table":
            shape["format"] = "table"
        targets.append(
            {
                "refId": letter,
                "datasource": source("prometheus"),
                "expr": query.expr,
                "legendFormat": query.legend or "__auto",
            }
            | shape
        )
    written = frame(panel, "prometheus", targets)
    if panel.kind == "table":
        hidden = {name: True for name in ("Time", "__name__", "job")}
        values = {f"Value #{letter}": query.legend for letter, query in zip("ABCDEFGH", panel.queries)}
        written["transformations"] = [
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {"excludeByName": hidden, "renameByName": values}},
        ]
    return written


def defaults(panel: Json) -> Json:
    found: Json = panel["fieldConfig"]["defaults"]
    return found


def frame(panel: Panel, kind: str, targets: list[Json]) -> Json:
    """All of a panel but where it lies."""
    field: Json = {"unit": panel.unit, "noValue": "0" if panel.kind == "stat" else "-"}
    steps: list[Json] = [{"color": "green", "value": None}]
    if panel.bad_above is not None:
        steps.append({"color": "red", "value": panel.bad_above})
    field["thresholds"] = {"mode": "absolute", "steps": steps}
    options: Json = {}
    if panel.kind == "timeseries":
        style = "bars" if panel.stacked else "line"
        stacking = {"mode": "normal" if panel.stacked else "none", "group": "A"}
        field["custom"] = {
            "drawStyle": style,
            "fillOpacity": 60 if panel.stacked else 10,
            "stacking": stacking,
        }
        options = {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    elif panel.kind == "stat":
        reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        color = "background" if panel.bad_above is not None else "value"
        options = {"reduceOptions": reduce, "colorMode": color, "graphMode": "none", "textMode": "auto"}
    else:
        field["custom"] = {"filterable": True}
        options = {"showHeader": True, "cellHeight": "sm"}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": source(kind),
        "interval": "1m" if kind == "influxdb" else "",
        "targets": targets,
        "fieldConfig": {"defaults": field, "overrides": []},
        "options": options,
    }


def laid_out(rows: dict[str, tuple[Panel, ...]], write: Callable[[Panel], Json]) -> list[Json]:
    """The panels from left to right, a line under each row's title, with numbers as ids."""
    panels: list[Json] = []
    y = 0
    for title, row in rows.items():
        place = {"x": 0, "y": y, "w": WIDTH, "h": 1}
        panels.append(
            {"id": len(panels) + 1, "type": "row", "title": title, "collapsed": False, "panels": []}
        )
        panels[-1]["gridPos"] = place
        x, y, height = 0, y + 1, 0
        for panel in row:
            if x + panel.width > WIDTH:
                x, y, height = 0, y + height, 0
            place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
            panels.append({"id": len(panels) + 1, "gridPos": place} | write(panel))
            x, height = x + panel.width, max(height, panel.height)
        y += height
    return panels


def variable(name: str, kind: str, label: str, more: Json) -> Json:
    return {"name": name, "type": kind, "label": label, "hide": 0} | more


def chosen_source(kind: str) -> Json:
    return variable("datasource", "datasource", "Data source", {"query": kind, "refresh": 1, "current": {}})


def several(query: Json, kind: str) -> Json:
    """A variable with the values that a query gives, of which all are chosen at first."""
    return {
        "datasource": source(kind),
        "refresh": 2,  # with the time range
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    } | query


def events_variables(language: Language) -> list[Json]:
    apps = [("name", "app_name"), ("id", "app_id")]
    options = [{"selected": text == "name", "text": text, "value": value} for text, value in apps]
    by_app = {
        "query": ", ".join(f"{text} : {value}" for text, value in apps),
        "options": options,
        "current": options[0],
        "multi": False,
        "includeAll": False,
    }
    return [
        chosen_source("influxdb"),
        variable("host", "query", "Sense server", several(language.hosts, "influxdb")),
        variable("app", "custom", "Apps by", by_app),
    ]


def metrics_variables() -> list[Json]:
    query = "label_values(ringside_build_info, instance)"
    instances: Json = {"query": {"query": query, "refId": "instance"}, "definition": query}
    return [
        chosen_source("prometheus"),
        variable("instance", "query", "Ringside", several(instances, "prometheus")),
    ]


def dashboard(uid: str, title: str, variables: list[Json], panels: list[Json]) -> Json:
    return {
        "uid": uid,
        "title": title,
        "tags": ["ringside", "qlik-sense"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "1m",
        "timezone": "browser",
        "links": [{"type": "dashboards", "tags": ["ringside"], "title": "Ringside", "asDropdown": True}],
        "annotations": {"list": []},
        "templating": {"list": variables},
        "panels": panels,
    }


def dashboards() -> dict[str, Json]:
    """All of them, by the name of the file."""
    written = {}
    for language in LANGUAGES:
        uid = f"ringside-{language.method}"
        panels = laid_out(EVENTS, partial(events_panel, language=language))
        title = f"Qlik Sense events ({language.name})"
        written[f"{uid}.json"] = dashboard(uid, title, events_variables(language), panels)
    panels = laid_out(METRICS, metrics_panel)
    title = "Ringside itself (Prometheus)"
    written["ringside-prometheus.json"] = dashboard("ringside-prometheus", title, metrics_variables(), panels)
    return written


def main(arguments: list[str]) -> int:
    stale = []
    for name, content in dashboards().items():
        path, text = FOLDER / name, json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        if arguments == ["--check"]:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                stale.append(name)
        else:
            path.write_text(text, encoding="utf-8")
    if stale:
        print(f"run config/grafana/generate.py: not what it writes: {', '.join(stale)}", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
