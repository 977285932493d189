#!/usr/bin/env bash
# The Debian package: built, looked at, installed on a booted systemd, run with every protection of its
# unit, upgraded with events in the spool, removed, purged.
set -euo pipefail
cd "$(dirname "$0")/../.."
source packaging/tests/support.sh
source packaging/tests/machine.sh

# Measured with systemd 252: 1.5 "OK". What is left are the network, which is what Ringside is for,
# CAP_NET_ADMIN, and a root directory of its own.
EXPOSURE_MAX=15 # tenths

folder=$(mktemp -d)
trap 'stop_machine; rm -rf "$folder"' EXIT
on_failure() { in_machine journalctl --no-pager -n 60 -u 'ringside.*' -u 'influx*' >&2; }

# Two versions of the same program: what an upgrade does is up to the package.
# Debug symbols have a package of their own, which takes minutes to compress.
build() { packaging/build-deb --quiet --no-dbgsym --strip --fast --output "$folder/$1.deb" "${@:2}"; }
build old
build new --deb-version 99.0.0-1
manual() {
    local page
    for page in target/packaging/man/*.1; do
        [[ -z $(MANWIDTH=80 man --warnings -l "$page" 2>&1 >/dev/null) ]] || return 1
    done
}
expect "the manual pages are right" manual
completes() { # the words that bash offers behind `ringside r`
    bash -c 'source target/packaging/completions/ringside.bash
        COMP_WORDS=(ringside r) COMP_CWORD=1; _ringside ringside r ringside
        printf "%s\n" "${COMPREPLY[@]}"'
}
equal "bash completes commands" run "$(completes)"

boot_machine debs="$folder"
ok "systemd $(in_machine systemctl --version | awk 'NR == 1 { print $2 }') has booted"

install() { in_machine env DEBIAN_FRONTEND=noninteractive dpkg --install "/debs/$1.deb"; }
property() { in_machine systemctl show --value --property "$1" "${2:-ringside.service}"; }
stats() { in_machine curl --silent --fail http://127.0.0.1:8088/api/stats; }
stat() { stats | python3 -c "import json,sys; print(json.load(sys.stdin)$1)"; }
send() { # send COUNT: so many log events
    in_machine ringside send --to 127.0.0.1:9996 --count "$1" --rate 5000 >/dev/null 2>&1
}
log() { in_machine journalctl --quiet --no-pager --output=cat -u ringside.service "$@"; }
file=/etc/ringside/ringside.yaml
edit() { in_machine sed -i "$1" "$file"; }
drop_in() { # drop_in SERVICE [LINE...]: lines for its [Service]; none removes them
    local place=/run/systemd/system/$1.service.d
    in_machine mkdir -p "$place"
    printf '%s\n' '[Service]' "${@:2}" | in_machine tee "$place/test.conf" >/dev/null
    in_machine systemctl daemon-reload
}

## Install
expect "the package installs" install old
equal "it does not start by itself, for its file is a sample" inactive "$(property ActiveState)"
equal "nor at the next boot" disabled "$(in_machine systemctl is-enabled ringside.service || true)"
equal "only the service's group reads its file" "750 root ringside" \
    "$(in_machine stat --format '%a %U %G' /etc/ringside)"
expect "the sample file is right" in_machine ringside check -c "$file"
expect "the units are right" in_machine systemd-analyze verify \
    /usr/lib/systemd/system/ringside.service /usr/lib/systemd/system/ringside.socket
expect "the exposure is below $EXPOSURE_MAX tenths" in_machine systemd-analyze security \
    --offline=true --threshold="$EXPOSURE_MAX" ringside.service
expect "the dashboards are there" in_machine test -s \
    /usr/share/ringside/grafana/dashboards/ringside-influxql.json
expect "the manual is found" in_machine man --where ringside-run
shown=$(in_machine /lib/systemd/systemd-sysctl --cat-config)
[[ $shown == *"net.core.rmem_max = 33554432"* ]] || fail "systemd-sysctl does not find the drop-in"
ok "the sysctl is found"

## Start, as the manual says
edit 's/host: influxdb.example.com/host: 127.0.0.1/; s/version: 2 /version: 1 /'
expect "it starts" in_machine systemctl enable --now ringside.socket ringside.service
pid=$(property MainPID)
equal "it is the service's user" ringside "$(in_machine stat --format %U "/proc/$pid")"
equal "its only capability is the network's administration" "$((1 << 12))" \
    "$((16#$(in_machine awk '/^CapEff/ { print $2 }' "/proc/$pid/status")))"
equal "io_uring passes the filter" io_uring "$(stat '["backend"]')"
equal "the socket buffer is what the file wants" $((32 << 20)) \
    "$(stat '["listeners"]["log_events"]["socket_buffer_bytes"]')"
expect "it is healthy" in_machine ringside health -c "$file"

## Events, with no database there
send 1000
spooled() { [[ $(stat '["destinations"]["influxdb"]["spooled"]') == "$1" ]]; }
eventually "what the database does not take is on disk" spooled 1000
equal "in the service's own folder" "700 ringside" \
    "$(in_machine stat --format '%a %U' /var/lib/ringside)"

## Settings in force, and wrong ones
edit 's/logLevel: info/logLevel: verbose/'
expect "a right file is reloaded" in_machine systemctl reload ringside.service
reread() { log | grep -q 'configuration was read again'; }
eventually "and in force" reread
edit 's/logLevel: verbose/logLevel: loud/'
in_machine systemctl reload ringside.service 2>/dev/null && fail "a wrong file was reloaded"
equal "a wrong file is refused and the service goes on" "$pid" "$(property MainPID)"

## Upgrade with events in the spool
expect "an upgrade with a wrong file succeeds" install new
equal "and leaves the former process alone" "$pid" "$(property MainPID)"
edit 's/logLevel: loud/logLevel: info/'
edited=$(in_machine md5sum "$file")
in_machine ringside send --to 127.0.0.1:9996 --count 10000 --rate 2000 >/dev/null 2>&1 &
sender=$!
expect "an upgrade while events arrive succeeds" install old
upgraded=$(property MainPID)
[[ $upgraded != "$pid" && $upgraded != 0 ]] || fail "the upgrade did not restart the service"
ok "and restarts the service"
wait "$sender"
eventually "no event is missing: the socket held them" spooled 11000
equal "none was dropped by the kernel" 0 "$(stat '["listeners"]["log_events"]["kernel_dropped"]')"
equal "the edited file was kept" "$edited" "$(in_machine md5sum "$file")"

## The database comes back
# Its port for backups is that of Ringside's console.
drop_in influxdb Environment=INFLUXDB_BIND_ADDRESS=127.0.0.1:0
in_machine systemctl start influxdb.service
delivered() { [[ $(stat '["destinations"]["influxdb"]["delivered"]') == "$1" ]]; }
eventually "what both versions wrote to disk is delivered" delivered 11000

## What goes wrong
drop_in ringside WatchdogSec=3
in_machine systemctl restart ringside.service
pid=$(property MainPID)
in_machine kill -STOP "$pid"
restarted() { (($(property NRestarts) == 1)) && [[ $(property ActiveState) == active ]]; }
eventually "a process that stands still is replaced" restarted
drop_in ringside 'SystemCallFilter=~io_uring_setup'
in_machine systemctl restart ringside.service
equal "without io_uring it receives all the same" tokio "$(stat '["backend"]')"
send 100
accepted() { [[ $(stat '["listeners"]["log_events"]["accepted"]') == "$1" ]]; }
eventually "events too" accepted 100
drop_in ringside
in_machine systemctl stop ringside.service ringside.socket
edit 's/logLevel: info/logLevel: loud/'
in_machine systemctl start ringside.service 2>/dev/null && fail "it started with a wrong file"
equal "a wrong file ends the start, once" "failed 2 0" \
    "$(property ActiveState) $(property ExecMainStatus) $(property NRestarts)"
edit 's/logLevel: loud/logLevel: info/'
expect "without the socket unit it starts too" in_machine systemctl start ringside.service
equal "with the buffer that the file wants" $((32 << 20)) \
    "$(stat '["listeners"]["log_events"]["socket_buffer_bytes"]')"

## Remove, purge
expect "it is removed" in_machine dpkg --remove ringside
equal "and stopped" inactive "$(property ActiveState)"
expect "its file and its events are kept" in_machine test -f "$file" -a -d /var/lib/ringside/ringside-data
expect "it is installed again" install new
equal "with the edited file" "$edited" "$(in_machine md5sum "$file")"
expect "it is purged" in_machine dpkg --purge ringside
left=$(in_machine sh -c 'ls -d /etc/ringside /var/lib/ringside /etc/systemd/system/*/ringside.* \
    /usr/lib/systemd/system/ringside.* 2>/dev/null || true')
equal "and leaves nothing" "" "$left"
