"""The suite's figures as Markdown: the targets first, then a table for each part that was measured."""

from __future__ import annotations

from typing import Any

Figures = dict[str, Any]


def median(numbers: Figures | None, key: str) -> float | None:
    """The median of one number of one subject, if there is one."""
    value = (numbers or {}).get(key)
    return value["median"] if isinstance(value, dict) and "median" in value else None


def ratio(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None


def amount(value: float | None, digits: int = 0, unit: str = "") -> str:
    return "not measured" if value is None else f"{value:,.{digits}f}{unit}".replace(",", " ")


def spread(numbers: Figures, key: str, scale: float = 1, digits: int = 0) -> str:
    """Median and, of several runs, the range."""
    value = numbers.get(key)
    if not isinstance(value, dict) or "median" not in value:
        return "–"
    middle = amount(value["median"] / scale, digits)
    if value["low"] == value["high"]:
        return middle
    return f"{middle} ({amount(value['low'] / scale, digits)}–{amount(value['high'] / scale, digits)})"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows] + [""]


def best_rate(rates: Figures, names: list[str], sender: str) -> float | None:
    found = [rates[name][sender]["rate"] for name in names if name in rates]
    return max(found) if found else None


FLOORS = ["floor waking", "floor budgeted", "floor multishot"]


class Targets:
    """Rows of what is to be reached, what was measured, and whether it is enough.

    What was not measured has no row."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = []

    def at_most(self, what: str, value: float | None, limit: float, digits: int = 2, unit: str = "") -> None:
        if value is not None:
            reached = "yes" if value <= limit else "**no**"
            bound = f"at most {amount(limit, digits, unit)}"
            self.rows.append([what, bound, amount(value, digits, unit), reached])

    def at_least(self, what: str, value: float | None, limit: float) -> None:
        if value is not None:
            reached = "yes" if value >= limit else "**no**"
            self.rows.append([what, f"at least {amount(limit, 1)}", amount(value, 2), reached])


def against_floors(rows: Targets, figures: Figures) -> None:
    """What is held against the kernel's own cost."""
    for sender, subjects in figures.get("floors", {}).items():
        cost = {name: median(numbers, "cpu_ns") for name, numbers in subjects.items()}
        whole, drain = cost.get("ringside v1"), cost.get("stage drain")
        rate = amount(median(subjects.get("ringside v1"), "rate"))
        rows.at_most(
            f"drain only, CPU against the raw multishot loop ({sender})",
            ratio(drain, cost.get("floor multishot")),
            1.15,
        )
        rows.at_most(
            f"into InfluxDB 1 at {rate}/s ({sender})", whole / 1000 if whole else None, 2.1, 2, " µs"
        )
        rows.at_most("the same against the waking loop", ratio(whole, cost.get("floor waking")), 1.5)
        rows.at_most(
            "the same against the loop with the time budget", ratio(whole, cost.get("floor budgeted")), 2
        )
    rates = figures.get("rates", {})
    for sender in ("sendmmsg", "UDP_SEGMENT"):
        mine = best_rate(rates, ["stage drain"], sender)
        rows.at_least(
            f"drain only, lossless rate against the best floor's ({sender})",
            ratio(mine, best_rate(rates, FLOORS, sender)),
            0.9,
        )


def against_peers(rows: Targets, figures: Figures) -> None:
    """What is held against other receivers."""
    cost = {name: median(numbers, "cpu_ns") for name, numbers in figures.get("peers", {}).items()}
    best = figures.get("best", {})
    for form, place in (("ndjson", "JSON lines"), ("v1", "InfluxDB 1")):
        own = cost.get(f"ringside {form}")
        rows.at_most(f"into {place} at 50 000/s, CPU against rsyslog's", ratio(own, cost.get("rsyslog")), 0.5)
        rows.at_most(
            f"into {place} at 50 000/s, CPU against syslog-ng's", ratio(own, cost.get("syslog-ng")), 1 / 6
        )
        rate, other = best.get(f"ringside {form}", {}).get("rate"), best.get("rsyslog", {}).get("rate")
        rows.at_least(f"into {place}, highest lossless rate against rsyslog's", ratio(rate, other), 1)


def targets(figures: Figures) -> list[list[str]]:
    """Target, bound, measured, reached."""
    rows = Targets()
    against_floors(rows, figures)
    against_peers(rows, figures)
    rest = figures.get("rest", {})
    memory = rest.get("memory_at_100000", {}).get("rss_peak_mib")
    half = percentiles(figures.get("latency", {}).get("50", {}).get("to batch"))
    late = half["p99_us"] / 1000 if half else None
    rows.at_most("system calls per event at 200 000/s", rest.get("syscalls_per_event"), 0.05, 3)
    rows.at_most("context switches per second at idle", rest.get("idle_switches_per_second"), 20)
    rows.at_most("resident at 100 000/s", memory, 64, 0, " MiB")
    rows.at_most("start to `ready`", rest.get("ready_ms"), 100, 0, " ms")
    rows.at_most("p99 from the sender's clock to the open batch, at half the highest rate", late, 2, 2, " ms")
    return rows.rows


def percentiles(numbers: Figures | None) -> Figures | None:
    """Medians over the runs of each percentile."""
    runs = [run["latency"] for run in (numbers or {}).get("runs", []) if run.get("latency")]
    runs = [run for run in runs if run["count"]]
    if not runs:
        return None
    keys = ("p50_us", "p99_us", "p999_us")
    return {key: sorted(run[key] for run in runs)[len(runs) // 2] for key in keys}


def costs(title: str, note: str, subjects: Figures, base: str = "") -> list[str]:
    """What an event costs, by subject."""
    first = median(subjects.get(base), "cpu_ns")
    rows = []
    for name, numbers in subjects.items():
        part = ratio(median(numbers, "cpu_ns"), first)
        rows.append(
            [
                name,
                spread(numbers, "rate"),
                spread(numbers, "lost"),
                spread(numbers, "cpu_ns"),
                spread(numbers, "user_ns"),
                spread(numbers, "system_ns"),
                amount(part, 2) if part else "–",
                spread(numbers, "rss_peak_mib"),
            ]
        )
    head = [
        "",
        "sent/s",
        "lost",
        "CPU ns/event",
        "user",
        "system",
        f"against {base}" if first else "",
        "peak MiB",
    ]
    return [f"## {title}", "", note, "", *table(head, rows)]


def rates_table(title: str, rates: Figures) -> list[str]:
    rows = []
    for name, senders in rates.items():
        for sender, entry in (senders if "rate" not in senders else {"sendmmsg": senders}).items():
            twice = entry.get("twice")
            lost = f"{twice['lost'] / twice['sent']:.1%} at {amount(twice['rate'])}/s" if twice else "–"
            more = "at least " if entry["limit"] == "sender" else ""
            rows.append([name, sender, more + amount(entry["rate"]), entry["limit"], lost])
    note = (
        "Found by bisection; *limit* says who could not do more. A sender that is the limit tells what the "
        "receiver can take at least. Both share the cores, so a receiver that costs more slows the sender too."
    )
    return [
        f"## {title}",
        "",
        note,
        "",
        *table(["", "sender", "events/s", "limit", "loss at twice that"], rows),
    ]


def latency_table(latency: Figures) -> list[str]:
    rows = []
    for percent in ("10", "50", "90"):
        for name, numbers in latency.get(percent, {}).items():
            found = percentiles(numbers)
            cells = [amount(found[key]) if found else "–" for key in ("p50_us", "p99_us", "p999_us")]
            rows.append([f"{percent} %", name, spread(numbers, "rate"), spread(numbers, "lost"), *cells])
    note = (
        f"In µs from the sender's clock, at parts of {amount(latency['of'])} events/s. A batch for "
        "InfluxDB leaves when it is full, or a second after its first event: at low rates that second is what an event waits for."
    )
    return [
        "## Latency",
        "",
        note,
        "",
        *table(["rate", "", "sent/s", "lost", "p50", "p99", "p99.9"], rows),
    ]


def shapes_table(shapes: Figures) -> list[str]:
    rows = []
    for shape, subjects in shapes.items():
        first = median(subjects.get("floor multishot"), "cpu_ns")
        for name, numbers in subjects.items():
            cells = [spread(numbers, key) for key in ("rate", "lost", "cpu_ns")]
            part = ratio(median(numbers, "cpu_ns"), first)
            memory = spread(numbers, "rss_peak_mib")
            rows.append([shape, name, *cells, amount(part, 2), memory])
    head = ["", "", "sent/s", "lost", "CPU ns/event", "against the floor", "peak MiB"]
    note = "Bursts come as fast as the sender can, into silence."
    return ["## Sizes, sources, bursts", "", note, "", *table(head, rows)]


def rest_table(rest: Figures) -> list[str]:
    memory = rest.get("memory_at_100000", {})
    rows = [
        ["system calls per event at 200 000/s", amount(rest.get("syscalls_per_event"), 4)],
        [
            "context switches per second at idle, all threads",
            amount(rest.get("idle_switches_per_second"), 1),
        ],
        ["start to `ready`", amount(rest.get("ready_ms"), 0, " ms")],
        ["most memory resident, at 100 000/s", amount(memory.get("rss_peak_mib"), 1, " MiB")],
        ["memory resident afterwards", amount(memory.get("rss_mib"), 1, " MiB")],
    ]
    return ["## At rest and at start", "", *table(["", ""], rows)]


def markdown(figures: Figures) -> str:
    machine = figures["machine"]
    how = (
        f"`{figures['command']}`, {figures['minutes']:.0f} minutes; medians of {figures['rounds']} "
        f"rounds of {figures['seconds']:g} s, lowest and highest in brackets."
    )
    lines = [
        f"# Measured on {figures['began'][:10]}",
        "",
        how,
        "",
        f"- {machine['cores']} cores ({machine['cpu']}) for sender, receiver and sink; Linux {machine['kernel']}",
        f"- commit {machine['commit']}",
        f"- socket buffer 32 MiB, with peers at most `net.core.rmem_max`: {machine['rmem_max']}",
        f"- load before: {machine['load_before']:.1f}",
    ]
    if figures.get("missing"):
        lines.append(f"- not installed here: {', '.join(figures['missing'])}")
    if figures.get("interrupted"):
        lines.append("- **interrupted**: not everything was measured")
    lines.append("")
    if reached := targets(figures):
        lines += [
            "## Targets",
            "",
            *table(["target", "", "measured", "reached"], reached),
            "Parsing against `memchr` is measured by `cargo bench --bench event`; that no event allocates is a test",
            "(`tests/allocations.rs`).",
            "",
        ]
    for sender, subjects in figures.get("floors", {}).items():
        note = "Each stage does all that the one before it does."
        lines += costs(f"Floors and stages, {sender}", note, subjects, "floor waking")
    if "destinations" in figures:
        lines += costs(
            "Destinations",
            "The whole program; 2 and 3 with gzip, `slow` answers after 20 ms.",
            figures["destinations"],
            "ringside v1",
        )
    if "rates" in figures:
        lines += rates_table("Highest lossless rate", figures["rates"])
    if "latency" in figures:
        lines += latency_table(figures["latency"])
    if "shapes" in figures:
        lines += shapes_table(figures["shapes"])
    if "rest" in figures:
        lines += rest_table(figures["rest"])
    if "peers" in figures:
        note = (
            "Same events and sink form (JSON lines to memory), and beside it Ringside into InfluxDB 1. Ringside also "
            "validates every column and carries the original text; the others only split. Per *delivered* event."
        )
        lines += costs("Peers at 50 000/s", note, figures["peers"], "rsyslog")
    if "best" in figures:
        lines += rates_table("Peers at their best", figures["best"])
    for target, numbers in figures.get("other", {}).items():
        lines += costs(target, "What it lost is not known from outside.", {target: numbers})
    return "\n".join(lines)
