#!/usr/bin/env bash
# The part of node.sh inside of the namespaces: starts the node, then becomes the command.
#
# 10.96.0.1 is where pods find the API: the address of the service `kubernetes`, which the node has itself, so that no
# kube-proxy is needed. 10.99.0.1 is the node's own. Neither is seen outside of the network namespace.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
api=10.96.0.1
node=10.99.0.1
services=10.96.0.0/16
pods=10.123.0.0/16
pki=$NODE_DIR/pki
log=$NODE_DIR/log

start() { # name, command...: in the background, with a log
    local name=$1
    shift
    "$@" >"$log/$name.log" 2>&1 </dev/null &
}

await() { # what, seconds, command...: until it succeeds
    local what=$1 seconds=$2
    shift 2
    local end=$((SECONDS + seconds))
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || { echo "k8s: $what: not within $seconds s; see $log" >&2; exit 1; }
        sleep 0.2
    done
}

mounts() {
    # Copies of what others have mounted would keep it busy after they have unmounted it.
    local dir
    awk '$1 ~ "^/dev/loop" || $3 ~ "^fuse" { print $2 }' /proc/self/mounts | tac |
        while read -r dir; do umount -l "$(printf '%b' "$dir")"; done
    mount -t proc proc /proc
    mount -t tmpfs -o mode=755 run /run
    mount --bind "$NODE_DIR/kubelet" /var/lib/kubelet
    # What the driver mounts must be seen by the kubelet and its pods.
    mount --make-rshared /
}

network() {
    ip link set lo up
    ip link add node0 type veth peer name node1
    ip link set node1 up
    ip link set node0 up
    ip addr add "$node/24" dev node0
    ip addr add "$api/32" dev node0
    # A machine without a default route has no network, says the kubelet.
    ip route add default dev node0
    sysctl -qw net.ipv4.ip_forward=1
    cat >"$NODE_DIR/cni/10-bridge.conflist" <<J
{"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "pods0", "isDefaultGateway": true,
  "ipam": {"type": "host-local", "ranges": [[{"subnet": "$pods"}]], "dataDir": "$NODE_DIR/cni-data"}}]}
J
}

key() { openssl "$@" -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes 2>/dev/null; }

certificate() { # name, subject, names of a server
    key req -keyout "$pki/$1.key" -out "$pki/$1.csr" -subj "$2"
    printf 'keyUsage=digitalSignature\nextendedKeyUsage=clientAuth,serverAuth\n%s\n' "${3:+subjectAltName=$3}" >"$pki/$1.ext"
    openssl x509 -req -in "$pki/$1.csr" -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -CAcreateserial -days 2 \
        -extfile "$pki/$1.ext" -out "$pki/$1.crt" 2>/dev/null
    cat >"$NODE_DIR/$1.kubeconfig" <<Y
apiVersion: v1
kind: Config
clusters: [{name: here, cluster: {server: "https://$api", certificate-authority: $pki/ca.crt}}]
users: [{name: $1, user: {client-certificate: $pki/$1.crt, client-key: $pki/$1.key}}]
contexts: [{name: here, context: {cluster: here, user: $1}}]
current-context: here
Y
}

certificates() {
    key req -x509 -days 2 -keyout "$pki/ca.key" -out "$pki/ca.crt" -subj /CN=tarn-k8s
    certificate apiserver /O=system:masters/CN=apiserver "IP:$api,IP:$node"
    certificate admin /O=system:masters/CN=admin
    certificate controller-manager /CN=system:kube-controller-manager
    certificate scheduler /CN=system:kube-scheduler
    certificate kubelet /O=system:nodes/CN=system:node:node-1 "IP:$node"
    openssl genrsa -out "$pki/accounts.key" 2048 2>/dev/null
    openssl rsa -in "$pki/accounts.key" -pubout -out "$pki/accounts.pub" 2>/dev/null
}

runtime() {
    # An oom_score_adj below the own needs CAP_SYS_RESOURCE, which not every machine grants.
    cat >"$NODE_DIR/conf/containerd.toml" <<T
version = 2
root = "$NODE_DIR/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:test"
  restrict_oom_score_adj = true
  disable_apparmor = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$NODE_DIR/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
T
    start containerd containerd --config "$NODE_DIR/conf/containerd.toml"
    "$here/images.sh" "$NODE_DIR/images"
    local ctr="ctr --namespace k8s.io" image
    await containerd 30 $ctr version
    for image in "$NODE_DIR"/images/*.tar; do $ctr images import "$image" >/dev/null; done
    rm -r "$NODE_DIR/images"
}

control_plane() {
    local config=$NODE_DIR
    start etcd "$TOOLS/etcd" --data-dir "$NODE_DIR/etcd" --unsafe-no-fsync --log-level warn
    start apiserver "$TOOLS/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 --bind-address="$api" --secure-port=443 \
        --advertise-address="$api" --endpoint-reconciler-type=none --service-cluster-ip-range=$services \
        --client-ca-file="$pki/ca.crt" --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
        --kubelet-client-certificate="$pki/apiserver.crt" --kubelet-client-key="$pki/apiserver.key" \
        --kubelet-certificate-authority="$pki/ca.crt" --kubelet-preferred-address-types=InternalIP \
        --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$pki/accounts.pub" \
        --service-account-signing-key-file="$pki/accounts.key" --authorization-mode=Node,RBAC \
        --enable-admission-plugins=NodeRestriction --allow-privileged=true
    await "the API" 90 kubectl get --raw /readyz
    start controller-manager "$TOOLS/kube-controller-manager" --kubeconfig="$config/controller-manager.kubeconfig" \
        --bind-address=127.0.0.1 --leader-elect=false --use-service-account-credentials \
        --service-account-private-key-file="$pki/accounts.key" --root-ca-file="$pki/ca.crt"
    start scheduler "$TOOLS/kube-scheduler" --kubeconfig="$config/scheduler.kubeconfig" \
        --bind-address=127.0.0.1 --leader-elect=false
}

kubelet() {
    cat >"$NODE_DIR/conf/kubelet.yaml" <<Y
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $node
healthzBindAddress: 127.0.0.1
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $pki/kubelet.crt
tlsPrivateKeyFile: $pki/kubelet.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /$CGROUP
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
makeIPTablesUtilChains: false
resolvConf: ""
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
maxPods: 150
serializeImagePulls: false
volumePluginDir: $NODE_DIR/volume-plugins
podLogsDir: $NODE_DIR/log/pods
Y
    start kubelet "$TOOLS/kubelet" --config="$NODE_DIR/conf/kubelet.yaml" --kubeconfig="$NODE_DIR/kubelet.kubeconfig" \
        --hostname-override=node-1 --node-ip="$node"
    await "the node registers" 60 kubectl get node node-1
    kubectl wait --for=condition=Ready node/node-1 --timeout=90s >/dev/null
    await "the default service account" 60 kubectl get serviceaccount default
}

export PATH=$TOOLS:$PATH KUBECONFIG=$NODE_DIR/admin.kubeconfig
mounts
network
certificates
runtime
control_plane
kubelet
exec "$@"
