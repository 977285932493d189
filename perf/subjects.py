"""What the suite measures: programs that take datagrams on a port.

Each is started, has a `target`, and says how many datagrams it has taken in; the suite asks the kernel
for the rest (CPU time, memory). All of them listen on loopback, on ports that are free at the time, and
keep what they write in a temporary folder.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

PERF = Path(__file__).resolve().parent
ROOT = PERF.parent
START_MAX = 20.0
END_MAX = 30.0
# What a receiver that is at rest does not take any more within this time, it has lost.
REST = 0.5
# What every receiver can have, so that all have the same where they are compared: syslog-ng does not go
# beyond the system's limit, whoever runs it.
RMEM_MAX = int(Path("/proc/sys/net/core/rmem_max").read_text())
PEER_BUFFER = min(32 << 20, RMEM_MAX)


class Missing(Exception):
    """A program that the measurement needs is not installed."""


@dataclass
class Cpu:
    """CPU time of a process, in ns; the parts are exact to a tick only."""

    total: float = 0.0
    user: float = 0.0
    system: float = 0.0

    def __sub__(self, other: Cpu) -> Cpu:
        return Cpu(self.total - other.total, self.user - other.user, self.system - other.system)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_of(pid: int) -> Cpu:
    """Of all threads that live."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    tick = 1e9 / os.sysconf("SC_CLK_TCK")
    return Cpu(total, int(fields[11]) * tick, int(fields[12]) * tick)


def status_of(pid: int, key: str) -> int:
    """A number of /proc/PID/status: VmHWM and VmRSS in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    return 0


def switches_of(pid: int) -> int:
    """Context switches of all threads."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if "ctxt_switches" in line:
                total += int(line.split()[1])
    return total


@dataclass
class Result:
    """What a subject has to say when it ends."""

    taken: int
    cpu: Cpu
    more: dict[str, Any] = field(default_factory=dict)


class Subject:
    """A program under measurement; a context manager that ends it."""

    name = "?"
    target = ""
    pid = 0
    # Ready-made programs of this repository.
    bin = Path()
    # Seconds without any more events after which no more are waited for.
    patience = 3 * REST

    def __init__(self, work: Path) -> None:
        self.work = work
        self.children: list[subprocess.Popen[bytes]] = []
        self.log = work / "log"

    def spawn(self, command: list[str], **more: Any) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            child = subprocess.Popen(command, stderr=log, **more)
        self.children.append(child)
        return child

    def __enter__(self) -> Self:
        self.work.mkdir(parents=True, exist_ok=True)
        try:
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(self) -> None:
        raise NotImplementedError

    def taken(self) -> int | None:
        """How many datagrams have come out at the end; None when only `finish` knows."""
        return None

    def settle(self, sent: int) -> None:
        """Waits until all that was sent is there, or nothing more comes."""
        before, since = -1, time.monotonic()
        give_up = since + END_MAX
        while time.monotonic() < give_up:
            now = self.taken()
            if now is None:
                time.sleep(REST)
                return
            if now >= sent:
                return
            if now != before:
                before, since = now, time.monotonic()
            elif time.monotonic() - since > self.patience:
                return
            time.sleep(0.02)

    def cpu(self) -> Cpu:
        return cpu_of(self.pid)

    def finish(self, before: Cpu) -> Result:
        return Result(self.taken() or 0, self.cpu() - before)

    def end(self) -> None:
        for child in reversed(self.children):
            if child.poll() is None:
                child.terminate()
                try:
                    child.wait(END_MAX)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
        self.children.clear()
        shutil.rmtree(self.work, ignore_errors=True)

    def wait_for(self, what: str, child: subprocess.Popen[bytes], done: Any) -> None:
        give_up = time.monotonic() + START_MAX
        while not done():
            if child.poll() is not None or time.monotonic() > give_up:
                said = self.log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{self.name}: no {what}\n{said}")
            time.sleep(0.002)


class Example(Subject):
    """A loop of this repository that prints its address, and its counts when its input ends."""

    def __init__(self, work: Path, program: str, mode: str, *arguments: str) -> None:
        super().__init__(work)
        self.name = f"{program} {mode}"
        self.command = [str(self.bin / "examples" / program), mode, *arguments]

    def start(self) -> None:
        self.child = self.spawn(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.pid = self.child.pid
        assert self.child.stdout is not None
        self.target = self.child.stdout.readline().decode().strip()
        if not self.target:
            raise RuntimeError(f"{self.name} does not start: {self.log.read_text()}")

    def finish(self, before: Cpu) -> Result:
        out, _ = self.child.communicate(timeout=END_MAX)
        said = json.loads(out)
        user, system = said.pop("user_ns"), said.pop("system_ns")
        # The program counts from its start; what it cost before the load is left in: it is idle.
        return Result(said["datagrams"], Cpu(user + system, user, system), said)


class Sink:
    """The HTTP server that stands in for InfluxDB."""

    def __init__(self, subject: Subject, delay_ms: int, latency: bool) -> None:
        command = [str(subject.bin / "examples/sink"), "127.0.0.1:0", str(delay_ms)]
        if latency:
            command.append("latency")
        self.child = subject.spawn(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.child.stdout is not None
        self.port = int(self.child.stdout.readline().decode().rpartition(":")[2])

    def totals(self) -> dict[str, Any]:
        out, _ = self.child.communicate(timeout=END_MAX)
        said: dict[str, Any] = json.loads(out)
        return said


class Ringside(Subject):
    """The real program. The variant says where events go, and through which backend they come."""

    VARIANTS = ("v1", "slow", "v2", "v3", "ndjson", "archive", "mqtt", "tokio", "tokio-ndjson")

    def __init__(self, work: Path, variant: str = "v1", latency: bool = False, buffer: int = 0) -> None:
        super().__init__(work)
        self.name = f"ringside {variant}"
        self.variant = variant
        self.latency = latency
        self.buffer = buffer
        self.ready_ms = 0.0
        self.sink: Sink | None = None
        form = variant.removeprefix("tokio-")
        self.destination = form if form in ("ndjson", "archive", "mqtt") else "influxdb"
        if form == "archive":
            # Events count as delivered when the files that hold them are complete.
            self.patience = 10.0

    def config(self) -> str:
        text = (PERF / "ringside.yaml").read_text()
        self.http_port = free_port()
        log_port = free_port(socket.SOCK_DGRAM)
        self.target = f"127.0.0.1:{log_port}"
        words = {"LOG_PORT": log_port, "USER_PORT": free_port(socket.SOCK_DGRAM)}
        words |= {"HTTP_PORT": self.http_port, "SINK_PORT": 9}
        text += f"    spool: {{ dir: '{self.work}/spool' }}\n"
        backend = "tokio" if self.variant.startswith("tokio") else "io_uring"
        text += f"    receive: {{ backend: {backend}, socketBuffer: {self.buffer or 32 << 20} }}\n"
        if self.destination == "influxdb":
            self.sink = Sink(self, 20 if self.variant == "slow" else 0, self.latency)
            words["SINK_PORT"] = self.sink.port
        else:
            text = text.replace("influxdbConfig:\n    enable: true", "influxdbConfig:\n    enable: false")
        if self.variant in ("v2", "v3"):
            number = self.variant[1]
            text = text.replace("    version: 1\n", f"    version: {number}\n")
            named = "org: perf\n      bucket: perf" if number == "2" else "database: perf"
            text = text.replace(
                "    v1Config:",
                f"    v{number}Config:\n      {named}\n      token: perf\n    v1Config:",
            )
            text += "    influxdb: { gzip: true }\n"
        if self.destination == "ndjson":
            text += f"    ndjson: {{ enable: true, path: '{self.work}/events.ndjson' }}\n"
        if self.destination == "archive":
            archive = f"enable: true, dir: '{self.work}/archive', rollInterval: 1s"
            text += f"    archive: {{ {archive} }}\n"
        if self.destination == "mqtt":
            port = self.broker()
            broker = f"  mqttConfig: {{ enable: true, brokerHost: 127.0.0.1, brokerPort: {port} }}\n"
            text = text.replace("  influxdbConfig:", broker + "  influxdbConfig:")
            text = text.replace("  logEvents:\n", "  logEvents:\n    sendToMQTT: { enable: true }\n")
        for word, value in words.items():
            text = text.replace(f"@{word}@", str(value))
        return text

    def broker(self) -> int:
        program = find("mosquitto", "MOSQUITTO")
        port = free_port()
        path = self.work / "mosquitto.conf"
        path.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
        child = self.spawn([program, "-c", str(path)], stdout=subprocess.DEVNULL)
        self.wait_for("broker", child, lambda: listens(port))
        return port

    def start(self) -> None:
        path = self.work / "config.yaml"
        path.write_text(self.config())
        began = time.monotonic()
        child = self.spawn([str(self.bin / "ringside"), "run", "-c", str(path)], stdout=subprocess.DEVNULL)
        self.pid = child.pid
        self.wait_for("ready", child, lambda: b"ringside ready" in self.log.read_bytes())
        self.ready_ms = (time.monotonic() - began) * 1000

    def stats(self) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.http_port}/api/stats"
        with urllib.request.urlopen(url, timeout=10) as answer:
            stats: dict[str, Any] = json.load(answer)
        return stats

    def taken(self) -> int:
        return int(self.stats()["destinations"][self.destination]["delivered"])

    def finish(self, before: Cpu) -> Result:
        cpu = self.cpu() - before
        stats = self.stats()
        log = stats["listeners"]["log_events"]
        more = {
            "kernel_dropped": log["kernel_dropped"],
            "dropped": sum(log["dropped"].values()),
            "rejected": sum(log["rejected"].values()),
            "rss_peak_mib": status_of(self.pid, "VmHWM") / 1024,
            "rss_mib": status_of(self.pid, "VmRSS") / 1024,
            "ready_ms": self.ready_ms,
        }
        if self.sink and self.latency:
            more["latency"] = self.sink.totals()["latency"]
        return Result(int(stats["destinations"][self.destination]["delivered"]), cpu, more)


class Peer(Subject):
    """Another log receiver, which splits the fields and writes JSON lines to a file."""

    def __init__(self, work: Path) -> None:
        super().__init__(work)
        self.out = work / "events.json"
        self.counted, self.offset = 0, 0

    def configure(self, template: str) -> Path:
        port = free_port(socket.SOCK_DGRAM)
        self.target = f"127.0.0.1:{port}"
        text = (PERF / "peers" / template).read_text()
        text = text.replace("@PORT@", str(port)).replace("@OUT@", str(self.out))
        path = self.work / template
        text = text.replace("@BUFFER@", str(PEER_BUFFER))
        path.write_text(text.replace("@WORK@", str(self.work)))
        return path

    def run(self, command: list[str], **more: Any) -> None:
        child = self.spawn(command, stdout=subprocess.DEVNULL, **more)
        self.pid = child.pid
        port = int(self.target.rpartition(":")[2])
        self.wait_for("socket", child, lambda: bound(port))

    def taken(self) -> int:
        """Lines so far; what was counted once is not read again."""
        if self.out.exists():
            with self.out.open("rb") as lines:
                lines.seek(self.offset)
                while block := lines.read(1 << 20):
                    self.counted += block.count(b"\n")
                    self.offset += len(block)
        return self.counted

    def finish(self, before: Cpu) -> Result:
        cpu = self.cpu() - before
        more = {"rss_peak_mib": status_of(self.pid, "VmHWM") / 1024}
        return Result(self.taken(), cpu, more)


class Rsyslog(Peer):
    name = "rsyslog"

    def start(self) -> None:
        program = find("rsyslogd", "RSYSLOGD")
        config = self.configure("rsyslog.conf")
        self.run([program, "-n", "-f", str(config), "-i", str(self.work / "pid")])


class SyslogNg(Peer):
    """Debian does not install it beside rsyslog: `SYSLOG_NG` names the program of an unpacked package."""

    name = "syslog-ng"

    def start(self) -> None:
        program = find("syslog-ng", "SYSLOG_NG")
        config = self.configure("syslog-ng.conf")
        command = [program, "-F", "--no-caps", "-f", str(config)]
        for option, name in (("-p", "pid"), ("-c", "ctl"), ("-R", "persist")):
            command += [option, str(self.work / name)]
        environment = dict(os.environ)
        library = Path(program).resolve().parents[1] / "lib/syslog-ng"
        if library.exists() and os.environ.get("SYSLOG_NG"):
            modules = next(path for path in library.iterdir() if path.is_dir())
            command += [f"--module-path={modules}"]
            environment["LD_LIBRARY_PATH"] = str(library)
        self.run(command, env=environment)


class Other(Subject):
    """Any receiver that runs already."""

    def __init__(self, work: Path, target: str, pid: int) -> None:
        super().__init__(work)
        self.name, self.target, self.pid = target, target, pid

    def start(self) -> None:
        pass

    def cpu(self) -> Cpu:
        return cpu_of(self.pid) if self.pid else Cpu()


def find(program: str, variable: str) -> str:
    named = os.environ.get(variable)
    path = named or shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if not path:
        raise Missing(program)
    return path


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def bound(port: int) -> bool:
    """Whether a UDP socket has the port."""
    return f":{port:04X} " in Path("/proc/net/udp").read_text()


def interrupt_as_exception() -> None:
    """SIGTERM ends the suite as Ctrl-C does: children are ended, folders removed."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
