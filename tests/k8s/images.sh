#!/usr/bin/env bash
# Makes the images of the cluster, as archives that containerd imports, without a registry:
#
#   tests/k8s/images.sh DIR      with the variables TOOLS and PROGRAMS of node.sh
set -euo pipefail
out=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"

image() { # name, folder with its files, settings
    local layer=$work/layer.tar sum
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$2" -cf "$layer" .
    sum=$(sha256sum "$layer" | cut -d' ' -f1)
    printf '{"architecture": "amd64", "os": "linux", "config": %s, "rootfs": {"type": "layers", "diff_ids": ["sha256:%s"]}}' \
        "$3" "$sum" >"$work/config.json"
    printf '[{"Config": "config.json", "RepoTags": ["localhost/%s:test"], "Layers": ["layer.tar"]}]' "$1" >"$work/manifest.json"
    tar -C "$work" -cf "$out/$1.tar" manifest.json config.json layer.tar
}

# A small system of one static program.
root=$work/root
mkdir -p "$root"/{bin,etc,tmp,root,proc,sys,dev,run,usr/bin,var/log}
chmod 1777 "$root/tmp"
cp "$(command -v busybox)" "$root/bin/busybox"
for name in $("$root/bin/busybox" --list); do [[ $name == busybox ]] || ln -s busybox "$root/bin/$name"; done
echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"
image busybox "$root" '{"Cmd": ["sh"], "Env": ["PATH=/usr/bin:/bin"]}'
image pause "$root" '{"Cmd": ["sleep", "2147483647"], "Env": ["PATH=/bin"]}'

for name in csi-provisioner csi-resizer csi-snapshotter; do
    mkdir -p "$work/$name"
    cp "$TOOLS/$name" "$work/$name/"
    image "$name" "$work/$name" "{\"Entrypoint\": [\"/$name\"]}"
done

# The driver's image as deploy/Dockerfile lays it out, with the libraries that these programs load here.
cp "$PROGRAMS"/{tarn,tarn-csi} "$(command -v tini)" "$root/usr/bin/"
ldd "$root"/usr/bin/{tarn,tarn-csi,tini} | grep -o '/[^ ]*lib[^ ]*' | grep -v "^$root" | sort -u |
    xargs -r cp -L --parents -t "$root"
cp -L --parents -t "$root" /etc/ssl/certs/ca-certificates.crt
image tarn-csi "$root" \
    '{"User": "65532:65532", "Entrypoint": ["/usr/bin/tini", "--", "/usr/bin/tarn-csi"], "Env": ["PATH=/usr/bin:/bin"]}'
