#!/usr/bin/env bash
# Builds Ringside for Windows and tests it under Wine.
#   packaging/windows/test.sh [program] [service] [contract]     all, or some of them
# program: events from this system arrive at ringside.exe, and get to files, to the spool, to InfluxDB.
# service: the service is installed, started, stopped and removed by Wine's service manager.
# contract: the tests of tests/ that contract.txt names, with ringside.exe as the program.
# What is missing is installed (Debian and Ubuntu), which needs root. Wine keeps its files in a folder of
# their own, which is deleted at the end.
set -euo pipefail
cd "$(dirname "$0")/../.."
source packaging/tests/support.sh

parts=("$@")
((${#parts[@]})) || parts=(program service contract)

install_missing wine:wine wineserver:wine influxd:influxdb mosquitto:mosquitto jq:jq curl:curl \
    pip3:python3-pip
[[ -e /usr/lib/wine/wine64 ]] || apt-get install -y -qq --no-install-recommends wine64
python3 -c 'import duckdb, pytz' 2>/dev/null ||
    pip3 install --quiet --break-system-packages --root-user-action=ignore duckdb pytz

export CARGO_TERM_COLOR=never
packaging/windows/cargo build --bin ringside
cargo build --bin ringside
built=target/windows/x86_64-pc-windows-gnu/debug
x86_64-w64-mingw32-gcc -shared -o $built/bcryptprimitives.dll \
    packaging/windows/bcryptprimitives.{c,def} -ladvapi32

folder=$(mktemp -d)
export WINEPREFIX=$folder/wine WINEDEBUG=-all WINEDLLOVERRIDES='mscoree,mshtml='
export RINGSIDE_EXE=$PWD/$built/ringside.exe RINGSIDE_STARTS=$folder/starts
children=()
finish() {
    local child
    for child in "${children[@]}"; do
        kill "$child" 2>/dev/null || true
    done
    wineserver -k || true
    # shellcheck disable=SC2046  # several ids
    wait $(jobs -p) 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT
ringside=$PWD/packaging/windows/ringside
native=$PWD/target/debug/ringside

mkdir "$WINEPREFIX"
# Windows starts; it stays until it is ended.
start_wine() {
    wineserver -p 2>/dev/null
    wine wineboot >/dev/null 2>&1
}
start_wine
printf '::: %s, %s\n' "$(wine --version)" "$(wine cmd /c ver 2>/dev/null | tr -d '\r' | grep -v '^$')"

# What all parts need.

on_failure() { [[ -e $folder/said ]] && cat "$folder/said"; }

# configuration: a file with everything on, to the archive and to an InfluxDB on $influxdb_port.
configuration() {
    cat <<END
Butler-SOS:
  logDirectory: log
  userEvents:
    enable: true
    udpServerConfig: { serverHost: 127.0.0.1, portUserActivityEvents: 0 }
    sendToInfluxdb: { enable: true }
  logEvents:
    udpServerConfig: { serverHost: 127.0.0.1, portLogEvents: 0 }
    sendToInfluxdb: { enable: true }
    source:
      engine: { enable: true }
      proxy: { enable: true }
      repository: { enable: true }
      scheduler: { enable: true }
      qixPerf: { enable: true }
    enginePerformanceMonitor: { enable: true, monitorFilter: { allApps: { enable: true } } }
  influxdbConfig: { enable: true, host: 127.0.0.1, port: $influxdb_port, version: 1, v1Config: { dbName: senseops } }
  ringside:
    console: { port: 0 }
    archive: { enable: true, rollInterval: 2s }
END
}

# start_ringside: runs it in this folder, and reads where it listens.
start_ringside() {
    "$ringside" run -c ringside.yaml >"$folder/output" 2>"$folder/said" &
    running=$!
    children+=("$running")
    is_ready() { grep -q '^ringside ready' "$folder/said"; }
    eventually "ringside.exe is ready" is_ready
    read_addresses "$folder/said"
}

# read_addresses FILE: where it listens, from a log.
read_addresses() {
    local ready
    ready=$(grep -o 'ringside ready: .*' "$1" | tail -1 | tr -d '\r')
    user_events=$(sed -E 's/.*user_events ([^,]*),.*/\1/' <<<"$ready")
    log_events=$(sed -E 's/.*log_events ([^,]*),.*/\1/' <<<"$ready")
    console=$(sed -E 's|.*console (http://[^/]*)/.*|\1|' <<<"$ready")
    echo "    $ready"
}

# send N: N events over UDP, from a program of this system.
send() {
    "$native" send --to "$log_events" --user-to "$user_events" --count "$1" --rate 2000 >/dev/null 2>&1
}

stats() { curl -fsS "$console/api/stats" | jq -r "$1"; }
received() { [[ $(stats '[.listeners[].received] | add') == "$1" ]]; }

# stop_ringside: asks it to stop and waits; its exit code has to be 0.
stop_ringside() {
    kill -TERM "$running"
    local code=0
    wait "$running" || code=$?
    equal "Ctrl-C drains, and the exit code is 0" 0 "$code"
    expect "the ledger is printed" grep -q '^ledger: log_events received=' "$folder/said"
}

influxdb_port=0
# free_port: a port that nobody has.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

start_influxdb() {
    cat >"$folder/influxdb.conf" <<END
reporting-disabled = true
bind-address = "127.0.0.1:0"
[meta]
dir = "$folder/influxdb/meta"
[data]
dir = "$folder/influxdb/data"
wal-dir = "$folder/influxdb/wal"
[monitor]
store-enabled = false
[http]
bind-address = "127.0.0.1:$influxdb_port"
END
    influxd -config "$folder/influxdb.conf" >/dev/null 2>&1 &
    children+=("$!")
    eventually "a real InfluxDB runs" curl -fsS "http://127.0.0.1:$influxdb_port/ping"
}

# points: how many are in the database's measurements of events, each counted by a field it always has.
points() {
    curl -fsS -G "http://127.0.0.1:$influxdb_port/query" --data-urlencode db=senseops \
        --data-urlencode 'q=SELECT count(*) FROM /^(user_events|log_event)$/' |
        jq '[.results[0].series[]? | .values[0][1:] | map(. // 0) | max] | add // 0'
}

# archived: how many events another reader finds in the archive of this folder.
archived() {
    python3 - <<'END'
import duckdb
files = "read_parquet('ringside-data/archive/**/*.parquet', union_by_name = true)"
print(duckdb.sql(f"select count(*) from {files}").fetchall()[0][0])
END
}

program() {
    mkdir "$folder/program" && cd "$folder/program"
    influxdb_port=$(free_port)
    configuration >ringside.yaml
    expect "ringside check finds the file right" "$ringside" check -c ringside.yaml
    sed 's/logDirectory: log/logDirectory: [/' ringside.yaml >wrong.yaml
    local code=0
    "$ringside" check -c wrong.yaml 2>"$folder/said" || code=$?
    equal "a wrong file is exit code 2" 2 "$code"

    start_ringside
    equal "the backend is tokio" tokio "$(stats .backend)"
    sed "s/portLogEvents: 0/portLogEvents: ${log_events##*:}/" ringside.yaml >second.yaml
    code=0
    "$ringside" run -c second.yaml 2>"$folder/second" || code=$?
    equal "a second one on the same port ends with 1" 1 "$code"
    expect "and says so" grep -q "UDP port ${log_events##*:} on 127.0.0.1 is in use" "$folder/second"
    local count=5000 health
    send $count
    eventually "all $count datagrams are received" received $count
    health=$(curl -fsS "$console/health")
    expect "/health answers 200" jq -e . <<<"$health"
    expect "/metrics has the datagrams" grep -q '^ringside_datagrams_received_total' \
        <(curl -fsS "$console/metrics")
    expect "the console page is served" grep -qi '<!doctype html>' <(curl -fsS "$console/")
    stats '"    received \([.listeners[].received] | add), kernel_dropped \([.listeners[].kernel_dropped])"'
    stop_ringside

    # Nobody answers at InfluxDB's port.
    expect "the log file says so" grep -Eq 'warn: .*influxdb' log/*.log
    equal "what InfluxDB did not take is in the spool" $count \
        "$(sed -nE 's/^ledger: influxdb .* spooled=([0-9]+) .*/\1/p' "$folder/said")"
    equal "DuckDB finds all events in the archive" $count "$(archived)"
    "$ringside" spool ls -c ringside.yaml | tr -d '\r' | tee "$folder/listed"
    expect "spool ls lists them" grep -Eq "influxdb +$count " "$folder/listed"
    expect "spool verify finds them whole" "$ringside" spool verify -c ringside.yaml
    expect "archive ls works" "$ringside" archive ls -c ringside.yaml
    expect "appenders are written" "$ringside" appenders --host ringside.example.com
    expect "and found right" "$ringside" appenders --check appenders/Proxy/LocalLogConfig.xml

    start_influxdb
    expect "check --host finds InfluxDB, ports and folders right" "$ringside" check --host -c ringside.yaml
    start_ringside
    is_delivered() { [[ $(stats .destinations.influxdb.spooled) == 0 && $(points) == "$count" ]]; }
    eventually "all $count spooled events are in InfluxDB" is_delivered
    local own=0
    "$ringside" send --to "$log_events" --user-to "$user_events" --count 500 --rate 1000 \
        2>"$folder/sent" || own=$?
    equal "ringside.exe send ends with 0" 0 "$own"
    eventually "what it sent is received" received 500
    sed "s/console: { port: 0 }/console: { port: ${console##*:} }/" ringside.yaml >running.yaml
    expect "ringside health says yes" "$ringside" health -c running.yaml
    stop_ringside
    cd - >/dev/null
}

# sc ARGUMENT...: Windows's tool for services.
sc() { wine sc "$@" | tr -d '\r'; }
# says PATTERN: what the service manager says of the service.
says() { sc query Ringside | grep -Eq "$1"; }
logged() { grep -rEq "$1" log; }

service() {
    mkdir "$folder/service" && cd "$folder/service"
    influxdb_port=$(free_port)
    configuration >ringside.yaml
    local code=0
    "$ringside" service run -c ringside.yaml 2>"$folder/said" || code=$?
    equal "the service's own command, typed by somebody, is exit code 1" 1 "$code"
    expect "and says what to do" grep -q 'only the service manager runs this' "$folder/said"
    "$ringside" service remove 2>"$folder/said" || code=$?
    expect "there is nothing to remove yet" grep -q 'there is no service Ringside' "$folder/said"
    echo 'Butler-SOS: [' >wrong.yaml
    code=0
    "$ringside" service install -c wrong.yaml 2>"$folder/said" || code=$?
    equal "a wrong file is not installed" 2 "$code"

    code=0
    "$ringside" service install -c ringside.yaml 2>&1 | tee "$folder/said"
    expect "it is installed" grep -q 'the service Ringside is installed' "$folder/said"
    wine reg query 'HKLM\System\CurrentControlSet\Services\Ringside' | tr -d '\r' | tee "$folder/listed"
    expect "it starts with Windows" grep -Eq 'Start +REG_DWORD +0x2' "$folder/listed"
    expect "its command has the file's whole path" grep -Eq 'ImagePath.*service run -c .*ringside.yaml' \
        "$folder/listed"
    "$ringside" service install -c ringside.yaml 2>"$folder/said" || code=$?
    expect "a second time it says so" grep -q 'is installed already' "$folder/said"

    sc start Ringside
    eventually "it runs" says "STATE .* RUNNING"
    # Its log is beside the file, although services start in a folder of Windows.
    eventually "and says so in its log" logged 'ringside ready'
    read_addresses log/*.log
    send 2000
    eventually "all 2000 datagrams are received" received 2000
    sed -i 's/^  logDirectory/  logLevel: verbose\n&/' ringside.yaml
    "$ringside" service reload
    eventually "it reads its file again" logged 'reload: the configuration was read again'
    sc stop Ringside
    eventually "it stops" says "STATE .* STOPPED"
    expect "with success" says 'WIN32_EXIT_CODE +: 0 '
    sed -nE 's/^[^ ]+ info: (ledger: )/    \1/p' log/*.log
    equal "DuckDB finds all events in the archive" 2000 "$(archived)"

    echo 'Butler-SOS: [' >wrong.yaml
    cp ringside.yaml right.yaml && mv wrong.yaml ringside.yaml
    sc start Ringside
    eventually "with a wrong file it does not start, and says why" logged 'ringside.yaml:[0-9]+:'
    eventually "and the service manager has the exit code" says 'SERVICE_EXIT_CODE +: 2 '
    mv right.yaml ringside.yaml

    # As after a loss of power: nobody asks it to stop.
    wineserver -k
    start_wine
    eventually "it starts with Windows" says "STATE .* RUNNING"
    "$ringside" service remove 2>&1 | tee "$folder/said"
    expect "remove stops and removes it" grep -q 'the service Ringside is removed' "$folder/said"
    is_gone() { ! says STATE; }
    eventually "it is gone" is_gone
    equal "both stops have drained" 2 "$(cat log/*.log | grep -c 'ledger: influxdb ')"
    cd - >/dev/null
}

contract() {
    local listed=() failed=() tests=() test filter
    mapfile -t listed < <(grep -Ev '^(#|$)' packaging/windows/contract.txt)
    for test in "${listed[@]%% *}"; do
        tests+=(--test "$test")
    done
    cargo test --quiet --no-run "${tests[@]}"
    export RINGSIDE_BINARY=$ringside
    while read -r test filter; do
        echo "::: contract: $test $filter"
        : >"$RINGSIDE_STARTS"
        # shellcheck disable=SC2086  # several words
        cargo test --quiet --test "$test" -- --test-threads 2 $filter </dev/null ||
            failed+=("$test")
        echo "    starts of ringside.exe: $(wc -l <"$RINGSIDE_STARTS")"
        [[ -s $RINGSIDE_STARTS ]] || failed+=("$test, which tests something else")
    done < <(printf '%s\n' "${listed[@]}")
    ((${#failed[@]} == 0)) || fail "contract: ${failed[*]}"
    ok "${#listed[@]} files of contract tests pass with ringside.exe"
}

for part in "${parts[@]}"; do
    echo "::: $part"
    "$part"
done
