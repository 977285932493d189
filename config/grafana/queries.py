"""What a panel asks for, and how InfluxQL, Flux and SQL say it.

The names are those of the series that Ringside writes (docs/metrics.md and `src/deliver/influxdb`).
Where InfluxDB 3 has another name for a field, `IN_VERSION_3` says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Fields that are called otherwise in InfluxDB 3, where a field cannot have the name of a tag.
IN_VERSION_3 = {
    ("user_events", "userFull"): "userFull_field",
    ("user_events", "userId"): "userId_field",
    ("log_event", "app_name"): "app_name_field",
}

# Measurements whose tag `host` is a Sense server, so that the variable `host` chooses among them.
OF_SENSE_HOSTS = {"user_events", "log_event", "event_count"}

# Stands for the tag that the variable `app` names: `app_name` or `app_id`.
APP = "${app}"


@dataclass(frozen=True)
class Has:
    """A tag has a value: one of several, separated by `|`."""

    tag: str
    value: str

    def influxql(self) -> str:
        if "|" in self.value:
            return f'"{self.tag}" =~ /^({self.value})$/'
        return f"\"{self.tag}\" = '{self.value}'"

    def flux(self) -> str:
        several = "|" in self.value
        return f"r.{self.tag} =~ /^({self.value})$/" if several else f'r.{self.tag} == "{self.value}"'

    def sql(self) -> str:
        if "|" not in self.value:
            return f"\"{self.tag}\" = '{self.value}'"
        values = ", ".join(f"'{value}'" for value in self.value.split("|"))
        return f'"{self.tag}" IN ({values})'


@dataclass(frozen=True)
class Numbers:
    """A number made of the values of a field: one, one for each value of tags, or one over time."""

    name: str
    measurement: str
    field: str
    how: str  # count, sum, mean, max, or distinct: how many values there are
    where: tuple[Has, ...] = ()
    by: tuple[str, ...] = ()

    def influxql(self, over_time: bool) -> dict[str, Any]:
        call = f'count(distinct("{self.field}"))' if self.how == "distinct" else f'{self.how}("{self.field}")'
        groups = [f'"{tag}"' for tag in self.by]
        if over_time:
            groups.insert(0, "time($__interval)")
        text = f'SELECT {call} AS "{self.name}" FROM "{self.measurement}" WHERE {_influxql_where(self)}'
        if groups:
            text += " GROUP BY " + ", ".join(groups)
        if over_time:
            text += " fill(0)" if self.how in ("count", "sum", "distinct") else " fill(none)"
        labels = " ".join(f"[[tag_{tag}]]" for tag in self.by)
        target: dict[str, Any] = {"query": text, "rawQuery": True, "resultFormat": "time_series"}
        if over_time:
            return target | {"alias": labels or self.name}
        return target | ({"resultFormat": "table"} if self.by else {"alias": self.name})

    def flux(self, over_time: bool) -> dict[str, Any]:
        groups = ", ".join(f'"{tag}"' for tag in self.by)
        lines = _flux_from(self, f'r._field == "{self.field}"')
        lines.append(f"group(columns: [{groups}])" if groups else "group()")
        every = "every: v.windowPeriod, createEmpty: false"
        if not over_time:
            # Distinct values are a column `_value`, too.
            lines.append(
                'distinct(column: "_value") |> count()' if self.how == "distinct" else f"{self.how}()"
            )
            lines.append("group()")
        elif self.how == "distinct":
            distinct = "(column, tables=<-) => tables |> distinct(column: column) |> count()"
            lines.append(f"aggregateWindow({every}, fn: {distinct})")
        else:
            lines.append(f"aggregateWindow({every}, fn: {self.how})")
        lines.append(f'rename(columns: {{_value: "{self.name}"}})')
        kept = (["_time"] if over_time else []) + list(self.by) + [self.name]
        lines.append("keep(columns: [" + ", ".join(f'"{column}"' for column in kept) + "])")
        if APP in self.by:
            # The other form of `rename` fails where the column is missing.
            lines.append(f'rename(fn: (column) => if column == "{APP}" then "app" else column)')
        return {"query": "\n  |> ".join(lines)}

    def sql(self, over_time: bool) -> dict[str, Any]:
        field = _version_3(self.measurement, self.field)
        call = f'count(DISTINCT "{field}")' if self.how == "distinct" else f'{_SQL[self.how]}("{field}")'
        columns = [f'"{tag}" AS "app"' if tag == APP else f'"{tag}"' for tag in self.by]
        if over_time:
            columns.insert(0, '$__dateBin(time) AS "time"')
        groups = ", ".join(str(n + 1) for n in range(len(columns)))
        columns.append(f'{call} AS "{self.name}"')
        text = f'SELECT {", ".join(columns)} FROM "{self.measurement}" WHERE {_sql_where(self)}'
        text += f' AND "{field}" IS NOT NULL'
        if groups:
            text += f" GROUP BY {groups}"
        if over_time:
            text += " ORDER BY 1"
        return _sql_target(text, "time_series" if over_time else "table")


@dataclass(frozen=True)
class Rows:
    """Single events: the newest, or those with the largest value of a field."""

    measurement: str
    tags: tuple[str, ...]
    fields: tuple[str, ...]
    where: tuple[Has, ...] = ()
    largest: str = ""
    limit: int = 100

    def influxql(self, over_time: bool) -> dict[str, Any]:
        del over_time
        columns = [f'"{tag}"::tag' for tag in self.tags] + [f'"{field}"::field' for field in self.fields]
        if self.largest:
            columns.insert(0, f'top("{self.largest}", {self.limit}) AS "{self.largest}"')
        text = f'SELECT {", ".join(columns)} FROM "{self.measurement}" WHERE {_influxql_where(self)}'
        if not self.largest:
            text += f" ORDER BY time DESC LIMIT {self.limit}"
        return {"query": text, "rawQuery": True, "resultFormat": "table"}

    def flux(self, over_time: bool) -> dict[str, Any]:
        del over_time
        fields = ([self.largest] if self.largest else []) + list(self.fields)
        columns = ["_time", *self.tags, *fields]
        lines = _flux_from(self, " or ".join(f'r._field == "{field}"' for field in fields))
        lines += [
            'pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")',
            "group()",
            f'sort(columns: ["{self.largest or "_time"}"], desc: true)',
            f"limit(n: {self.limit})",
            "keep(columns: [" + ", ".join(f'"{column}"' for column in columns) + "])",
        ]
        return {"query": "\n  |> ".join(lines)}

    def sql(self, over_time: bool) -> dict[str, Any]:
        del over_time
        fields = ([self.largest] if self.largest else []) + list(self.fields)
        columns = ["time"] + [f'"{tag}"' for tag in self.tags]
        for field in fields:
            name = _version_3(self.measurement, field)
            columns.append(f'"{name}"' + (f' AS "{field}"' if name != field else ""))
        text = f'SELECT {", ".join(columns)} FROM "{self.measurement}" WHERE {_sql_where(self)}'
        text += f" ORDER BY {self.largest or 'time'} DESC LIMIT {self.limit}"
        return _sql_target(text, "table")


Question = Numbers | Rows

_SQL = {"count": "count", "sum": "sum", "mean": "avg", "max": "max"}


def _version_3(measurement: str, field: str) -> str:
    return IN_VERSION_3.get((measurement, field), field)


def _influxql_where(question: Question) -> str:
    terms = ["$timeFilter"] + [has.influxql() for has in question.where]
    if question.measurement in OF_SENSE_HOSTS:
        terms.append('"host" =~ /^$host$/')
    return " AND ".join(terms)


def _flux_from(question: Question, fields: str) -> list[str]:
    tags = [has.flux() for has in question.where]
    if question.measurement in OF_SENSE_HOSTS:
        tags.append("r.host =~ /^${host:regex}$/")
    lines = [
        "from(bucket: v.defaultBucket)",
        "range(start: v.timeRangeStart, stop: v.timeRangeStop)",
        f'filter(fn: (r) => r._measurement == "{question.measurement}" and ({fields}))',
    ]
    return lines + ([f"filter(fn: (r) => {' and '.join(tags)})"] if tags else [])


def _sql_where(question: Question) -> str:
    terms = ["$__timeFilter(time)"] + [has.sql() for has in question.where]
    if question.measurement in OF_SENSE_HOSTS:
        terms.append("\"host\" ~ '^(${host:regex})$'")
    return " AND ".join(terms)


def _sql_target(text: str, shape: str) -> dict[str, Any]:
    return {"rawSql": text, "rawQuery": True, "editorMode": "code", "format": shape, "dataset": "iox"}
