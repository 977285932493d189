# Shared by the tests of packages; to be sourced.

# What is to hold is said first, and printed once it does.
ok() { printf 'ok  %s\n' "$*"; }
fail() {
    printf 'FAILED  %s\n' "$*" >&2
    exit 1
}

# expect WHAT COMMAND...: the command succeeds.
expect() {
    local what=$1
    shift
    "$@" >/tmp/ringside-expect.$$ 2>&1 || {
        cat /tmp/ringside-expect.$$ >&2
        rm -f /tmp/ringside-expect.$$
        fail "$what: $*"
    }
    rm -f /tmp/ringside-expect.$$
    ok "$what"
}

# equal WHAT WANTED GOT
equal() {
    [[ $2 == "$3" ]] || fail "$1: wanted '$2', got '$3'"
    ok "$1"
}

# eventually WHAT COMMAND...: the command succeeds within 60 s.
eventually() {
    local what=$1 until=$((SECONDS + 60))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < until)) || {
            on_failure
            fail "$what: not within 60 s: $*"
        }
        sleep 0.1
    done
    ok "$what"
}

# What helps whoever reads a failure; a test says what that is.
on_failure() { :; }

# install_missing COMMAND:PACKAGE...: installs the packages whose commands are not there.
install_missing() {
    local missing=() pair
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
    done
    ((${#missing[@]})) || return 0
    echo "packaging/test.sh: installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}
