# shellcheck shell=bash disable=SC2154 # Ports and folder are those of the script that sources this.
# What the scripts in this folder share: programs, a folder for the run, the engine and how it ends.
# Sourced by them, with `set -euo pipefail`, in the repository's root.
#
# Ports: LOG_PORT, USER_PORT, HTTP_PORT, SINK_PORT (each script has its own defaults). PROFILE_DIR names
# programs that are there already; without it the release build is brought up to date first.

bin=${PROFILE_DIR:-target/release}

# need TOOL...: ends the script unless all are installed.
need() {
    local tool
    for tool; do
        command -v "$tool" >/dev/null || { echo "${0##*/} needs $tool" >&2; exit 2; }
    done
}

# build EXAMPLE...: the engine and these examples.
build() {
    [[ -n ${PROFILE_DIR:-} ]] || cargo build --release --quiet --bin ringside "${@/#/--example=}"
}

# open_sink [DELAY_MS]: starts the sink and sets `sink_port`. It prints its totals to `$work/sink.out`, and
# ends, once `close_sink` ends its standard input.
open_sink() {
    mkfifo "$work/sink.in"
    "$bin/examples/sink" 127.0.0.1:0 "${1:-0}" <"$work/sink.in" >"$work/sink.out" &
    exec {sink_in}>"$work/sink.in"
    until [[ -s $work/sink.out ]]; do sleep 0.05; done
    sink_port=$(sed -n '1s/.*://p' "$work/sink.out")
}

close_sink() {
    if [[ -n ${sink_in:-} ]]; then exec {sink_in}>&-; fi
}

# start_engine CONFIG: fills in the ports, starts the engine, and waits until it is ready. Sets
# `engine` to its process id, which is empty again if it has ended. `$work` is the run's folder.
start_engine() {
    sed -e "s/@LOG_PORT@/$log_port/; s/@USER_PORT@/$user_port/" \
        -e "s/@HTTP_PORT@/$http_port/; s/@SINK_PORT@/$sink_port/" \
        "$1" >"$work/config.yaml"
    grep -q 'spool:' "$work/config.yaml" ||
        echo "    spool: { dir: '$work/spool' }" >>"$work/config.yaml"
    "$bin/ringside" run -c "$work/config.yaml" 2>"$work/engine.log" &
    engine=$!
    until grep -q ready "$work/engine.log"; do
        kill -0 "$engine" 2>/dev/null || { cat "$work/engine.log" >&2; engine=''; exit 1; }
        sleep 0.05
    done
}

# stop_engine: lets it deliver what it has, and waits for its end.
stop_engine() {
    [[ -n ${engine:-} ]] || return 0
    kill -TERM "$engine"
    wait "$engine"
    engine=''
}
