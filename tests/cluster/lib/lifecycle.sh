# shellcheck shell=bash
# What a person asks for: a cluster, its end, and what is in it.

readonly daemons='etcd kube-apiserver kube-controller-manager kube-scheduler containerd registry kubelet kube-proxy coredns'

# --- up ---

cluster_up() {
  local began=$EPOCHREALTIME
  if foreign; then use_foreign; return; fi
  choose "${1:-}"
  can_run_clusters
  build_components
  lock "$cache/locks/$name" "another run works on cluster '$name'; waiting for it"
  if healthy; then
    say "cluster '$name' is up ($ip)"
    return
  fi
  if ! gone; then
    say "cluster '$name' is half dead; clearing it away"
    demolish
  fi
  trap start_failed EXIT
  start_cluster
  trap - EXIT
  say "cluster '$name' is up after $(since "$began") s: eval \"\$($0 env $name)\""
}

# The cluster of the user's KUBECONFIG: asked, never changed.
use_foreign() {
  local kubectl version trouble
  kubectl=$(command -v kubectl) || { bin=$(components_dir); kubectl=$(part kubectl); }
  [ -x "$kubectl" ] || die "kubectl is missing; it asks the cluster of your KUBECONFIG ($KUBECONFIG)"
  trouble=$("$kubectl" get --raw=/readyz --request-timeout=10s 2>&1 >/dev/null) ||
    die "the cluster of your KUBECONFIG ($KUBECONFIG) does not answer (${trouble##*$'\n'}); unset KUBECONFIG to start one here"
  version=$("$kubectl" version -o json --request-timeout=10s 2>/dev/null | jq -r .serverVersion.gitVersion)
  say "using the cluster of your KUBECONFIG ($KUBECONFIG), Kubernetes $version; nothing is built, and 'down' leaves it alone"
}

# The order is the machine's time: the API server takes longest, so it starts as soon as it can, and what does not need it starts meanwhile.
start_cluster() {
  mkdir -p "$dir"
  claim_address
  make_cgroups
  start_init
  join_network
  start_etcd
  make_pki
  start_apiserver
  start_registry
  start_containerd
  await_start 60 "ready API server" answers /readyz
  start_kubelet
  start_controllers
  start_proxy
  start_dns
  await_start 30 "registry" curl -sf --max-time 1 -o /dev/null "http://$registry/v2/"
  await_start 60 "default service account" answers /api/v1/namespaces/default/serviceaccounts/default
  await_start 60 "ready node" node_ready
  # One name that resolves shows three things: the rules of kube-proxy, the name server, and what it knows.
  await_start 30 "answer from the name server" resolves kubernetes.default.svc.cluster.local
}

# Waits like `await`, but not for a program that has ended: then there is nothing to wait for.
await_start() { # seconds, what, command…
  reached() { ended=$(ended_programs); [ -n "$ended" ] || "$@"; }
  local ended=''
  await "$1" "$2" reached "${@:3}" && [ -z "$ended" ]
}
ended_programs() {
  local what
  for what in $daemons $gateway_daemons $gitops_daemons; do [ ! -f "$dir/run/$what.pid" ] || runs "$what" || echo "$what"; done
}

answers() { api "$1" >/dev/null; }
resolves() { inside getent ahostsv4 "$1" >/dev/null; }
node_ready() {
  api "/api/v1/nodes/$name" |
    jq -e '(.status.conditions | any(.type == "Ready" and .status == "True")) and (.spec.taints // [] | length == 0)' >/dev/null 2>&1
}

healthy() {
  local what
  alive || return 1
  for what in $daemons; do runs "$what" || return 1; done
  [ -z "$(ended_programs)" ] || return 1
  answers /readyz && node_ready
}

start_failed() {
  explain_failure
  die "cluster '$name' did not start; its logs: $dir/log"
}

# Says which program ended, or else what each one said last.
explain_failure() {
  local what ended
  ended=$(ended_programs)
  for what in $ended; do
    say "--- $what ended:"
    tail -n 8 "$dir/log/$what.log" >&2
  done
  [ -n "$ended" ] || say "every program runs; perhaps $0 logs $name kubelet says more"
}

# --- down ---

cluster_down() {
  local began=$EPOCHREALTIME left
  if [ "${1:-}" = --all ]; then
    left=$(known_clusters)
    for name in $left; do (KUBECONFIG='' cluster_down "$name"); done
    [ -n "$left" ] || say "there is no cluster"
    return
  fi
  if foreign; then
    say "KUBECONFIG names a cluster of yours ($KUBECONFIG): left alone"
    return
  fi
  choose "${1:-}"
  lock "$cache/locks/$name" "another run works on cluster '$name'; waiting for it"
  if gone; then
    say "there is no cluster '$name'"
    return
  fi
  demolish
  say "cluster '$name' is gone after $(since "$began") s"
}

# Clusters that have a state folder, and those that lost theirs but left a cgroup.
known_clusters() {
  local root place
  for place in "$clusters"/*/; do basename "$place"; done >"$cache/.known" 2>/dev/null || return 0
  for root in $(cgroup_roots); do
    for place in "$root"haldane-"$mark"-*/; do place=$(basename "$place"); echo "${place#haldane-"$mark"-}"; done
  done >>"$cache/.known"
  sort -u "$cache/.known"
  rm -f "$cache/.known"
}

gone() { [ ! -e "$dir" ] && [ -z "$(find /sys/fs/cgroup -maxdepth 2 -name "$id" 2>/dev/null)" ]; }

# Nothing is asked to end: the pods' data is worth nothing, and a program that is asked may wait for another that is already gone.
demolish() {
  ! alive || kill -9 "$(init_pid)" 2>/dev/null || true
  leave_network
  await 10 "end of its processes" nothing_runs || die "these processes of cluster '$name' do not end: $(cgroup_pids | tr '\n' ' ')"
  await 10 "end of its cgroups" remove_cgroups || die "the cgroups $id cannot be removed"
  rm -rf "$dir"
}

# The first process takes all others with it. Whoever is left (an earlier crash took the first one alone) is found by cgroup.
nothing_runs() {
  local left
  left=$(cgroup_pids)
  [ -n "$left" ] || return 0
  # shellcheck disable=SC2086 # one word each
  kill -9 $left 2>/dev/null || true
  return 1
}

# --- what is in it ---

cluster_list() {
  local each state
  for each in $(known_clusters); do
    choose "$each"
    if ! alive; then state=dead; elif healthy; then state=up; else state=unhealthy; fi
    printf '%-20s %-10s %s\n' "$name" "$state" "${ip:--}"
  done
}

cluster_env() {
  if foreign; then
    printf 'export KUBECONFIG=%q\n' "$KUBECONFIG"
    printf 'export HALDANE_CLUSTER=\n'
    printf 'export HALDANE_REGISTRY=%q\n' "${HALDANE_REGISTRY:-}"
    printf 'export HALDANE_GATEWAY=%q\n' "${HALDANE_GATEWAY:-}"
    printf 'export HALDANE_AUDIT_LOG=\n'
    return
  fi
  own_cluster "${1:-}"
  printf 'export KUBECONFIG=%q\n' "$dir/kubeconfig"
  printf 'export HALDANE_CLUSTER=%q\n' "$name"
  printf 'export HALDANE_REGISTRY=%q\n' "$registry"
  # Empty without a gateway, so that the address of another cluster's does not stay.
  printf 'export HALDANE_GATEWAY=%q\n' "$(! gateway_runs || echo "$ip:$gateway_port")"
  printf 'export HALDANE_AUDIT_LOG=%q\n' "$dir/log/audit.json"
  # shellcheck disable=SC2016 # $PATH is for the shell that reads this
  printf 'export PATH=%q:"$PATH"\n' "$(tools_path)"
}

# Where kubectl and helm are.
tools_path() {
  local own
  own=$(components_dir)
  if brought kubectl; then echo "$KUBEBUILDER_ASSETS:$own"; else echo "$own"; fi
}

cluster_exec() { # [name] -- command…
  local asked=
  [ "${1:-}" = -- ] || { asked=${1:-}; shift || true; }
  [[ ${1:-} = -- && $# -ge 2 ]] || die "usage: cluster exec [NAME] -- COMMAND…"
  shift
  ! foreign || exec "$@" # the user's cluster is reached as the user reaches it
  own_cluster "$asked"
  KUBECONFIG=$dir/kubeconfig PATH=$(tools_path):$PATH
  export KUBECONFIG PATH
  # Only the network, and the name server in it: files and processes are those of this machine.
  exec nsenter --target "$(init_pid)" --net -- \
    unshare --mount sh -c 'mount --bind "$0" /etc/resolv.conf; exec "$@"' "$dir/resolv.client" "$@"
}

cluster_logs() {
  [ $# -eq 2 ] || die "usage: cluster logs NAME COMPONENT ($daemons $gateway_daemons $gitops_daemons)"
  choose "$1"
  [ -f "$dir/log/$2.log" ] || die "cluster '$name' has no log of '$2' (there are: $(cd "$dir/log" 2>/dev/null && echo *.log))"
  cat "$dir/log/$2.log"
}

cluster_apiserver() {
  local verb=${1:-}
  own_cluster "${2:-}"
  bin=$(components_dir)
  lock "$cache/locks/$name" "another run works on cluster '$name'; waiting for it"
  case $verb in
    stop)
      ! runs kube-apiserver || inside kill -9 "$(<"$dir/run/kube-apiserver.pid")"
      await 5 "end of the API server" apiserver_gone
      ;;
    start)
      runs kube-apiserver || start_apiserver
      await 60 "ready API server" answers /readyz || { explain_failure; die "the API server did not start"; }
      ;;
    *) die "usage: cluster apiserver stop|start [NAME]" ;;
  esac
}
apiserver_gone() { ! runs kube-apiserver; }
