#!/usr/bin/env bash
# What the engine costs and loses at a given rate, with an HTTP sink as its destination.
#
#   perf/throughput.sh [RATE [SECONDS [SINK_DELAY_MS]]]      default: 200000 10 0
#
# Prints one JSON object: events sent, where they are now, CPU time and system calls per event.
# Environment: CONFIG (default perf/ringside.yaml), SOURCES (4), LOG_PORT, USER_PORT, HTTP_PORT,
# PROFILE_DIR (default target/release; what is there is built first).
# Exits with 1 when anything was lost or the ledger does not balance.
set -euo pipefail
cd "$(dirname "$0")/.."

rate=${1:-200000} seconds=${2:-10} delay=${3:-0}
config=${CONFIG:-perf/ringside.yaml} sources=${SOURCES:-4}
log_port=${LOG_PORT:-29996} user_port=${USER_PORT:-29997} http_port=${HTTP_PORT:-28088}
# shellcheck source=perf/engine.sh
source perf/engine.sh
need jq curl
build sink

work=$(mktemp -d)
engine='' perf_pid=''
finish() {
    local status=$?
    set +e
    [[ -n $perf_pid ]] && kill -INT "$perf_pid"
    stop_engine
    close_sink
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT

open_sink "$delay"

start_engine "$config"

stats() { curl --silent --fail "http://127.0.0.1:$http_port/api/stats"; }
# User and system time of all threads, in ticks; fields 14 and 15, counted after the name.
ticks() { sed 's/.*) //' "/proc/$engine/stat" | cut -d' ' -f12,13; }
# Nanoseconds on a CPU, of all threads; finer than ticks, without the distinction.
cpu_ns() { cat /proc/"$engine"/task/*/schedstat | awk '{ ns += $1 } END { printf "%.0f", ns }'; }
send() { # send SECONDS
    "$bin/ringside" send --to "127.0.0.1:$log_port" --mix benchmark --rate "$rate" --for "$1" \
        --sources "$sources" --json 2>>"$work/send.log"
}
# Waits until all that was sent is accounted for and nothing is on its way, at most 30 s.
settle() { # settle SENT
    for _ in {1..300}; do
        if stats | jq -e --argjson sent "$1" '
            .listeners.log_events as $log | .destinations.influxdb as $influx
            | $log.received + $log.kernel_dropped >= $sent and $log.queued == 0
              and $influx.in_flight == 0 and $influx.assigned >= $log.routed' >/dev/null
        then return; fi
        sleep 0.1
    done
    echo "not everything was accounted for within 30 s" >&2
}

read -r user_before system_before <<<"$(ticks)"
cpu_before=$(cpu_ns)
sent=$(send "$seconds")
settle "$(jq .sent <<<"$sent")"
cpu=$(($(cpu_ns) - cpu_before))
read -r user_after system_after <<<"$(ticks)"
stats >"$work/stats.json"
rss_kib=$(awk '/^VmHWM/ { print $2 }' "/proc/$engine/status")

# System calls are counted in a run of their own, since counting them costs.
syscalls=null
if perf stat -e raw_syscalls:sys_enter true 2>/dev/null; then
    perf stat -x, -e raw_syscalls:sys_enter -p "$engine" -o "$work/perf.csv" &
    perf_pid=$!
    counted=$(send 3 | jq .sent)
    settle "$(($(jq .sent <<<"$sent") + counted))"
    kill -INT "$perf_pid"
    wait "$perf_pid" || true # perf ends as the signal says.
    perf_pid=''
    syscalls=$(awk -F, -v events="$counted" '/sys_enter/ { printf "%.4f", $1 / events }' \
        "$work/perf.csv")
fi

jq --argjson sent "$sent" --argjson cpu "$cpu" --argjson syscalls "${syscalls:-null}" \
    --argjson user $((user_after - user_before)) --argjson rss "$rss_kib" \
    --argjson system $((system_after - system_before)) '
    .listeners.log_events as $log | .destinations.influxdb as $influx
    | ([$log.dropped[]] | add // 0) as $dropped | ([$log.rejected[]] | add // 0) as $rejected
    | ([$influx.dropped[]] | add // 0) as $lost
    | {
        backend, sent: $sent.sent, rate: ($sent.sent / $sent.seconds | round),
        received: $log.received, kernel_dropped: $log.kernel_dropped, dropped: $dropped,
        rejected: $rejected, delivered: $influx.delivered, destination_dropped: $lost,
        cpu_ns_per_event: ($cpu / $sent.sent | round),
        user_percent: ($user * 100 / ([$user + $system, 1] | max) | round),
        syscalls_per_event: $syscalls, events_per_batch: ($influx.delivered / ([$influx.batches, 1] | max) | round),
        rss_mib: ($rss / 1024 | round),
        balanced: (
            $log.received == $log.queued + $log.parsed + $dropped
            and $log.parsed == $log.accepted + $rejected
            and $log.accepted == $log.routed + $log.unrouted
            and $influx.assigned == $influx.delivered + $influx.in_flight + $influx.spooled + $lost),
        complete: ($influx.delivered == $sent.sent)
      }' "$work/stats.json" | tee "$work/result.json"
jq -e '.balanced and .complete' "$work/result.json" >/dev/null || {
    echo "lost or unbalanced; what the engine said:" >&2
    cat "$work/engine.log" "$work/send.log" >&2
    exit 1
}
