# shellcheck shell=bash
# Names, places and small words that every other part uses.

cache=${HALDANE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/haldane}
[[ $cache = /* ]] || cache=$PWD/$cache
clusters=$cache/clusters
# Two checkouts with different caches may both have a cluster named haldane: what lives outside the state folder (cgroups, veth)
# therefore carries a mark of the folder as well.
mark=$(sha256sum <<<"$clusters" | cut -c1-6)

readonly pod_cidr=10.88.0.0/16 service_cidr=10.96.0.0/16 api_service=10.96.0.1 dns_service=10.96.0.10
readonly pause_image=haldane.dev/pause:1

say() { printf '%s\n' "$*" >&2; }
die() { printf 'cluster: %s\n' "$*" >&2; exit 1; }

# Seconds since a time taken from EPOCHREALTIME, with one digit.
since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }'; }

# Makes NAME (or the one that the environment names) the cluster that everything else is about.
choose() {
  name=${1:-${HALDANE_CLUSTER:-haldane}}
  [[ $name =~ ^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$ ]] || die "'$name' cannot name a cluster: a-z, 0-9 and -, at most 40"
  dir=$clusters/$name
  id=haldane-$mark-$name pki=$dir/pki
  index='' ip='' gateway='' veth='' registry=''
  [ ! -f "$dir/index" ] || address "$(<"$dir/index")"
}

# A KUBECONFIG that the user set, as opposed to one that `cluster env` gave out, means: use that cluster.
foreign() { [[ -n ${KUBECONFIG:-} && $KUBECONFIG != "$clusters"/* ]]; }

# For what only works on a cluster that this tool started.
own_cluster() {
  ! foreign || die "KUBECONFIG names a cluster of yours ($KUBECONFIG); this works only on a cluster that 'cluster up' started"
  choose "${1:-}"
  alive || die "there is no cluster '$name' (start it: cluster up $name)"
}

# Waits until a command succeeds: seconds, what for, command…
await() {
  local limit=$1 what=$2 began=$EPOCHREALTIME
  shift 2
  until "$@"; do
    (( ${EPOCHREALTIME%.*} - ${began%.*} < limit )) || { say "no $what after $limit s"; return 1; }
    sleep 0.05
  done
}

# Holds a lock until this process ends. What is started meanwhile must not inherit the descriptor: see `daemon`.
lock() { # file, what to say when it is taken
  mkdir -p "$(dirname "$1")"
  exec {lock_fd}>"$1"
  flock --nonblock "$lock_fd" || { say "$2"; flock "$lock_fd"; }
}

# What a machine must have to run a cluster; says in one line what is missing and how to go on.
readonly instead="or use a cluster that you have: KUBECONFIG=… make demo"
can_run_clusters() {
  [ "$(uname -s)" = Linux ] || die "a test cluster needs Linux; $instead"
  [ "$(id -u)" = 0 ] || die "a test cluster needs root (namespaces, cgroups); run it as root, $instead"
  "$here/../setup" >&2 || die "without these packages no cluster runs here; install them, $instead"
}
