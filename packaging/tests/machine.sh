# A machine to install on: this one's files under an overlay in memory, booted by its own systemd in
# namespaces of its own (systemd-nspawn). To be sourced; `boot_machine`, then `in_machine COMMAND...`.

machine_files=
machine_nspawn=
machine_init=

# boot_machine NAME=DIRECTORY...: each directory is readable as /NAME in the machine.
boot_machine() {
    local binds=() pair
    machine_files=$(mktemp -d /tmp/ringside-machine.XXXXXX)
    mount -t tmpfs -o size=1G tmpfs "$machine_files"
    mkdir "$machine_files"/{upper,work,root}
    mount -t overlay overlay "$machine_files/root" \
        -o "lowerdir=/,upperdir=$machine_files/upper,workdir=$machine_files/work"
    # An identity of its own.
    : >"$machine_files/root/etc/machine-id"
    # Images for containers forbid packages to start and stop services; machines do not.
    rm -f "$machine_files/root/usr/sbin/policy-rc.d"
    for pair in "$@"; do
        binds+=("--bind-ro=${pair#*=}:/${pair%%=*}")
    done
    # Not `--boot`'s default target: the services of this machine are not to run twice. io_uring and the
    # network's administration are what nspawn denies by default and a real machine does not.
    SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn \
        --quiet --register=no --keep-unit --link-journal=no --private-network --console=pipe \
        --machine="ringside-$$" --directory="$machine_files/root" "${binds[@]}" \
        --capability=CAP_NET_ADMIN --system-call-filter=@aio \
        --boot systemd.unit=basic.target >"$machine_files/console" 2>&1 </dev/null &
    machine_nspawn=$!
    until machine_init=$(pgrep -P "$machine_nspawn") &&
        in_machine systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded'; do
        kill -0 "$machine_nspawn" 2>/dev/null || {
            cat "$machine_files/console" >&2
            fail "the machine did not boot"
        }
        sleep 0.1
    done
}

in_machine() { nsenter --target "$machine_init" --all -- "$@"; }

stop_machine() {
    [[ -n $machine_nspawn ]] && kill "$machine_nspawn" 2>/dev/null && wait "$machine_nspawn"
    [[ -n $machine_files ]] || return 0
    umount "$machine_files/root" "$machine_files" || umount -l "$machine_files/root" "$machine_files"
    rmdir "$machine_files"
}
