"""The panels, row by row: what they ask, not how (queries.py) nor how they look (generate.py).

The first row of each dashboard answers what is asked first: who is on the system, what fails, what is
slow, what is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from queries import APP, Has, Numbers, Question, Rows


@dataclass(frozen=True)
class Query:
    """One expression of PromQL."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    title: str
    description: str
    kind: str  # stat, timeseries or table
    questions: tuple[Question, ...] = ()
    queries: tuple[Query, ...] = ()
    unit: str = "short"
    width: int = 12
    height: int = 8
    stacked: bool = False
    bad_above: float | None = None  # a stat is red from here on


def stat(
    title: str,
    description: str,
    *asked: Question | Query,
    bad_above: float | None = None,
    unit: str = "short",
) -> Panel:
    return _panel("stat", title, description, asked, width=4, height=4, bad_above=bad_above, unit=unit)


def graph(
    title: str, description: str, *asked: Question | Query, unit: str = "short", stacked: bool = False
) -> Panel:
    return _panel("timeseries", title, description, asked, unit=unit, stacked=stacked)


def table(
    title: str, description: str, *asked: Question | Query, width: int = 12, unit: str = "short"
) -> Panel:
    return _panel("table", title, description, asked, width=width, unit=unit)


def _panel(
    kind: str, title: str, description: str, asked: tuple[Question | Query, ...], **look: Any
) -> Panel:
    questions = tuple(one for one in asked if not isinstance(one, Query))
    queries = tuple(one for one in asked if isinstance(one, Query))
    return Panel(title, description, kind, questions, queries, **look)


USERS, LOGS = "user_events", "log_event"
COUNTED, REJECTED = "event_count", "rejected_event_count"
QUEUES = (("users", "user_events_queue"), ("logs", "log_events_queue"))

FAILED = Has("level", "ERROR|FATAL")
WARNED = Has("level", "WARN")
COMPLAINTS = Has("level", "WARN|ERROR|FATAL")
ENGINE_CALLS = Has("source", "qseow-qix-perf")
BY_USERS = Has("event_activity_source", "user")
OPENING = Has("method", "Global::OpenApp")
CONNECTING = Has("event_action", "Open connection")
SCHEDULER = Has("source", "qseow-scheduler")


def calls(name: str, how: str, field: str, *where: Has, by: tuple[str, ...] = ()) -> Numbers:
    """Of the engine's performance events, which alone have these fields."""
    return Numbers(name, LOGS, field, how, (ENGINE_CALLS, *where), by)


def messages(name: str, *where: Has, by: tuple[str, ...] = ()) -> Numbers:
    """Of the services' log events, which alone have a message."""
    return Numbers(name, LOGS, "message", "count", where, by)


def users(name: str, how: str, *where: Has, by: tuple[str, ...] = ()) -> Numbers:
    return Numbers(name, USERS, "userFull", how, where, by)


def queues(how: str, field: str) -> tuple[Numbers, ...]:
    return tuple(Numbers(name, measurement, field, how) for name, measurement in QUEUES)


EVENTS: dict[str, tuple[Panel, ...]] = {
    "Now": (
        stat("Users", "People who started or ended a session or a connection.", users("Users", "distinct")),
        stat(
            "Apps opened",
            "By people, not by reloads.",
            calls("Opened", "count", "process_time", OPENING, BY_USERS),
        ),
        stat("Errors", "Log events of level ERROR or FATAL.", messages("Errors", FAILED), bad_above=1),
        stat("Warnings", "Log events of level WARN.", messages("Warnings", WARNED)),
        stat(
            "Failed reloads", "Errors of the scheduler.", messages("Failed", SCHEDULER, FAILED), bad_above=1
        ),
        stat(
            "Datagrams dropped",
            "Dropped unread by Ringside, per port. Needs queueMetrics.",
            *queues("sum", "messages_dropped_total"),
            bad_above=1,
        ),
        graph(
            "Sessions and connections",
            "What people start and end.",
            users("Events", "count", by=("event_action",)),
            stacked=True,
        ),
        graph(
            "Errors and warnings by server",
            "Log events of level WARN, ERROR and FATAL.",
            messages("Events", COMPLAINTS, by=("host", "level")),
            stacked=True,
        ),
        table(
            "Slowest apps",
            "Engine calls for people, by what they take together. Times in ms.",
            calls("Total ms", "sum", "process_time", BY_USERS, by=(APP,)),
            calls("Calls", "count", "process_time", BY_USERS, by=(APP,)),
            calls("Mean ms", "mean", "process_time", BY_USERS, by=(APP,)),
            calls("Slowest ms", "max", "process_time", BY_USERS, by=(APP,)),
        ),
        table(
            "Errors and warnings by service",
            "Where they come from.",
            messages("Events", COMPLAINTS, by=("host", "source", "level", "subsystem")),
        ),
        table(
            "Failed reloads",
            "Errors of the scheduler, newest first.",
            Rows(
                LOGS, ("host", "task_name"), ("app_name", "message", "exception_message"), (SCHEDULER, FAILED)
            ),
        ),
        table(
            "Newest errors and warnings",
            "Log events of level WARN, ERROR and FATAL.",
            Rows(LOGS, ("level", "host", "source", "subsystem", "user_full"), ("message",), (COMPLAINTS,)),
        ),
    ),
    "People": (
        graph("Users over time", "Different people per interval.", users("Users", "distinct")),
        table(
            "Most active users",
            "Sessions and connections.",
            users("Events", "count", by=("userFull", "host")),
        ),
        table(
            "Most opened apps",
            "By people.",
            calls("Opened", "count", "process_time", OPENING, BY_USERS, by=(APP,)),
        ),
        table(
            "Browsers",
            "As the user agent of a connection says.",
            users("Events", "count", CONNECTING, by=("uaBrowserName", "uaBrowserMajorVersion", "uaOsName")),
        ),
    ),
    "Engine performance": (
        graph(
            "Engine time by app",
            "Time that calls for the app took together, per interval.",
            calls("Time", "sum", "process_time", by=(APP,)),
            unit="ms",
            stacked=True,
        ),
        graph(
            "Waiting for locks by server",
            "Mean time per call that was spent waiting for others.",
            calls("Lock time", "mean", "lock_time", by=("host",)),
            unit="ms",
        ),
        table(
            "Methods",
            "What takes the engine's time. Times in ms.",
            calls("Total ms", "sum", "process_time", by=("method", "object_type")),
            calls("Calls", "count", "process_time", by=("method", "object_type")),
            calls("Mean ms", "mean", "process_time", by=("method", "object_type")),
        ),
        table(
            "Slowest calls",
            "Single engine calls. Times in ms, memory in bytes.",
            Rows(
                LOGS,
                (APP, "method", "object_type", "user_full", "host"),
                ("work_time", "lock_time", "peak_ram"),
                (ENGINE_CALLS,),
                largest="process_time",
                limit=50,
            ),
        ),
        graph(
            "Peak memory by app",
            "The largest of any call in the interval.",
            calls("Peak", "max", "peak_ram", by=(APP,)),
            unit="bytes",
        ),
        graph(
            "Calls for people and for others",
            "non-user: nobody is behind the call, such as in a reload.",
            calls("Calls", "count", "process_time", by=("event_activity_source",)),
            stacked=True,
        ),
    ),
    "What arrives, and what is lost": (
        graph(
            "Events by source",
            "All that are received, also those that are not delivered. Needs eventCount.",
            Numbers("Events", COUNTED, "counter", "sum", by=("source",)),
            stacked=True,
        ),
        table(
            "Events by server",
            "A server that is missing here sends nothing. Needs eventCount.",
            Numbers("Events", COUNTED, "counter", "sum", by=("host", "event_type", "source")),
        ),
        graph(
            "Datagrams dropped",
            "Dropped unread by Ringside. Needs queueMetrics.",
            *queues("sum", "messages_dropped_total"),
            stacked=True,
        ),
        graph(
            "Processing time",
            "From receipt to the batch; 95 % take at most this. Needs queueMetrics.",
            *queues("max", "processing_time_p95_ms"),
            unit="ms",
        ),
        graph(
            "Queues",
            "Fill level; what is above 100 % waits in Ringside's buffers. Needs queueMetrics.",
            *queues("max", "queue_utilization_pct"),
            unit="percent",
        ),
        table(
            "Performance events that no filter accepts",
            "They are counted and not delivered. Needs trackRejectedEvents and rejectedEventCount.",
            Numbers("Events", REJECTED, "counter", "sum", by=("method", "object_type")),
            Numbers("Total ms", REJECTED, "process_time", "sum", by=("method", "object_type")),
        ),
        graph(
            "Errors of Ringside",
            "Such as writes that failed, by type. Needs errorTracking.",
            Numbers("Errors", "butler_sos_errors", "error_count", "sum", by=("error_type",)),
            stacked=True,
        ),
        graph(
            "Memory of Ringside",
            "Resident. Needs uptimeMonitor.",
            Numbers(
                "Memory", "butlersos_memory_usage", "process_memory", "mean", by=("butler_sos_instance",)
            ),
            unit="mbytes",
        ),
    ),
}


def of(metric: str, more: str = "") -> str:
    """A metric of the chosen processes."""
    return f'ringside_{metric}{{instance=~"$instance"{more}}}'


def rate(metric: str, by: str, more: str = "") -> str:
    return f"sum by ({by}) (rate({of(metric, more)}[$__rate_interval]))"


def during(metric: str, more: str = "") -> str:
    """How much a counter grew in the time range."""
    return f"sum(increase({of(metric, more)}[$__range]))"


def latency(quantile: float, stage: str) -> str:
    more = f', stage="{stage}"'
    return f"histogram_quantile({quantile}, {rate('event_latency_seconds_bucket', 'le', more)})"


LOST = ', outcome!="delivered"'

METRICS: dict[str, tuple[Panel, ...]] = {
    "Now": (
        stat(
            "Received",
            "Datagrams per second.",
            Query(f"sum(rate({of('datagrams_received_total')}[$__rate_interval]))"),
        ),
        stat("Dropped by the kernel", "In the time range.", Query(during("kernel_drops_total")), bad_above=1),
        stat(
            "Dropped unread",
            "In the time range, for all reasons.",
            Query(during("datagrams_dropped_total")),
            bad_above=1,
        ),
        stat(
            "Lost on the way",
            "Estimate from the row numbers of log events, in the time range.",
            Query(during("upstream_lost_estimate_total")),
            bad_above=1,
        ),
        stat(
            "Lost at destinations",
            "In the time range.",
            Query(during("destination_events_total", LOST)),
            bad_above=1,
        ),
        stat(
            "Failing destinations",
            "Whose last error stands.",
            Query(f"sum({of('destination_failing')})"),
            bad_above=1,
        ),
        graph(
            "Datagrams received",
            "Per second and listener.",
            Query(rate("datagrams_received_total", "instance, listener"), "{{instance}} {{listener}}"),
            unit="cps",
        ),
        graph(
            "Events accepted",
            "Per second and message type.",
            Query(rate("events_accepted_total", "source"), "{{source}}"),
            unit="cps",
            stacked=True,
        ),
        table(
            "Destinations",
            "Behind: age of the oldest event that waits.",
            Query(f"sum by (instance, destination) ({of('destination_failing')})", "Failing"),
            Query(f"max by (instance, destination) ({of('destination_oldest_seconds')})", "Behind s"),
            Query(f"sum by (instance, destination) ({of('destination_in_flight_events')})", "In memory"),
            Query(f"sum by (instance, destination) ({of('spool_events')})", "On disk"),
            Query(
                rate("destination_events_total", "instance, destination", ', outcome="delivered"'),
                "Delivered/s",
            ),
            Query(rate("destination_events_total", "instance, destination", LOST), "Lost/s"),
            width=24,
        ),
    ),
    "Loss": (
        graph(
            "Datagrams dropped, by reason",
            "Per second; what to do about each is in docs/metrics.md.",
            Query(rate("datagrams_dropped_total", "listener, reason"), "{{listener}} {{reason}}"),
            unit="cps",
            stacked=True,
        ),
        graph(
            "Events rejected, by reason",
            "Per second: read, and not wanted or no event.",
            Query(rate("events_rejected_total", "listener, reason"), "{{listener}} {{reason}}"),
            unit="cps",
            stacked=True,
        ),
        graph(
            "Dropped by the kernel",
            "Per second: the socket's buffer was full.",
            Query(rate("kernel_drops_total", "instance, listener"), "{{instance}} {{listener}}"),
            unit="cps",
        ),
        graph(
            "Lost on the way",
            "Per second: estimate from gaps in the row numbers of log events.",
            Query(rate("upstream_lost_estimate_total", "instance, listener"), "{{instance}} {{listener}}"),
            unit="cps",
        ),
        graph(
            "Lost at destinations, by reason",
            "Per second.",
            Query(
                rate("destination_events_total", "destination, outcome", LOST), "{{destination}} {{outcome}}"
            ),
            unit="cps",
            stacked=True,
        ),
        graph(
            "Lost by the host",
            "Per second: fragments that do not fit together, full backlogs. All programs together.",
            Query(
                rate("host_ip_reassembly_failures_total", "instance, ip"),
                "{{instance}} reassembly, IPv{{ip}}",
            ),
            Query(rate("host_softnet_dropped_total", "instance"), "{{instance}} backlog"),
            unit="cps",
        ),
    ),
    "Destinations": (
        graph(
            "Delivered",
            "Events per second.",
            Query(
                rate("destination_events_total", "destination", ', outcome="delivered"'), "{{destination}}"
            ),
            unit="cps",
        ),
        graph(
            "Behind",
            "Age of the oldest event that waits, in memory or on disk.",
            Query(
                f"max by (instance, destination) ({of('destination_oldest_seconds')})",
                "{{instance}} {{destination}}",
            ),
            unit="s",
        ),
        graph(
            "Tried again",
            "Sends per second.",
            Query(rate("destination_retries_total", "instance, destination"), "{{instance}} {{destination}}"),
            unit="cps",
        ),
        graph(
            "On disk",
            "Bytes in the spool.",
            Query(f"sum by (instance, destination) ({of('spool_bytes')})", "{{instance}} {{destination}}"),
            unit="bytes",
        ),
    ),
    "Latency and process": (
        graph(
            "Until it is in a batch",
            "From an event's receipt.",
            Query(latency(0.5, "batch"), "half"),
            Query(latency(0.99, "batch"), "99 %"),
            unit="s",
        ),
        graph(
            "Until it is delivered",
            "From an event's receipt to the destination's answer; of each batch its oldest event.",
            Query(latency(0.5, "delivered"), "half"),
            Query(latency(0.99, "delivered"), "99 %"),
            unit="s",
        ),
        graph(
            "Waiting to be read",
            "Datagrams handed to shards and not yet read.",
            Query(f"sum by (instance, listener) ({of('queue_events')})", "{{instance}} {{listener}}"),
        ),
        graph(
            "Threads",
            "Time since each thread last turned; from 5 s on it is stalled.",
            Query(f"max by (instance, thread) ({of('thread_beat_age_seconds')})", "{{instance}} {{thread}}"),
            unit="s",
        ),
        graph(
            "Memory",
            "Resident memory of the process.",
            Query(
                'process_resident_memory_bytes{instance=~"$instance"} * on (job, instance) ringside_build_info',
                "{{instance}}",
            ),
            unit="bytes",
        ),
        graph(
            "Running since",
            "Seconds since the start; it falls to 0 at a restart.",
            Query(
                'time() - process_start_time_seconds{instance=~"$instance"} * on (job, instance) ringside_build_info',
                "{{instance}}",
            ),
            unit="s",
        ),
    ),
}
