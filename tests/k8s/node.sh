#!/usr/bin/env bash
# Runs a program beside a Kubernetes of one node. Both are in pid, mount and network namespaces of their own, so that the
# end of the program is the end of every process, mount and address. Only root can do this.
#
#   tests/k8s/node.sh DIR TOOLS PROGRAMS COMMAND...
#
# DIR      emptied first; what the cluster writes is in it, DIR/log outlives the run
# TOOLS    the programs that tests/tools.sh k8s has built
# PROGRAMS tarn and tarn-csi, for the image of the driver
# COMMAND  runs with KUBECONFIG set, when the node is ready; its status is the script's
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export NODE_DIR=$1 TOOLS=$2 PROGRAMS=$3
shift 3

cgroup=tarn-k8s
# What the kubelet sets, and what belongs to the whole machine.
settings=(vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys
    kernel.keys.root_maxbytes)

# The folders in which the node has a group of processes: one for each controller, or one for all of them.
cgroups() {
    if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then
        echo "/sys/fs/cgroup/$cgroup"
    else
        find /sys/fs/cgroup -mindepth 2 -maxdepth 2 -name cgroup.procs -not -path '*/unified/*' -printf "%h/$cgroup\n"
    fi
}

make_cgroups() {
    local dir file
    for dir in $(cgroups); do
        mkdir -p "$dir"
        for file in cpuset.cpus cpuset.mems; do
            [[ ! -e ${dir%/*}/$file ]] || cat "${dir%/*}/$file" >"$dir/$file"
        done
    done
}

# Everything in the namespaces is dead by now; the kernel lets go of the last process a moment later.
leave() {
    local dir setting tries
    for dir in $(cgroups); do
        for ((tries = 0; tries < 100; tries++)); do
            find "$dir" -depth -type d -exec rmdir {} + 2>/dev/null || true
            [[ -d $dir ]] || break
            sleep 0.1
        done
    done
    for setting in "${saved[@]}"; do sysctl -qw "$setting"; done
    [[ ! $made_kubelet_dir ]] || rmdir /var/lib/kubelet
    find "$NODE_DIR" -mindepth 1 -maxdepth 1 -not -name log -exec rm -rf --one-file-system {} +
}

mkdir -p "$NODE_DIR"
find "$NODE_DIR" -mindepth 1 -maxdepth 1 -exec rm -rf --one-file-system {} +
mkdir -p "$NODE_DIR"/{conf,cni,kubelet,log,pki}
saved=()
for setting in "${settings[@]}"; do saved+=("$setting=$(sysctl -n "$setting")"); done
made_kubelet_dir=
[[ -d /var/lib/kubelet ]] || { mkdir /var/lib/kubelet && made_kubelet_dir=yes; }
trap leave EXIT
make_cgroups
CGROUP=$cgroup unshare --pid --fork --kill-child --mount --propagation private --net \
    tini-static -- "$here/start.sh" "$@"
