#!/usr/bin/env bash
# Whether Ringside stays as it is: a steady load for a long time, with a fault every minute.
#
#   perf/soak.sh [MINUTES [RATE]]      default: 20 50000
#
# The faults take turns: the destination is killed for ten seconds, the engine gets SIGHUP, the
# destination answers slowly (300 ms) for ten seconds.
#
# Every ten seconds a line of a table: seconds, resident memory in MiB, open descriptors, and where the
# events are. At the end a verdict: memory and descriptors are flat, the ledger is balanced, every event
# that was received was delivered.
# Exits with 1 unless all of this is so.
#
# Flat means: the last round of faults (three minutes) is as the second one was. In the first round the
# memory that may hold events (64 MiB for a destination that is slow) is used for the first time, and the
# allocator keeps some of it. A run of less than two rounds is compared with its first minute.
# Environment: PROFILE_DIR (default target/release; what is there is built first), LOG_PORT, USER_PORT,
# HTTP_PORT, SINK_PORT, GROWTH_MIB (32): how much more memory is still flat.
set -euo pipefail
cd "$(dirname "$0")/.."

minutes=${1:-20} rate=${2:-50000} growth=${GROWTH_MIB:-32}
log_port=${LOG_PORT:-29986} user_port=${USER_PORT:-29987}
http_port=${HTTP_PORT:-28078} sink_port=${SINK_PORT:-28079}
# shellcheck source=perf/engine.sh
source perf/engine.sh
need jq curl
build sink

work=$(mktemp -d)
engine='' sink='' sender=''
finish() {
    local status=$?
    set +e
    [[ -n $sender ]] && kill "$sender" 2>/dev/null && wait "$sender"
    stop_engine
    [[ -n $sink ]] && kill -KILL "$sink" && wait "$sink" 2>/dev/null
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT

mkfifo "$work/sink.in"
# shellcheck disable=SC2034 # It is there to be open.
exec {sink_in}<>"$work/sink.in" # Never at its end, so the sink runs until it is killed.
start_sink() { # start_sink [DELAY_MS]
    "$bin/examples/sink" "127.0.0.1:$sink_port" "${1:-0}" <"$work/sink.in" \
        >"$work/sink.out" 2>>"$work/sink.log" &
    sink=$!
}
stop_sink() {
    kill -KILL "$sink"
    wait "$sink" 2>/dev/null || true
    sink=''
}
start_sink

start_engine perf/ringside.yaml

seconds=$((minutes * 60))
"$bin/ringside" send --to "127.0.0.1:$log_port" --mix benchmark --rate "$rate" --for "$seconds" \
    --sources 4 --json >"$work/sent.json" 2>"$work/send.log" &
sender=$!

# One object per sample, for the table and the verdict.
sample() {
    local rss fds
    rss=$(awk '/^VmRSS/ { print $2 }' "/proc/$engine/status")
    fds=$(find "/proc/$engine/fd" -mindepth 1 | wc -l)
    curl --silent --fail --max-time 5 "http://127.0.0.1:$http_port/api/stats" |
        jq -c --argjson s "$SECONDS" --argjson rss "$rss" --argjson fds "$fds" '
            .listeners.log_events as $log | .destinations.influxdb as $influx
            | ([$log.dropped[]] | add // 0) as $dropped | ([$log.rejected[]] | add // 0) as $rejected
            | ([$influx.dropped[]] | add // 0) as $lost
            | {
                s: $s, rss_mib: ($rss / 1024 | round), fds: $fds, received: $log.received,
                kernel_dropped: $log.kernel_dropped, dropped: $dropped, queued: $log.queued,
                delivered: $influx.delivered, in_flight: $influx.in_flight,
                spooled: $influx.spooled, lost: $lost, assigned: $influx.assigned,
                routed: $log.routed,
                balanced: (
                    $log.received == $log.queued + $log.parsed + $dropped
                    and $log.parsed == $log.accepted + $rejected
                    and $log.accepted == $log.routed + $log.unrouted
                    and $influx.assigned
                        == $influx.delivered + $influx.in_flight + $influx.spooled + $lost)
              }' >>"$work/samples"
    tail -n 1 "$work/samples" | jq -r '
        [.s, .rss_mib, .fds, .received, .kernel_dropped, .dropped, .delivered, .in_flight, .spooled,
         .lost, .balanced] | @tsv'
}

# What happens in each second of the run.
fault() { # fault SECOND
    case $(($1 % 60)) in
    20) case $(($1 / 60 % 3)) in
        0) stop_sink ;;
        1) kill -HUP "$engine" ;;
        2) stop_sink && start_sink 300 ;;
        esac ;;
    30) case $(($1 / 60 % 3)) in
        0) start_sink ;;
        1) ;;
        2) stop_sink && start_sink ;;
        esac ;;
    esac
}

printf 's\tMiB\tfds\treceived\tkernel\tdropped\tdelivered\tflight\tspooled\tlost\tbalanced\n'
SECONDS=0
for ((second = 1; second <= seconds; second++)); do
    while ((SECONDS < second)); do sleep 0.1; done
    kill -0 "$engine" 2>/dev/null || { cat "$work/engine.log" >&2; engine=''; exit 1; }
    fault "$second"
    ((second % 10)) || sample
done
wait "$sender" || { cat "$work/send.log" >&2; exit 1; }
sender=''
sent=$(jq .sent "$work/sent.json")

# Everything comes to rest, at most a minute after the end.
for _ in {1..60}; do
    sample
    tail -n 1 "$work/samples" | jq -e --argjson sent "$sent" '
        .received + .kernel_dropped >= $sent and .queued == 0 and .in_flight == 0 and .spooled == 0
        and .assigned >= .routed' >/dev/null && break
    sleep 1
done

jq -es --argjson sent "$sent" --argjson growth "$growth" --argjson seconds "$seconds" '
    def median: sort | .[length / 2 | floor];
    (if $seconds >= 360 then [180, 360] else [0, 60] end) as [$from, $to]
    | ([.[] | select(.s > $from and .s <= $to)]) as $first
    | ([.[] | select(.s > $seconds - ($to - $from) and .s <= $seconds)]) as $last | .[-1] as $final
    | {
        sent: $sent,
        rss_mib: [($first | map(.rss_mib) | median), ($last | map(.rss_mib) | median), (map(.rss_mib) | max)],
        fds: [($first | map(.fds) | median), ($last | map(.fds) | median), (map(.fds) | max)],
        balanced: (map(.balanced) | all),
        accounted: ($final.received + $final.kernel_dropped == $sent),
        delivered: ($final.delivered == $final.routed)
      }
    | . + { flat: (.rss_mib[1] <= .rss_mib[0] + $growth and .fds[1] <= .fds[0] + 4) }
    | ., (.flat and .balanced and .accounted and .delivered)' "$work/samples" || {
    echo "soak.sh: not as it should be; what the engine said:" >&2
    tail -n 50 "$work/engine.log" >&2
    exit 1
}
