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
    return (
        f"{middle} ({amount(value['low'] / scale, digits)}–{amount(value['high'] / scale, digits)})"
    )


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows] + [""]


def best_rate(rates: Figures, names: list[str], sender: str) -> float | None:
    found = [rates[name][sender]["rate"] for name in names if name in rates]
    return max(found) if found else None


FLOORS = ["floor waking", "floor budgeted", "floor multishot"]


def targets(figures: Figures) -> list[list[str]]:
    """Target, measured, reached."""
    floors, rates = figures.get("floors", {}), figures.get("rates", {})
    peers, rest = figures.get("peers", {}), figures.get("rest", {})
    best = figures.get("best", {})
    cost = {name: median(numbers, "cpu_ns") for name, numbers in floors.items()}
    peer = {name: median(numbers, "cpu_ns") for name, numbers in peers.items()}
    whole = cost.get("ringside v1")
    rows: list[list[str]] = []

    def at_most(
        what: str, value: float | None, limit: float, digits: int = 2, unit: str = ""
    ) -> None:
        reached = "–" if value is None else "yes" if value <= limit else "**no**"
        rows.append(
            [f"{what}: at most {amount(limit, digits, unit)}", amount(value, digits, unit), reached]
        )

    def at_least(what: str, value: float | None, limit: float) -> None:
        reached = "–" if value is None else "yes" if value >= limit else "**no**"
        rows.append([f"{what}: at least {limit}", amount(value, 2), reached])

    rate = amount(figures.get("rate"))
    at_most(
        "drain only, CPU against the raw multishot loop",
        ratio(cost.get("stage drain"), cost.get("floor multishot")),
        1.15,
    )
    for sender in ("sendmmsg", "UDP_SEGMENT"):
        mine = best_rate(rates, ["stage drain"], sender)
        at_least(
            f"drain only, lossless rate against the best floor's ({sender})",
            ratio(mine, best_rate(rates, FLOORS, sender)),
            0.9,
        )
    at_most(f"into InfluxDB 1 at {rate}/s, µs per event", whole / 1000 if whole else None, 2.1)
    at_most("the same against the waking loop", ratio(whole, cost.get("floor waking")), 1.5)
    at_most(
        "the same against the loop with the time budget",
        ratio(whole, cost.get("floor budgeted")),
        2,
    )
    for form in ("ndjson", "v1"):
        name = f"ringside {form}"
        at_most(
            f"CPU per delivered event at 50 000/s, {form} against rsyslog",
            ratio(peer.get(name), peer.get("rsyslog")),
            0.5,
        )
        at_most(
            f"CPU per delivered event at 50 000/s, {form} against syslog-ng",
            ratio(peer.get(name), peer.get("syslog-ng")),
            1 / 6,
        )
        own, other = best.get(name, {}).get("rate"), best.get("rsyslog", {}).get("rate")
        at_least(f"highest lossless rate, {form} against rsyslog's", ratio(own, other), 1.0)
    at_most("system calls per event at 200 000/s", rest.get("syscalls_per_event"), 0.05, 3)
    at_most("context switches per second at idle", rest.get("idle_switches_per_second"), 20, 1)
    at_most(
        "resident at 100 000/s", rest.get("memory_at_100000", {}).get("rss_peak_mib"), 64, 0, " MiB"
    )
    at_most("start to `ready`", rest.get("ready_ms"), 100, 0, " ms")
    half = percentiles(figures.get("latency", {}).get("50", {}).get("to batch"))
    at_most(
        "p99 from the sender's clock to the open batch at half the highest rate",
        half["p99_us"] / 1000 if half else None,
        2,
        2,
        " ms",
    )
    return rows


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
            lost = (
                f"{twice['lost'] / twice['sent']:.1%} at {amount(twice['rate'])}/s"
                if twice
                else "–"
            )
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
            cells = [
                amount(found[key]) if found else "–" for key in ("p50_us", "p99_us", "p999_us")
            ]
            rows.append(
                [f"{percent} %", name, spread(numbers, "rate"), spread(numbers, "lost"), *cells]
            )
    note = (
        f"In µs from the sender's clock, at parts of {amount(latency['of'])} events/s. A batch for InfluxDB leaves when it "
        "is full, or a second after its first event: at low rates that second is what an event waits for."
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
        f"- {machine['cores']} cores, {machine['cpu']}, Linux {machine['kernel']}; sender, receiver and sink share them",
        f"- commit {machine['commit']}",
        f"- `net.core.rmem_max` {machine['rmem_max']}: so large is the socket buffer of all where peers are compared; elsewhere 32 MiB",
        f"- load before: {machine['load_before']:.1f}",
    ]
    if figures.get("missing"):
        lines.append(f"- not installed here: {', '.join(figures['missing'])}")
    if figures.get("interrupted"):
        lines.append("- **interrupted**: not everything was measured")
    lines += ["", "## Targets", "", *table(["target", "measured", "reached"], targets(figures))]
    if "floors" in figures:
        lines += costs(
            "Floors and stages",
            "Each does all that the one before it does.",
            figures["floors"],
            "floor waking",
        )
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
