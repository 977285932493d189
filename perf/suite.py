#!/usr/bin/env python3
"""Measures Ringside whole, and what it is compared with, and writes a dated report.

    perf/suite.py                               everything; about an hour
    perf/suite.py --quick                       a look, in a few minutes
    perf/suite.py --only floors,peers           some of it
    perf/suite.py --target HOST:PORT --pid PID  the same load at any other UDP receiver on this machine

The report goes to perf/reports/DATE.md, the figures behind it beside it as JSON. Everything runs on
loopback; what is compared takes turns, round by round, and a ratio is that of medians of one run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import report
from subjects import (
    PEER_BUFFER,
    RMEM_MAX,
    ROOT,
    Cpu,
    Example,
    Missing,
    Other,
    Ringside,
    Rsyslog,
    Subject,
    SyslogNg,
    interrupt_as_exception,
    switches_of,
)

# How long after the sender's end the last event may be through: the time after which a batch leaves.
LATE = 1.2
# Searching ends when the bounds are this close.
CLOSE = 1.05
# Events stamped with the sender's clock, one in so many.
STAMP_EVERY = 16

Make = Callable[[Path], Subject]
FLOORS = ("waking", "budgeted", "multishot")
STAGES = ("drain", "parse", "encode")


@dataclass
class Suite:
    """How much is measured, and what came of it."""

    rounds: int
    seconds: float
    rate: int
    work: Path
    figures: dict[str, Any] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    runs: int = 0

    @contextmanager
    def run(self, make: Make) -> Iterator[Subject]:
        self.runs += 1
        with make(self.work / str(self.runs)) as subject:
            yield subject

    def load(self, to: str, *, rate: float, seconds: float = 0, **options: Any) -> dict[str, Any]:
        """Sends; options are those of the example `load`, with `segment=True` for a switch."""
        command = [str(Subject.bin / "examples/load"), to, "--rate", str(int(rate))]
        command += ["--for", str(seconds or self.seconds)]
        for name, value in options.items():
            option = "--" + name.replace("_", "-")
            command += [option] if value is True else [option, str(value)] if value else []
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        sent: dict[str, Any] = json.loads(done.stdout)
        return sent

    def once(self, make: Make, *, rate: float, warm: bool = True, **options: Any) -> dict[str, Any]:
        """One subject, started for this, under one load."""
        with self.run(make) as subject:
            before = subject.taken() or 0
            if warm and subject.taken() is not None:
                # Pools, connections and buffers are set up before anything is counted.
                warmed = self.load(subject.target, rate=min(rate or 20_000, 20_000), seconds=0.5)
                subject.settle(before + warmed["sent"])
                before = subject.taken() or 0
            cpu = subject.cpu()
            sent = self.load(subject.target, rate=rate, **options)
            ended = time.monotonic()
            subject.settle(before + sent["sent"])
            late = time.monotonic() - ended
            result = subject.finish(cpu)
        taken = result.taken - before
        per = 1 / max(taken, 1)
        spent: Cpu = result.cpu
        split = spent.user + spent.system or 1
        return {
            "subject": subject.name,
            "sent": sent["sent"],
            "rate": sent["sent"] / sent["seconds"],
            "taken": taken,
            "lost": sent["sent"] - taken,
            "late": late,
            "cpu_ns": spent.total * per,
            "user_ns": spent.total * per * spent.user / split,
            "system_ns": spent.total * per * spent.system / split,
            **result.more,
        }

    def rounds_of(self, subjects: dict[str, Make], **options: Any) -> dict[str, Any]:
        """Each subject once a round; all runs by name."""
        runs: dict[str, list[dict[str, Any]]] = {}
        for number in range(self.rounds):
            for name, make in subjects.items():
                if name in self.missing:
                    continue
                say(f"round {number + 1} of {self.rounds}: {name}")
                try:
                    runs.setdefault(name, []).append(self.once(make, **options))
                except Missing as missing:
                    say(f"{missing} is not installed: {name} is left out")
                    self.missing.add(name)
                    runs.pop(name, None)
        return {name: summary(of) for name, of in runs.items()}

    def lossless(self, make: Make, **options: Any) -> dict[str, Any]:
        """The highest rate at which nothing is lost, by bisection. What waits long after the sender's end
        was not taken at this rate, only kept: a queue does not make a receiver faster.

        The first attempt is as fast as the sender can: if nothing is lost then, the sender is the
        limit, and what the receiver could take is not known.
        """
        seconds = min(self.seconds, 3)

        def attempt(rate: float) -> tuple[bool, float]:
            run = self.once(make, rate=rate, seconds=seconds, **options)
            say(f"  {run['rate']:,.0f}/s: {run['lost']:,} of {run['sent']:,} lost, {run['late']:.1f} s late")
            return run["lost"] == 0 and run["late"] <= LATE + seconds / 10, run["rate"]

        clean, top = attempt(0)
        if clean:
            return {"rate": top, "limit": "sender"}
        low, high = 0.0, top
        while high / max(low, 20_000) > CLOSE:
            clean, reached = attempt((low + high) / 2 if low else high / 2)
            if clean:
                low = max(low, reached)
            else:
                high = (low + high) / 2 if low else high / 2
            if high < 20_000:
                break
        return {"rate": low, "limit": "receiver"}


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Median, lowest and highest of every number; the runs themselves are kept."""
    numbers: dict[str, Any] = {"runs": runs}
    for key in runs[0]:
        values: list[float] = [run[key] for run in runs if isinstance(run.get(key), int | float)]
        if len(values) == len(runs):
            numbers[key] = {
                "median": statistics.median(values),
                "low": min(values),
                "high": max(values),
            }
    return numbers


def floor(mode: str, *arguments: str) -> Make:
    return lambda work: Example(work, "floor", mode, *arguments)


def stage(mode: str, *arguments: str) -> Make:
    return lambda work: Example(work, "stages", mode, *arguments)


def ringside(variant: str, latency: bool = False, buffer: int = 0) -> Make:
    return lambda work: Ringside(work, variant, latency, buffer)


BASICS = {f"floor {mode}": floor(mode) for mode in FLOORS}
BASICS |= {f"stage {mode}": stage(mode) for mode in STAGES}
# The same events, from a sender that is quicker but needs them to be of one size.
SENDERS: dict[str, dict[str, Any]] = {"sendmmsg": {}, "UDP_SEGMENT": {"size": 372, "segment": True}}


def measure_floors(suite: Suite) -> None:
    """Floors and stages at one rate, and Ringside into the quick sink, in the same rounds.

    With either sender: the first sends the real mix, but where cores are few it falls behind its
    rate; the second leaves more of them to the receiver.
    """
    subjects = BASICS | {"ringside v1": ringside("v1")}
    found: dict[str, Any] = {}
    suite.figures["floors"] = found
    for sender, options in SENDERS.items():
        found[sender] = suite.rounds_of(subjects, rate=suite.rate, **options)


def measure_ringside(suite: Suite) -> None:
    """Every destination, at a rate that all of them should bear."""
    variants = {f"ringside {variant}": ringside(variant) for variant in Ringside.VARIANTS}
    suite.figures["destinations"] = suite.rounds_of(variants, rate=suite.rate / 3)


def measure_rates(suite: Suite) -> None:
    """The highest lossless rate, with both senders, and what is lost at twice that."""
    found: dict[str, Any] = {}
    suite.figures["rates"] = found
    for name, make in (
        BASICS | {"ringside v1": ringside("v1"), "ringside ndjson": ringside("ndjson")}
    ).items():
        for sender, options in SENDERS.items():
            say(f"highest lossless rate: {name}, {sender}")
            entry = suite.lossless(make, **options)
            if entry["limit"] == "receiver" and name.startswith("ringside"):
                twice = suite.once(make, rate=2 * entry["rate"], seconds=3, **options)
                entry["twice"] = {key: twice[key] for key in ("rate", "sent", "lost")}
            found.setdefault(name, {})[sender] = entry


def measure_latency(suite: Suite) -> None:
    """Sender to batch and to acknowledged, at parts of the highest rate."""
    rates = suite.figures.get("rates", {}).get("ringside v1", {})
    top = rates.get("sendmmsg", {}).get("rate") or suite.rate
    found: dict[str, Any] = {"of": top}
    suite.figures["latency"] = found
    for percent in (10, 50, 90):
        subjects = {
            "floor multishot": floor("multishot", "--latency"),
            "to batch": stage("encode", "--latency"),
            "to acknowledged": ringside("v1", latency=True),
        }
        found[str(percent)] = suite.rounds_of(
            subjects, rate=top * percent / 100, stamp_every=STAMP_EVERY, warm=False
        )


def measure_shapes(suite: Suite) -> None:
    """Sizes of events, numbers of sources, bursts out of silence."""
    subjects = {
        "floor multishot": floor("multishot", "--buffer", "16384"),
        "ringside v1": ringside("v1"),
    }
    found: dict[str, Any] = {}
    suite.figures["shapes"] = found
    for size in (150, 372, 1400, 8000):
        # As many bytes a second at most as 100 000 events of the usual size.
        rate = min(suite.rate / 3, 100_000 * 1400 / size)
        found[f"{size} bytes"] = suite.rounds_of(subjects, rate=rate, size=size)
    for sources in (1, 16, 256):
        found[f"{sources} sources"] = suite.rounds_of(subjects, rate=suite.rate / 3, sources=sources)
    for count in (10_000, 100_000):
        found[f"burst of {count}"] = suite.rounds_of(subjects, rate=0, count=count)


def measure_rest(suite: Suite) -> None:
    """System calls per event, switches at idle, start, memory: one process each."""
    found: dict[str, Any] = {}
    suite.figures["rest"] = found
    with suite.run(ringside("v1")) as subject:
        time.sleep(2)
        before = switches_of(subject.pid)
        time.sleep(5)
        found["idle_switches_per_second"] = (switches_of(subject.pid) - before) / 5
        found["syscalls_per_event"] = system_calls(suite, subject, 200_000)
    with suite.run(ringside("v1")) as subject:
        sent = suite.load(subject.target, rate=100_000, seconds=max(suite.seconds, 5))
        subject.settle(sent["sent"])
        found["memory_at_100000"] = subject.finish(subject.cpu()).more
    starts = []
    for _ in range(suite.rounds):
        with suite.run(ringside("v1")) as subject:
            assert isinstance(subject, Ringside)
            starts.append(subject.ready_ms)
    found["ready_ms"] = statistics.median(starts)


def system_calls(suite: Suite, subject: Subject, rate: int) -> float | None:
    """Counted in a run of its own, since counting costs."""
    out = subject.work / "perf.csv"
    command = ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", str(subject.pid)]
    try:
        perf = subject.spawn([*command, "-o", str(out)], stdout=subprocess.DEVNULL)
    except FileNotFoundError:
        return None
    time.sleep(0.5)
    before = subject.taken() or 0
    sent = suite.load(subject.target, rate=rate, seconds=3)
    subject.settle(before + sent["sent"])
    perf.send_signal(2)
    perf.wait(10)
    for line in out.read_text().splitlines():
        if "sys_enter" in line and line.split(",")[0].isdigit():
            return int(line.split(",")[0]) / float(sent["sent"])
    return None


def peers() -> dict[str, Make]:
    """Other receivers, and Ringside with a socket buffer as large as theirs."""
    subjects: dict[str, Make] = {"rsyslog": Rsyslog, "syslog-ng": SyslogNg}
    for variant in ("ndjson", "v1", "tokio-ndjson"):
        subjects[f"ringside {variant}"] = ringside(variant, buffer=PEER_BUFFER)
    return subjects


def measure_peers(suite: Suite) -> None:
    """The same events, socket buffer and sink form, at a rate that a small site may reach."""
    suite.figures["peers"] = suite.rounds_of(peers(), rate=50_000)


def measure_best(suite: Suite) -> None:
    """The highest lossless rate of each."""
    found: dict[str, Any] = {}
    suite.figures["best"] = found
    for name, make in peers().items():
        say(f"highest lossless rate: {name}")
        try:
            found[name] = suite.lossless(make)
        except Missing as missing:
            say(f"{missing} is not installed: {name} is left out")
            suite.missing.add(name)


PARTS: dict[str, Callable[[Suite], None]] = {
    "floors": measure_floors,
    "ringside": measure_ringside,
    "rates": measure_rates,
    "latency": measure_latency,
    "shapes": measure_shapes,
    "rest": measure_rest,
    "peers": measure_peers,
    "best": measure_best,
}
QUICK = ("floors", "rest", "peers")


def measure_other(suite: Suite, target: str, pid: int) -> None:
    """Whatever listens there; it cannot say what it has taken, so only the cost per sent event is known."""
    runs = []
    for _ in range(suite.rounds):
        subject = Other(suite.work / "other", target, pid)
        before = subject.cpu()
        sent = suite.load(target, rate=suite.rate)
        time.sleep(1)
        spent = (subject.cpu() - before).total
        runs.append(
            {
                "rate": sent["sent"] / sent["seconds"],
                "sent": sent["sent"],
                "refused": sent["refused"],
                "cpu_ns": spent / sent["sent"],
            }
        )
    suite.figures["other"] = {target: summary(runs)}


def machine() -> dict[str, Any]:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        return done.stdout.strip()

    dirty = "-changed" if git("status", "--porcelain", "--untracked-files=no") else ""
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "commit": git("rev-parse", "--short=12", "HEAD") + dirty,
        "rmem_max": RMEM_MAX,
        "load_before": os.getloadavg()[0],
    }


def say(text: str) -> None:
    print(f"{datetime.now():%H:%M:%S} {text}", file=sys.stderr, flush=True)


def build() -> Path:
    """The release build, unless PROFILE_DIR names what is to be measured."""
    if given := os.environ.get("PROFILE_DIR"):
        return Path(given).resolve()
    examples = [word for name in ("sink", "load", "floor", "stages") for word in ("--example", name)]
    subprocess.run(
        ["cargo", "build", "--release", "--quiet", "--bin", "ringside", *examples],
        cwd=ROOT,
        check=True,
    )
    return ROOT / "target/release"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help=f"parts, with commas: {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="one round, short runs, fewer parts")
    parser.add_argument("--rounds", type=int, help="runs of each (5)")
    parser.add_argument("--seconds", type=float, help="length of a run (5)")
    parser.add_argument(
        "--rate", type=int, default=300_000, help="events/s of the comparison with the floors"
    )
    parser.add_argument("--target", help="HOST:PORT of another receiver, instead of all parts")
    parser.add_argument("--pid", type=int, default=0, help="its process, for its CPU time")
    parser.add_argument("--out", type=Path, default=ROOT / "perf/reports", help="where the report goes")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    names = options.only.split(",") if options.only else list(QUICK if options.quick else PARTS)
    if unknown := set(names) - set(PARTS):
        print(f"suite.py: no such part: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    interrupt_as_exception()
    Subject.bin = build()
    began = datetime.now(UTC)
    # What peers and NDJSON write goes to memory where there is such a file system: no disk is measured.
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    work = Path(tempfile.mkdtemp(prefix="ringside-suite-", dir=place))
    suite = Suite(
        options.rounds or (1 if options.quick else 5),
        options.seconds or (3 if options.quick else 5),
        options.rate,
        work,
    )
    suite.figures["machine"] = machine()
    try:
        if options.target:
            measure_other(suite, options.target, options.pid)
        else:
            for name, measure in PARTS.items():
                if name in names:
                    measure(suite)
    except KeyboardInterrupt:
        say("interrupted: the report has what was measured so far")
        suite.figures["interrupted"] = True
    except BaseException:
        suite.figures["interrupted"] = True
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
        print(write(suite, began, options.out))
    return 0


def write(suite: Suite, began: datetime, folder: Path) -> Path:
    """The report, and the figures beside it; where it is."""
    suite.figures |= {
        "began": began.isoformat(timespec="seconds"),
        "minutes": (datetime.now(UTC) - began).total_seconds() / 60,
        "command": " ".join(["perf/suite.py", *sys.argv[1:]]),
        "rounds": suite.rounds,
        "seconds": suite.seconds,
        "rate": suite.rate,
        "missing": sorted(suite.missing),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{began:%Y-%m-%d-%H%M}.md"
    path.with_suffix(".json").write_text(json.dumps(suite.figures, indent=1) + "\n")
    path.write_text(report.markdown(suite.figures))
    return path


if __name__ == "__main__":
    sys.exit(main())
