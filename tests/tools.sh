#!/usr/bin/env bash
# Installs what tarn's demo, tests and lints need, pinned, into .tools/ of the checkout and, for Debian's
# packages, with apt-get. Running it again finds everything and does nothing. Only package registries are asked.
#
#   tests/tools.sh demo     what `make demo` needs
#   tests/tools.sh test     what `make test` needs
#   tests/tools.sh posix    what `make test-posix` needs besides
#   tests/tools.sh survive  what `make test-survive` needs besides
#   tests/tools.sh k8s      what `make test-k8s` needs besides: a Kubernetes, some 20 minutes of building
#   tests/tools.sh bench    the peers that `make bench-peers` measures beside tarn
#   tests/tools.sh lint     what .ci/run needs besides
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

csi_sanity_version=v5.6.0
helm_version=v3.22.0
minio_version=v0.0.0-20260212201848-7aac2a2c5b7c
fsx_version=0.3.2
pjdfstest_version=0.2.2
cargo_deny_version=0.20.2
kubernetes_version=v1.34.4
# The version of its libraries, which are modules of their own.
kubernetes_libraries=v0.34.4
etcd_version=v3.6.5
provisioner_version=v6.3.0
resizer_version=v2.3.0
snapshotter_version=v8.7.0
tools=$PWD/.tools

say() { printf 'tools: %s\n' "$*"; }
die() { printf 'tools: %s\n' "$*" >&2; exit 1; }

# A stamp is written after an install has succeeded; a half install has none and is done again.
done_before() { [[ -e $tools/stamps/$1 ]]; }
stamp() { mkdir -p "$tools/stamps" && touch "$tools/stamps/$1"; }

# $@: command=package pairs; a package is missing when its command is.
debian() {
    local missing=() pair
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    ((${#missing[@]})) || return 0
    command -v apt-get >/dev/null || die "please install: ${missing[*]}"
    ((EUID == 0)) || die "not root and these packages are missing; please run: sudo apt-get install ${missing[*]}"
    say "installing Debian packages: ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
}

go_tool() { # name, module, version
    local name=$1 module=$2 version=$3
    [[ -x $tools/bin/$name ]] && done_before "$name-$version" && return
    command -v go >/dev/null || debian go=golang-go
    say "building $name $version (some minutes)"
    GOBIN=$tools/bin GOFLAGS=-mod=mod CGO_ENABLED=0 go install "$module@$version"
    stamp "$name-$version"
}

# `go install` refuses a module whose go.mod replaces others. One of our own requires it and repeats what it replaces;
# what lies in its own tree there (./staging, ./client) is published too, in the version $3 (- for nothing).
go_programs() { # module, version, version of its parts, [name=]package...
    local module=$1 version=$2 parts=$3 one name missing=() work gomod
    shift 3
    for one in "$@"; do
        name=${one%%=*}
        name=${name##*/}
        [[ -x $tools/bin/$name ]] && done_before "$name-$version" || missing+=("$name=${one#*=}")
    done
    ((${#missing[@]})) || return 0
    command -v go >/dev/null || debian go=golang-go
    work=$(mktemp -d)
    (
        cd "$work"
        export GOFLAGS=-mod=mod CGO_ENABLED=0
        printf 'module tarn.tools/programs\n' >go.mod
        gomod=$(go mod download -json "$module@$version" | sed -n 's/^.*"GoMod": "\(.*\)".*$/\1/p')
        go mod edit -go="$(awk '$1 == "go" { print $2 }' "$gomod")" -require="$module@$version"
        awk -v parts="$parts" '
            !/=>/ { next }
            { sub(/^[ \t]*(replace )?/, "") }
            $3 !~ /^\./ { print $1 "=" $3 "@" $4; next }
            parts != "-" { print $1 "=" $1 "@" parts }' "$gomod" |
            while read -r replacement; do go mod edit -replace="$replacement"; done
        for one in "${missing[@]}"; do
            name=${one%%=*}
            say "building $name $version (some minutes)"
            go build -trimpath -o "$tools/bin/$name" \
                -ldflags "-s -w -X main.version=$version -X k8s.io/component-base/version.gitVersion=$version" "${one#*=}"
            stamp "$name-$version"
        done
    )
    rm -rf "$work"
}

kubernetes() {
    local csi=github.com/kubernetes-csi k8s=k8s.io/kubernetes/cmd crds=$tools/crds/$snapshotter_version
    # Without systemd nothing starts these; the tests run them in namespaces of their own.
    debian containerd=containerd runc=runc /usr/lib/cni/bridge=containernetworking-plugins busybox=busybox-static \
        tini-static=tini ip=iproute2 openssl=openssl
    go_programs k8s.io/kubernetes "$kubernetes_version" "$kubernetes_libraries" \
        $k8s/kube-apiserver $k8s/kube-controller-manager $k8s/kube-scheduler $k8s/kubelet $k8s/kubectl
    go_programs go.etcd.io/etcd/server/v3 "$etcd_version" - etcd=go.etcd.io/etcd/server/v3
    go_programs $csi/external-provisioner/v6 "$provisioner_version" - $csi/external-provisioner/v6/cmd/csi-provisioner
    go_programs $csi/external-resizer/v2 "$resizer_version" - $csi/external-resizer/v2/cmd/csi-resizer
    go_programs $csi/external-snapshotter/v8 "$snapshotter_version" "$snapshotter_version" \
        $csi/external-snapshotter/v8/cmd/{csi-snapshotter,snapshot-controller}
    [[ -d $crds ]] && return
    mkdir -p "${crds%/*}"
    cp -r --no-preserve=mode "$(go mod download -json $csi/external-snapshotter/client/v8@"$snapshotter_version" |
        sed -n 's/^.*"Dir": "\(.*\)".*$/\1/p')/config/crd" "$crds"
}

cargo_tool() { # name, version
    local name=$1 version=$2
    [[ -x $tools/bin/$name ]] && done_before "$name-$version" && return
    say "building $name $version"
    # Its own target directory: a tool must not be rebuilt because of this workspace's profile, nor the reverse.
    CARGO_TARGET_DIR=$tools/target cargo install --quiet --locked --root "$tools" --version "$version" "$name"
    rm -rf "$tools/target"
    stamp "$name-$version"
}

python_venv() {
    local sum
    sum=$(sha256sum tests/requirements.txt | cut -c1-16)
    [[ -x $tools/venv/bin/python ]] && done_before "venv-$sum" && return
    python3 -c 'import ensurepip, venv' 2>/dev/null || debian no-such-command=python3-venv
    say "installing Python packages: $(tr '\n' ' ' <tests/requirements.txt)"
    rm -rf "$tools/venv"
    python3 -m venv "$tools/venv"
    "$tools/venv/bin/pip" install --quiet --disable-pip-version-check -r tests/requirements.txt
    stamp "venv-$sum"
}

rust() {
    command -v cargo >/dev/null || die "Rust is missing: install Rust 1.95 or later first"
    # aws-lc and ring compile C.
    debian cc=gcc
}

case ${1:-test} in
demo)
    rust
    debian fusermount3=fuse3
    ;;
test)
    rust
    debian fusermount3=fuse3 fio=fio rsync=rsync zip=zip unzip=unzip sqlite3=sqlite3 git=git make=make \
        setfattr=attr python3=python3 strace=strace mkfs.ext4=e2fsprogs setpriv=util-linux mkfs.xfs=xfsprogs \
        stress-ng=stress-ng vim=vim systemd-analyze=systemd
    python_venv
    go_tool csi-sanity github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity "$csi_sanity_version"
    go_tool helm helm.sh/helm/v3/cmd/helm "$helm_version"
    go_tool minio github.com/minio/minio "$minio_version"
    cargo_tool fsx "$fsx_version"
    cargo_tool pjdfstest "$pjdfstest_version"
    ;;
posix)
    # Debian's package starts a server of its own, on the loopback interface.
    debian pg_ctlcluster=postgresql
    ;;
survive) debian systemd-nspawn=systemd-container ;;
k8s) kubernetes ;;
bench)
    # Others have no package in a registry; the benchmark takes those that it finds in .tools/bin and on the path.
    debian s3fs=s3fs rclone=rclone
    ;;
lint)
    rust
    cargo_tool cargo-deny "$cargo_deny_version"
    ;;
*) die "unknown group '$1': demo, test, posix, survive, k8s, bench or lint" ;;
esac
say "${1:-test}: everything is there"
