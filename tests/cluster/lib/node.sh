# shellcheck shell=bash
# The processes of a cluster: where they live, and how each one is started.

# --- the cluster's own process tree ---

# With cgroup v1 every controller has a hierarchy of its own; with v2 the one hierarchy is the folder itself.
cgroup_roots() {
  if [ -f /sys/fs/cgroup/cgroup.controllers ]; then echo /sys/fs/cgroup/; else printf '%s\n' /sys/fs/cgroup/*/; fi
}

# A cgroup root of its own: a kubelet ends every pod in its root that it does not know, so two kubelets in one root end each other's pods.
make_cgroups() {
  local root
  for root in $(cgroup_roots); do mkdir -p "$root$id/system"; done
}

# Everything that this process starts from now on belongs to the cluster and can be found, whatever becomes of pid files.
join_cgroup() {
  local place
  for place in /sys/fs/cgroup/{pids,freezer}/"$id"/system /sys/fs/cgroup/"$id"/system; do
    [ ! -d "$place" ] || echo "$BASHPID" >"$place/cgroup.procs"
  done
}

cgroup_pids() {
  local root
  for root in $(cgroup_roots); do
    [ ! -d "$root$id" ] || find "$root$id" -name cgroup.procs -exec cat {} + 2>/dev/null || true
  done | sort -nu
}

remove_cgroups() {
  local root
  for root in $(cgroup_roots); do
    [ ! -d "$root$id" ] || find "$root$id" -depth -type d -exec rmdir {} + 2>/dev/null || [ ! -d "$root$id" ] || return 1
  done
}

# The first process, as this machine numbers it.
init_pid() { cat "$dir/run/init.pid" 2>/dev/null; }

# Numbers are used again: a process is the cluster's only if its cgroup says so.
alive() {
  local init
  init=$(init_pid) && [ -n "$init" ] && grep -q "/$id/" "/proc/$init/cgroup" 2>/dev/null
}

# Runs a command among the cluster's processes.
inside() { nsenter --target "$(init_pid)" --net --pid --mount --uts -- "$@"; }

# Starts the first process. What the cluster's programs write to fixed places of a machine (mounts of pod networks, sockets of shims,
# plugin folders) goes to memory that only they see and that ends with them.
start_init() {
  mkdir -p "$dir/run" "$dir/log" /var/lib/{cni,kubelet} /var/log/{pods,containers}
  printf 'nameserver %s\noptions ndots:5\n' "$dns_service" >"$dir/resolv.node"
  printf 'nameserver %s\nsearch svc.cluster.local cluster.local\noptions ndots:5\n' "$dns_service" >"$dir/resolv.client"
  # shellcheck disable=SC2016 # expanded inside
  local -r prepare='
    hostname "$1"
    for place in /run /var/lib/cni /var/lib/kubelet /var/log/pods /var/log/containers; do mount -t tmpfs -o mode=755 tmpfs "$place"; done
    mount --bind "$2/resolv.node" /etc/resolv.conf
    touch "$2/run/prepared"
    exec "$3"'
  (
    exec {lock_fd}>&-
    join_cgroup
    exec setsid unshare --net --uts --mount --pid --fork --kill-child --mount-proc sh -ec "$prepare" sh "$name" "$dir" "$bin/pause"
  ) </dev/null >"$dir/log/init.log" 2>&1 &
  local holder=$!
  await 5 "first process ($dir/log/init.log)" [ -f "$dir/run/prepared" ] || die "namespaces cannot be made here: $(tail -1 "$dir/log/init.log")"
  pgrep --parent "$holder" >"$dir/run/init.pid"
}

# Starts a program that runs until the cluster ends. It becomes a child of the first process, which buries it.
daemon() { # name, command…
  local what=$1
  shift
  (
    exec {lock_fd}>&-
    join_cgroup
    # shellcheck disable=SC2016 # expanded inside
    inside sh -c 'log=$1; shift; setsid "$@" >>"$log" 2>&1 </dev/null & echo $!' sh "$dir/log/$what.log" "$@" >"$dir/run/$what.pid"
  )
}

# Whether a program still runs. Its number is the one inside, so we look at the cluster's own /proc.
runs() { [ -f "$dir/run/$1.pid" ] && [ -d "/proc/$(init_pid)/root/proc/$(<"$dir/run/$1.pid")" ]; }

# --- the programs ---

start_etcd() {
  # No fsync: nobody needs this data after a crash, and it makes the start and every write faster.
  daemon etcd "$(part etcd)" --data-dir "$dir/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 --initial-cluster default=http://127.0.0.1:2380
}

start_apiserver() {
  # Who wrote what, without what was written. Reads are left out: they are nine tenths of the requests and change nothing.
  cat >"$dir/audit-policy.yaml" <<'EOF'
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: None, verbs: [get, list, watch]}
  - {level: Metadata}
EOF
  # The advertised address is what pods reach behind the kubernetes Service. InternalIP, because no name server knows the node's name.
  daemon kube-apiserver "$(part kube-apiserver)" --etcd-servers=http://127.0.0.1:2379 --advertise-address="$ip" --secure-port=6443 \
    --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" --client-ca-file="$pki/ca.crt" \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-key-file="$pki/service-accounts.key" --service-account-signing-key-file="$pki/service-accounts.key" \
    --service-cluster-ip-range="$service_cidr" --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged \
    --kubelet-client-certificate="$pki/admin.crt" --kubelet-client-key="$pki/admin.key" --kubelet-preferred-address-types=InternalIP \
    --audit-policy-file="$dir/audit-policy.yaml" --audit-log-path="$dir/log/audit.json" --audit-log-maxsize=2000
}

# One of each, so there is no leader to elect. The grace period outlives a test that takes the API server away for a while: the node is
# not lost then, it only could not say so.
start_controllers() {
  daemon kube-controller-manager "$bin/kube-controller-manager" --kubeconfig="$pki/controller-manager.kubeconfig" --leader-elect=false \
    --authentication-kubeconfig="$pki/controller-manager.kubeconfig" --authorization-kubeconfig="$pki/controller-manager.kubeconfig" \
    --service-account-private-key-file="$pki/service-accounts.key" --root-ca-file="$pki/ca.crt" --use-service-account-credentials \
    --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" \
    --allocate-node-cidrs=false --node-monitor-grace-period=5m --kube-api-qps=200 --kube-api-burst=400
  daemon kube-scheduler "$bin/kube-scheduler" --kubeconfig="$pki/scheduler.kubeconfig" --leader-elect=false \
    --authentication-kubeconfig="$pki/scheduler.kubeconfig" --authorization-kubeconfig="$pki/scheduler.kubeconfig"
}

start_registry() {
  cat >"$dir/registry.yaml" <<EOF
version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $dir/registry}, delete: {enabled: true}}
http: {addr: "$registry"}
EOF
  daemon registry docker-registry serve "$dir/registry.yaml"
}

cni_plugins() {
  local place
  for place in /usr/lib/cni /opt/cni/bin /usr/libexec/cni; do [ ! -x "$place/bridge" ] || { echo "$place"; return; }; done
}

start_containerd() {
  mkdir -p "$dir/cni" "$dir/registries/$registry"
  cat >"$dir/cni/10-pods.conflist" <<EOF
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$dir/cni-addresses", "ranges": [[{"subnet": "$pod_cidr"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
EOF
  printf 'server = "http://%s"\n[host."http://%s"]\n  capabilities = ["pull", "resolve"]\n' "$registry" "$registry" \
    >"$dir/registries/$registry/hosts.toml"
  # restrict_oom_score_adj: to lower a pod's score needs a capability that a sandboxed root may lack.
  cat >"$dir/containerd.toml" <<EOF
version = 2
root = "$dir/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$pause_image"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$(cni_plugins)"
    conf_dir = "$dir/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "$dir/registries"
EOF
  daemon containerd containerd --config "$dir/containerd.toml"
  await_start 20 "containerd" [ -S "/proc/$(init_pid)/root/run/containerd/containerd.sock" ]
  inside ctr --namespace k8s.io images import "$bin/pause.tar" >>"$dir/log/containerd.log" 2>&1
}

start_kubelet() {
  mkdir -p "$dir/kubelet"
  # Thresholds near zero: the disk is shared with everything else on this machine, and its filling is not this node's to judge.
  cat >"$dir/kubelet.yaml" <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $pki/kubelet.crt
tlsPrivateKeyFile: $pki/kubelet.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /$id
clusterDNS: [$dns_service]
clusterDomain: cluster.local
resolvConf: $dir/resolv.node
failSwapOn: false
evictionHard: {memory.available: 1Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
imageGCHighThresholdPercent: 100
localStorageCapacityIsolation: false
serializeImagePulls: false
registryPullQPS: 0
maxPods: 250
podLogsDir: $dir/pod-logs
volumePluginDir: $dir/kubelet/volume-plugins
EOF
  daemon kubelet "$bin/kubelet" --config="$dir/kubelet.yaml" --kubeconfig="$pki/kubelet.kubeconfig" --root-dir="$dir/kubelet" \
    --hostname-override="$name" --node-ip="$ip"
}

# The limit of tracked connections is the machine's and cannot be written from here: 0 leaves it.
start_proxy() {
  daemon kube-proxy "$bin/kube-proxy" --kubeconfig="$pki/proxy.kubeconfig" --hostname-override="$name" --proxy-mode=iptables \
    --cluster-cidr="$pod_cidr" --conntrack-max-per-core=0
}

# The name server runs on the node, behind the Service address that every pod's resolv.conf names.
start_dns() {
  cat >"$dir/Corefile" <<EOF
cluster.local in-addr.arpa {
  bind $ip
  errors
  kubernetes {
    kubeconfig $pki/dns.kubeconfig
  }
}
. {
  bind $ip
  template ANY ANY {
    rcode NXDOMAIN
  }
}
EOF
  daemon coredns "$bin/coredns" -conf "$dir/Corefile"
  "$(part kubectl)" --kubeconfig "$dir/kubeconfig" create --validate=false -f - >>"$dir/log/coredns.log" <<EOF
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: system:coredns}
rules:
  - {apiGroups: [""], resources: [services, pods, namespaces], verbs: [list, watch]}
  - {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: system:coredns}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:coredns}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: system:coredns}]
---
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec: {clusterIP: $dns_service, ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kube-dns-node, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv4
ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
endpoints: [{addresses: [$ip], conditions: {ready: true}}]
EOF
}
