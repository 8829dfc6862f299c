#!/usr/bin/env bash
# Prints the folder that holds what the tests run a Kubernetes control plane from: etcd, kube-apiserver,
# kube-controller-manager, kubectl and helm. With KUBEBUILDER_ASSETS set, what is in that folder is taken from there. The
# rest is built once from Go modules (versions: tests/tools/go.mod) into the user's cache: about 9 minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/../tests/tools"

kubernetes=$(awk '$1 == "k8s.io/kubernetes" { print $2; exit }' go.mod)
wanted='
etcd                    go.etcd.io/etcd/server/v3
kube-apiserver          k8s.io/kubernetes/cmd/kube-apiserver
kube-controller-manager k8s.io/kubernetes/cmd/kube-controller-manager
kubectl                 k8s.io/kubernetes/cmd/kubectl
helm                    helm.sh/helm/v3/cmd/helm
'

cache="${XDG_CACHE_HOME:-$HOME/.cache}/routr-registry/control-plane"
# Another version of anything, another folder. (Other flags for the build need another folder too: change `-1` then.)
place="$cache/$(cat go.mod go.sum | sha256sum | cut -c1-12)-1"
given="${KUBEBUILDER_ASSETS:-}"
mkdir -p "$place"
exec 9>"$cache/.lock"
if ! flock -n 9; then
    echo "control plane: waiting for another build of it" >&2
    flock 9
fi

missing=()
while read -r name package; do
    [[ -n $name ]] || continue
    if [[ -n $given && -x $given/$name ]]; then continue; fi
    [[ -x $place/$name ]] || missing+=("$name $package")
done <<<"$wanted"

if ((${#missing[@]})); then
    go=$(../../scripts/go.sh)
    echo "control plane: building ${#missing[@]} programs once into $place (about 9 minutes on two cores)" >&2
    version="${kubernetes#v}"
    flags=
    # Without these, helm and kubectl take the server for v0.0.0 and refuse it.
    for where in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        flags+=" -X $where.gitVersion=$kubernetes -X $where.gitMajor=${version%%.*} -X $where.gitMinor=$(cut -d. -f2 <<<"$version")"
    done
    for entry in "${missing[@]}"; do
        read -r name package <<<"$entry"
        began=$SECONDS
        # Built aside and moved when whole, so that a broken attempt is never taken for the program.
        CGO_ENABLED=0 "$go" build -ldflags "-s -w$flags" -o "$place/.$name" "$package" >&2
        mv "$place/.$name" "$place/$name"
        echo "control plane: $name built in $((SECONDS - began)) s" >&2
    done
fi

if [[ -n $given ]]; then
    while read -r name _; do
        if [[ -n $name && -x $given/$name ]]; then ln -sf "$given/$name" "$place/$name"; fi
    done <<<"$wanted"
fi
echo "$place"
