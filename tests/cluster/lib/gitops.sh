# shellcheck shell=bash
# GitOps, for the clusters that ask for it: the two controllers of Flux that read git and apply what it says, built from their Go modules.
# They run on the node, like the name server, and know no other state than what is in the API server. Who uses them makes a GitRepository
# and a Kustomization.

readonly gitops_daemons='source-controller kustomize-controller'
# Behind these addresses of the node: what was read from git, and whether each of them is well.
readonly artifacts=127.0.0.1:9790 source_health=127.0.0.1:9441 kustomize_health=127.0.0.1:9442

# --- the parts ---

# They have a folder of their own, named by their own pins: a new pin here builds nothing of the rest anew.
gitops_dir() {
  local pins
  pins=$(cd "$here/gitops/flux" && sha256sum ./* && declare -p go_flags && uname -m)
  echo "$cache/components/gitops-$(sha256sum <<<"$pins" | cut -c1-16)"
}

build_gitops() {
  local what
  gitops_bin=$(gitops_dir)
  ! gitops_built || return 0
  command -v go >/dev/null || die "Go is missing (1.26 or newer builds the controllers of Flux); install it"
  mkdir -p "$gitops_bin"
  lock "$cache/components/lock" "another run is building the cluster's parts; waiting for it"
  for what in $gitops_daemons; do [ -e "$gitops_bin/$what" ] || build_flux "$what"; done
  [ -e "$gitops_bin/definitions" ] || build_flux_definitions
  exec {lock_fd}>&-
}

gitops_built() {
  local what
  for what in $gitops_daemons definitions; do [ -e "$gitops_bin/$what" ] || return 1; done
}

build_flux() { # which of its controllers
  local began=$EPOCHREALTIME
  printf 'building %s of Flux (both take about 5 min the first time) … ' "$1" >&2
  (
    cd "$here/gitops/flux"
    CGO_ENABLED=0 GOWORK=off GOFLAGS="${go_flags[*]}" go build -ldflags "-s -w" -o "$gitops_bin/.$1.new" "github.com/fluxcd/$1"
  ) || { say; die "$1 did not build"; }
  mv "$gitops_bin/.$1.new" "$gitops_bin/$1"
  say "$(since "$began") s"
}

# Files of modules that go.sum vouches for.
build_flux_definitions() {
  local new=$gitops_bin/.definitions.new what
  rm -rf "$new"
  mkdir "$new"
  for what in $gitops_daemons; do
    install -m 0644 "$(module_folder gitops/flux "github.com/fluxcd/$what")"/config/crd/bases/*.yaml "$new"
  done
  [ -f "$new/kustomize.toolkit.fluxcd.io_kustomizations.yaml" ] || die "the modules of Flux have their definitions elsewhere now"
  mv "$new" "$gitops_bin/definitions"
}

# --- in a cluster ---

cluster_gitops() { # [name]
  local began=$EPOCHREALTIME
  own_cluster "${1:-}"
  bin=$(components_dir)
  build_gitops
  lock "$cache/locks/$name" "another run works on cluster '$name'; waiting for it"
  ! gitops_answers || return 0
  trap gitops_failed EXIT
  install_gitops
  runs source-controller || start_source_controller
  runs kustomize-controller || start_kustomize_controller
  await_start 60 "answer from the controllers of Flux" gitops_answers
  trap - EXIT
  say "cluster '$name' has Flux after $(since "$began") s"
}

gitops_failed() {
  explain_failure
  die "Flux did not start in cluster '$name'; its logs: $dir/log/gitops.log (what was installed), source-controller.log, kustomize-controller.log"
}

gitops_answers() {
  local what
  for what in $gitops_daemons; do runs "$what" || return 1; done
  is_well "http://$source_health/readyz" && is_well "http://$kustomize_health/readyz" && serves_artifacts
}
is_well() { inside curl -sf --max-time 1 -o /dev/null "$1"; }
# Whatever it answers: there is nothing to read yet.
serves_artifacts() { inside curl -s --max-time 1 -o /dev/null "http://$artifacts/"; }

# Applying again changes nothing that is right. Flux applies what it finds in git as the administrator of the cluster, unless a
# Kustomization names somebody else.
install_gitops() {
  local apply=(apply --server-side --force-conflicts --field-manager=test-cluster)
  as_admin gitops "${apply[@]}" -f "$gitops_bin/definitions"
  as_admin gitops wait --for=condition=Established --timeout=30s -f "$gitops_bin/definitions"
  as_admin gitops "${apply[@]}" -f - <<'YAML'
apiVersion: v1
kind: Namespace
metadata: {name: flux-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: flux}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects:
  - {apiGroup: rbac.authorization.k8s.io, kind: User, name: system:source-controller}
  - {apiGroup: rbac.authorization.k8s.io, kind: User, name: system:kustomize-controller}
YAML
}

start_source_controller() {
  flux_daemon source-controller --storage-path="$dir/flux/artifacts" --storage-addr="$artifacts" --storage-adv-addr="$artifacts" \
    --metrics-addr=127.0.0.1:9091 --health-addr="$source_health"
}

start_kustomize_controller() {
  flux_daemon kustomize-controller --metrics-addr=127.0.0.1:9092 --health-addr="$kustomize_health"
}

# With nothing of this machine's own environment: a proxy of it would be asked for a git that is next door.
flux_daemon() { # name, arguments…
  local what=$1
  shift
  mkdir -p "$dir/flux/artifacts" "$dir/flux/tmp"
  certificate "$what" "/CN=system:$what" "DNS:$what"
  kubeconfig "$what" 127.0.0.1 "$pki/$what.kubeconfig"
  daemon "$what" env -i PATH="$PATH" HOME="$dir/flux" TMPDIR="$dir/flux/tmp" KUBECONFIG="$pki/$what.kubeconfig" RUNTIME_NAMESPACE=flux-system \
    "$gitops_bin/$what" "$@"
}
