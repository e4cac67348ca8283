# shellcheck shell=bash
# The ways in and out of a cluster.
#
# A veth pair joins the cluster to this machine: one /30 of 198.51.100.0/24 (a range for documentation, so nobody's real network) for
# each cluster, .1 here and .2 in the cluster. The .2 is the node's address, and as it is known on both sides, the API server and the
# registry have one name for pods, for the node and for tests on this machine. Pod and Service addresses exist only inside: every
# cluster has the same ones, and `cluster exec` goes to them.

# Sets what follows from a cluster's place in the range.
address() { # index, 0…63
  index=$1
  gateway=198.51.100.$((4 * index + 1))
  ip=198.51.100.$((4 * index + 2))
  veth=hd$mark-$index
  registry=$ip:5000
}

# Takes the first place that no cluster and no device of this machine has.
claim_address() {
  local taken n
  exec {index_fd}>"$clusters/.index.lock"
  flock "$index_fd"
  taken=" $(cat "$clusters"/*/index 2>/dev/null | tr '\n' ' ') "
  taken+="$(ip -4 -o addr show to 198.51.100.0/24 | sed -nE 's/.*inet 198\.51\.100\.([0-9]+).*/\1/p' | awk '{ printf "%d ", $1 / 4 }')"
  for ((n = 0; n < 64; n++)); do
    [[ $taken != *" $n "* ]] || continue
    echo "$n" >"$dir/index"
    break
  done
  exec {index_fd}>&-
  [ -f "$dir/index" ] || die "all 64 addresses for clusters are taken (cluster list; cluster down --all)"
  address "$n"
}

join_network() {
  ip link add "$veth" type veth peer name eth0 netns "$(init_pid)"
  ip addr add "$gateway/30" dev "$veth"
  ip link set "$veth" up
  # The default route leads into a bridge without ports. A route must exist, because a Service address is routed first and translated
  # after; but what is not translated must end here and never leave through this machine.
  inside sh -ec "
    ip link set lo up
    ip addr add $ip/30 dev eth0
    ip link set eth0 up
    ip link add nowhere type bridge
    ip link set nowhere up
    ip route add default dev nowhere src $ip
    # What a test runs on this machine, a forge for one, answers pods under the node's address; theirs mean nothing here.
    iptables -t nat -A POSTROUTING -s $pod_cidr -d $gateway -j MASQUERADE
    sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.route_localnet=1
    sysctl -qw net.bridge.bridge-nf-call-iptables=1 2>/dev/null || true
    # A client with many short connections uses a source port again within a minute. By default the old translation of that port,
    # perhaps to a pod that is gone, lives for two, and the connection would time out: a failure of the test, not of a rollout.
    sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_time_wait=1 net.netfilter.nf_conntrack_tcp_timeout_close=1 \
      net.netfilter.nf_conntrack_tcp_timeout_syn_sent=1
  "
}

leave_network() { [ -z "$veth" ] || ip link del "$veth" 2>/dev/null || true; }
