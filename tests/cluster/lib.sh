#!/usr/bin/env bash
# shellcheck disable=SC2034
# Names, places and small helpers shared by the scripts of this directory. Sourced, not run.
#
# ASTRA_TEST_CLUSTER=N (0-255, default 0) names the cluster: different numbers run side by side.
# ASTRA_TEST_KUBECONFIG=FILE uses the existing cluster of FILE instead of our own.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
number=${ASTRA_TEST_CLUSTER:-0}
name=astra-cluster-$number
state=/var/tmp/$name                  # everything the cluster writes; short, as unix sockets live in it
kubeconfig=$state/kubeconfig
link=astra-$number                    # the only link from the machine into the cluster
host_address=10.77.$number.1          # its end on the machine; tests may serve pods from here
node_address=10.77.$number.2          # API server and kubelet
pod_subnet=10.88.$number.0/24
service_address=10.96.0.1             # kubernetes.default, the first address of service_subnet
service_subnet=10.96.0.0/24
base_image=localhost/busybox:1        # imported by `up`: pause image and shell for tests

fail() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

[[ $number =~ ^(0|[1-9][0-9]?|1[0-9][0-9]|2[0-4][0-9]|25[0-5])$ ]] ||
    fail "ASTRA_TEST_CLUSTER=$number is not a number from 0 to 255"

# step TEXT COMMAND...: runs COMMAND and says how long it took. No `||` here: it would make bash
# ignore errors inside COMMAND.
doing=
step() {
    local text=$1 start=$EPOCHREALTIME
    shift
    doing=$text
    "$@"
    doing=
    LC_ALL=C awk -v text="$text" -v from="$start" -v to="$EPOCHREALTIME" \
        'BEGIN { printf "%7.1f s  %s\n", to - from, text }' >&2
}

# until_true SECONDS COMMAND...: polls COMMAND until it succeeds; false when time is over.
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || return 1
        sleep 0.1
    done
}

# foreign: the tests use somebody else's cluster. The path of our own kubeconfig does not count.
foreign() { [[ -n ${ASTRA_TEST_KUBECONFIG:-} && $ASTRA_TEST_KUBECONFIG != "$kubeconfig" ]]; }

need_root() { ((EUID == 0)) || fail "needs root (namespaces, mounts, cgroups): run it as root, or set ASTRA_TEST_KUBECONFIG"; }

# lock: one `up` or `down` per cluster at a time, until this process ends. The lock is the state
# directory itself, so that no lock file stays behind; a waiter whose directory is gone tries again.
lock() {
    while :; do
        mkdir -m 700 "$state" 2>/dev/null || true
        [[ -O $state && ! -L $state ]] || fail "$state belongs to somebody else: remove it"
        { exec 9<"$state"; } 2>/dev/null || continue
        flock 9
        [[ $state -ef /dev/fd/9 ]] && return
    done
}

# outer_pid: prints the host's id of the process all others hang on; false when it is gone.
outer_pid() {
    local pid
    pid=$(cat "$state/pid" 2>/dev/null) || return 1
    # A stale file may name a stranger's process: ours has the state directory in its command line.
    tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qFx "$state" || return 1
    printf '%s\n' "$pid"
}

# init_pid: prints the host's id of its child, PID 1 of the cluster's namespaces.
init_pid() {
    local pid
    pid=$(outer_pid) && pgrep -P "$pid"
}

# cgroup_tops: the mount point of each cgroup hierarchy (one on v2, many on v1).
cgroup_tops() { findmnt -rno TARGET -t cgroup,cgroup2; }

# stop: ends every process of the cluster and removes its cgroups. The kernel takes the mounts, the
# network namespaces and the link with the last process.
stop() {
    local outer init
    if outer=$(outer_pid); then
        init=$(init_pid) || true
        kill -KILL "$outer" ${init:+"$init"} 2>/dev/null || true
        until_true 30 ended "$outer" || fail "process $outer (unshare of $name) does not end"
        # PID 1 ends last in its namespace.
        [[ -z $init ]] || until_true 30 ended "$init" || fail "process $init (PID 1 of $name) does not end"
    fi
    until_true 10 remove_cgroups || fail "cgroups named $name stay below $(cgroup_tops | tr '\n' ' ')"
}

ended() { [[ ! -e /proc/$1 ]] || grep -q '^State:.Z' "/proc/$1/status"; }

remove_cgroups() {
    local top
    for top in $(cgroup_tops); do
        [[ ! -d $top/$name ]] || find "$top/$name" -depth -type d -exec rmdir {} + || return 1
    done
}

# tool_cache: prints the directory of the built binaries, named by all that decides their content.
tool_cache() {
    local key
    key=$( (go version && cat "$here/go.mod" "$here/go.sum" "$here/binaries") | sha256sum)
    printf '%s/astra-dispatch/cluster-%s\n' "${XDG_CACHE_HOME:-$HOME/.cache}" "${key:0:12}"
}
