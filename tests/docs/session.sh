#!/usr/bin/env bash
# A terminal in which the commands of one page of the documentation are run (tests/docs.rs). It has a
# network and processes of its own, so that default ports are free and nothing outlives it.
#   session.sh BINARY < blocks    each ends with a line that says `:::`
# Prints what a block prints, then a line with a mark and the first command that failed, if any.
set -uo pipefail

binary=$1 log=$PWD/.ringside.log running='' failed=''
ip link set lo up
# A database that a page starts leaves that of the machine alone.
export INFLUXDB_META_DIR=$PWD/.influxdb/meta
export INFLUXDB_DATA_DIR=$PWD/.influxdb/data INFLUXDB_DATA_WAL_DIR=$PWD/.influxdb/wal

# The program. One that runs until it is stopped is left running; the next one ends it first.
ringside() {
    local arguments=() brief=false
    while (($#)); do
        # A reader has a minute; two seconds are enough to see that it works.
        if [[ $1 == --for ]]; then
            brief=true
            arguments+=(--for 1)
            shift 2
        else
            arguments+=("$1")
            shift
        fi
    done
    case ${arguments[0]} in
    run | demo)
        stop_ringside || return
        if $brief; then
            "$binary" "${arguments[@]}"
        else
            : >"$log"
            "$binary" "${arguments[@]}" 2>>"$log" &
            running=$!
            until grep -q 'ringside ready' "$log"; do
                kill -0 "$running" 2>/dev/null || { cat "$log" && running='' && return 1; }
                sleep 0.02
            done
            cat "$log"
        fi
        ;;
    *) "$binary" "${arguments[@]}" ;;
    esac
}

# Ctrl-C.
stop_ringside() {
    [[ $running ]] || return 0
    local process=$running
    running=''
    kill -INT "$process" && wait "$process" || return
    # The kernel takes its time to close what a ring had open.
    local look
    for look in {1..200}; do
        [[ $(ss -Huln) ]] || return 0
        sleep 0.02
    done
    echo "still open after $look looks: $(ss -Hulpn)"
    return 1
}

# The only thing that pages ask of cargo here is to run the program.
cargo() {
    [[ "$1 $2 $3" == 'run --release --' ]] && ringside "${@:4}"
}

# An answer that is an error is a failure.
curl() { command curl --fail --silent --show-error --max-time 10 "$@"; }

trap 'failed=${failed:-$BASH_COMMAND}' ERR
block=''
while IFS= read -r line <&3; do
    if [[ $line != ::: ]]; then
        block+=$line$'\n'
        continue
    fi
    failed=''
    eval "$block" </dev/null 2>&1
    printf '\n::: %s\n' "${failed//$'\n'/ }"
    block=''
done 3<&0
stop_ringside
