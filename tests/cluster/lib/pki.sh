# shellcheck shell=bash
# Certificates and the kubeconfigs that hold them. Elliptic keys: a dozen of them take less time than one RSA key.

# In the older of two formats: of the newer one the API server reads no public key for service accounts.
new_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }

certificate() { # name, subject, alternative names
  new_key "$pki/$1.key"
  openssl req -new -key "$pki/$1.key" -subj "$2" |
    openssl x509 -req -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -set_serial "0x$(openssl rand -hex 8)" -days 3650 -out "$pki/$1.crt" \
      -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$3") 2>/dev/null
}

kubeconfig() { # certificate, API server's address, file
  cat >"$3" <<EOF
apiVersion: v1
kind: Config
current-context: $name
contexts: [{name: $name, context: {cluster: $name, user: $1}}]
clusters: [{name: $name, cluster: {server: "https://$2:6443", certificate-authority-data: $(base64 -w0 "$pki/ca.crt")}}]
users: [{name: $1, user: {client-certificate-data: $(base64 -w0 "$pki/$1.crt"), client-key-data: $(base64 -w0 "$pki/$1.key")}}]
EOF
  chmod 600 "$3"
}

make_pki() {
  local who
  mkdir -p "$pki"
  chmod 700 "$pki"
  new_key "$pki/ca.key"
  new_key "$pki/service-accounts.key"
  openssl req -x509 -new -key "$pki/ca.key" -subj "/CN=$name test cluster" -days 3650 -out "$pki/ca.crt"
  certificate apiserver /CN=kube-apiserver \
    "IP:127.0.0.1,IP:$ip,IP:$api_service,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
  certificate admin /O=system:masters/CN=admin DNS:admin
  certificate controller-manager /CN=system:kube-controller-manager DNS:controller-manager
  certificate scheduler /CN=system:kube-scheduler DNS:scheduler
  certificate kubelet "/O=system:nodes/CN=system:node:$name" "DNS:$name,IP:$ip"
  certificate proxy /CN=system:kube-proxy DNS:proxy
  certificate dns /CN=system:coredns DNS:dns
  for who in controller-manager scheduler kubelet proxy dns; do kubeconfig $who 127.0.0.1 "$pki/$who.kubeconfig"; done
  kubeconfig admin "$ip" "$dir/kubeconfig"
}

# Asks the API server as admin.
api() { curl -sf --max-time 3 --cacert "$pki/ca.crt" --cert "$pki/admin.crt" --key "$pki/admin.key" "https://$ip:6443$1"; }

# What is installed as admin; what kubectl says goes to that log.
as_admin() { # log, arguments of kubectl…
  local log=$dir/log/$1.log
  shift
  "$(part kubectl)" --kubeconfig "$dir/kubeconfig" "$@" >>"$log" 2>&1
}
