# shellcheck shell=bash
# Builds the cluster's parts from pinned Go modules into a folder that is named by the pins: a new pin is a new folder, and what is
# in a folder is complete, because a binary gets its name only when it is whole.

readonly kubernetes_version=1.34.4
readonly -a go_flags=(-trimpath -buildvcs=false -mod=readonly)

# name, module, package, time of the first build on 2 cores. The API server comes first and pays for what the others share.
readonly parts='
kube-apiserver          kubernetes k8s.io/kubernetes/cmd/kube-apiserver          about 4 min
kubectl                 kubernetes k8s.io/kubernetes/cmd/kubectl                 about 20 s
kubelet                 kubernetes k8s.io/kubernetes/cmd/kubelet                 about 40 s
kube-controller-manager kubernetes k8s.io/kubernetes/cmd/kube-controller-manager about 20 s
kube-scheduler          kubernetes k8s.io/kubernetes/cmd/kube-scheduler          a few seconds
kube-proxy              kubernetes k8s.io/kubernetes/cmd/kube-proxy              a few seconds
etcd                    etcd       go.etcd.io/etcd/server/v3                     about 15 s
coredns                 coredns    .                                             about 45 s
helm                    helm       helm.sh/helm/v3/cmd/helm                      about 1 min
pause                   pause      .                                             a moment
'

# The folder of the parts for these pins and flags.
components_dir() {
  local pins
  pins=$(cd "$here/components" && sha256sum ./*/go.mod ./*/go.sum ./*/*.go && declare -p parts go_flags kubernetes_version && uname -m)
  echo "$cache/components/$(sha256sum <<<"$pins" | cut -c1-16)"
}

# Without the version flags Kubernetes reports v0.0.0.
link_flags() { # module
  local v=k8s.io/component-base/version
  [ "$1" = kubernetes ] || { echo "-s -w"; return; }
  echo "-s -w -X $v.gitVersion=v$kubernetes_version -X $v.gitMajor=${kubernetes_version%%.*}" \
    "-X $v.gitMinor=$(cut -d. -f2 <<<$kubernetes_version) -X $v.gitTreeState=clean" \
    "-X k8s.io/client-go/pkg/version.gitVersion=v$kubernetes_version"
}

build_one() { # name, module, package
  (
    cd "$here/components/$2"
    CGO_ENABLED=0 GOWORK=off GOFLAGS="${go_flags[*]}" go build -ldflags "$(link_flags "$2")" -o "$bin/.$1.new" "$3"
  )
  mv "$bin/.$1.new" "$bin/$1"
}

# Where the files of a module lie that a folder of pins names.
module_folder() { # folder, module
  cd "$here/$1"
  GOWORK=off GOFLAGS="${go_flags[*]}" go mod download "$2" >&2
  GOWORK=off GOFLAGS="${go_flags[*]}" go list -m -f '{{.Dir}}' "$2"
}

# A part that the user brings need not be built.
brought() { # name
  [[ -n ${KUBEBUILDER_ASSETS:-} && -x $KUBEBUILDER_ASSETS/etcd && -x $KUBEBUILDER_ASSETS/kube-apiserver && -x $KUBEBUILDER_ASSETS/kubectl ]] &&
    [[ $1 =~ ^(etcd|kube-apiserver|kubectl)$ ]]
}

# The path of a part.
part() { if brought "$1"; then echo "$KUBEBUILDER_ASSETS/$1"; else echo "$bin/$1"; fi; }

# Reads the table once and calls a command with each part that is to be built: name, module, package, time, position.
each_part() {
  local row=0 one module package takes
  while read -r one module package takes; do
    [ -n "$one" ] || continue
    row=$((row + 1))
    brought "$one" || "$@" "$one" "$module" "$package" "$takes" "$row"
  done <<<"$parts"
}

build_if_missing() {
  local began=$EPOCHREALTIME
  [ ! -x "$bin/$1" ] || return 0
  printf 'building %s (%s of %s, %s the first time) … ' "$1" "$5" "$(grep -c . <<<"$parts")" "$4" >&2
  build_one "$1" "$2" "$3" || { say; die "$1 did not build"; }
  say "$(since "$began") s"
}

all_built() {
  local missing=
  note_missing() { [ -x "$bin/$1" ] || missing=1; }
  each_part note_missing
  [ -z "$missing" ] && [ -f "$bin/pause.tar" ]
}

# Sets $bin, the folder with every part in it.
build_components() {
  bin=$(components_dir)
  ! all_built || return 0
  command -v go >/dev/null || die "Go is missing (1.24 or newer builds the cluster's parts); install it, $instead"
  mkdir -p "$bin"
  lock "$cache/components/lock" "another run is building the cluster's parts; waiting for it"
  each_part build_if_missing
  [ -f "$bin/pause.tar" ] || pause_archive "$bin/pause.tar"
  exec {lock_fd}>&-
}
