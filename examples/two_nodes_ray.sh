#!/usr/bin/env bash
# Two Ray nodes on one Linux machine, as root: two network namespaces with a core each, joined by a virtual cable.
#   examples/two_nodes_ray.sh flawmap detect IMAGES --model RUN --cluster auto
# runs the command on the first node. On real machines, only the two `ray start` lines are needed, one on each.
set -euo pipefail

first=flawmap-a-$$ second=flawmap-b-$$ cable=fm$$
temp=$(mktemp -d /tmp/fm-ray.XXXX)
export RAY_USAGE_STATS_ENABLED=0 no_proxy=10.77.0.1,10.77.0.2 NO_PROXY=10.77.0.1,10.77.0.2
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$temp/token  # a secret of this cluster; older Ray has none
(umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' 
' >"$temp/token")

stop() {
  for node in "$first" "$second"; do
    ip netns pids "$node" 2>/dev/null | xargs -r kill -9 2>/dev/null || true
    ip netns del "$node" 2>/dev/null || true
  done
  rm -rf "$temp"
}
trap stop EXIT

ip netns add "$first"
ip netns add "$second"
ip link add "${cable}a" netns "$first" type veth peer name "${cable}b" netns "$second"
ip -n "$first" addr add 10.77.0.1/24 dev "${cable}a"
ip -n "$second" addr add 10.77.0.2/24 dev "${cable}b"
for node in "$first" "$second"; do ip -n "$node" link set lo up; done
ip -n "$first" link set "${cable}a" up
ip -n "$second" link set "${cable}b" up

ip netns exec "$first" taskset -c 0 ray start --head --node-ip-address=10.77.0.1 --port=6379 --num-cpus=1 \
  --include-dashboard=false --object-store-memory=600000000 --temp-dir="$temp" >/dev/null
ip netns exec "$second" taskset -c 1 ray start --address=10.77.0.1:6379 --node-ip-address=10.77.0.2 --num-cpus=1 \
  --object-store-memory=600000000 >/dev/null

export RAY_ADDRESS=10.77.0.1:6379 FLAWMAP_SECOND_NODE=$second
ip netns exec "$first" taskset -c 0 "$@"
