"""Runs SQL on points with DataFusion, the query engine of InfluxDB 3, which itself no registry has.

The tables are as InfluxDB 3 has them: one for each measurement, tags as dictionaries of strings, fields
in their types, `time` in nanoseconds. A column that no point has is an error there, and so it is here.

Standard input: {"points": [{measurement, tags, fields, time}], "scripts": [text]}, times in seconds.
Standard output: for each script the number of its rows, and of those whose last column is neither null
nor 0; or a text that says what is wrong.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from typing import Any

import pyarrow as pa
from datafusion import SessionContext

Point = dict[str, Any]

TAG = pa.dictionary(pa.int32(), pa.string())
TYPES = {str: pa.string(), float: pa.float64(), int: pa.int64()}


def table(points: list[Point]) -> pa.RecordBatch:
    """One measurement; raises where a column would have two types, which InfluxDB 3 refuses."""
    types: dict[str, pa.DataType] = {}
    for point in points:
        columns = [(name, TAG) for name in point["tags"]]
        columns += [(name, TYPES[type(value)]) for name, value in point["fields"].items()]
        for name, kind in columns:
            if types.setdefault(name, kind) != kind:
                raise ValueError(f"{point['measurement']}.{name} is {types[name]} and {kind}")
    rows = [point["tags"] | point["fields"] for point in points]
    columns = {name: pa.array([row.get(name) for row in rows], kind) for name, kind in types.items()}
    times = [int(point["time"] * 1_000_000_000) for point in points]
    return pa.record_batch({"time": pa.array(times, pa.timestamp("ns"))} | columns)


def main() -> None:
    given = json.load(sys.stdin)
    by_measurement = defaultdict(list)
    for point in given["points"]:
        by_measurement[point["measurement"]].append(point)
    context = SessionContext()
    for measurement, points in by_measurement.items():
        context.register_record_batches(measurement, [[table(points)]])

    def run(script: str) -> tuple[int, int] | str:
        try:
            batches = context.sql(script).collect()
            values = [value for batch in batches for value in batch.columns[-1].to_pylist()]
            return len(values), sum(value not in (None, 0) for value in values)
        except Exception as error:  # noqa: BLE001 - DataFusion's errors have no class of their own
            return str(error)

    json.dump([run(script) for script in given["scripts"]], sys.stdout)


if __name__ == "__main__":
    main()
