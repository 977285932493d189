#!/usr/bin/env bash
# Where the engine's time goes: on the CPU, off the CPU, and in system calls.
#
#   perf/profile.sh [RATE [SECONDS [FOLDER]]]      default: 200000 5 target/profile
#
# Three loads of that length, one for each question, since each way of looking costs. It leaves in FOLDER
#
#   on-cpu.txt    functions by their share of samples; on-cpu.data for `perf report`
#   flame.svg     the same as a flame graph, where inferno is installed (`cargo install inferno`)
#   off-cpu.txt   how long each thread ran, how often it was switched to, how long it waited for a core
#   syscalls.txt  system calls of each thread: how many, how long
#
# Needs perf (linux-perf) and the right to use it; hardware counters are not needed. Samples are taken by
# the timer, so what runs with interrupts off is seen a little late.
# Environment: CONFIG, LOG_PORT, USER_PORT, HTTP_PORT, PROFILE_DIR; see perf/engine.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

rate=${1:-200000} seconds=${2:-5} out=${3:-target/profile}
log_port=${LOG_PORT:-29976} user_port=${USER_PORT:-29977} http_port=${HTTP_PORT:-28068}
# shellcheck source=perf/engine.sh
source perf/engine.sh
need perf
build sink load
mkdir -p "$out"
rm -f "$out"/{on-cpu.data,on-cpu.txt,off-cpu.txt,syscalls.txt,flame.svg}

work=$(mktemp -d)
engine='' watcher=''
finish() {
    local status=$?
    set +e
    [[ -n $watcher ]] && kill -INT "$watcher" 2>/dev/null && wait "$watcher"
    stop_engine
    close_sink
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT

open_sink
start_engine "${CONFIG:-perf/ringside.yaml}"

load() { "$bin/examples/load" "127.0.0.1:$log_port" --rate "$rate" --for "$seconds" >&2; }
# watch COMMAND...: runs it beside one load, then ends it.
watch() {
    "$@" &
    watcher=$!
    sleep 0.5
    load
    kill -INT "$watcher"
    wait "$watcher" || true # perf ends as the signal says.
    watcher=''
}

load # Pools, connections and buffers are set up.
watch perf record --quiet -e cpu-clock -F 499 --call-graph dwarf,4096 -p "$engine" -o "$out/on-cpu.data"
perf report --stdio --no-children --call-graph none --sort comm,symbol --percent-limit 0.5 \
    -i "$out/on-cpu.data" >"$out/on-cpu.txt" 2>/dev/null

watch perf sched record --quiet -o "$work/sched.data" -p "$engine"
perf sched latency -i "$work/sched.data" >"$out/off-cpu.txt" 2>/dev/null

watch perf trace --summary -p "$engine" -o "$out/syscalls.txt"

if command -v inferno-collapse-perf >/dev/null; then
    perf script -i "$out/on-cpu.data" 2>/dev/null | inferno-collapse-perf 2>/dev/null |
        inferno-flamegraph --title "ringside at $rate/s" >"$out/flame.svg"
else
    echo "no flame graph: that needs inferno (cargo install inferno)" >&2
fi
ls -l "$out"
