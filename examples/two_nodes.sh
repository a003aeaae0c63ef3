#!/usr/bin/env bash
# Training on two nodes on one Linux machine, as root: two network namespaces with a core each, joined by a virtual cable.
#   examples/two_nodes.sh flawmap train DATA --recipe paper_cpu --set compute.nodes=2 --run runs/two
# On real machines, only the torchrun line is needed: on the first one with --node-rank=0, on the second one with 1.
set -euo pipefail

first=flawmap-a-$$ second=flawmap-b-$$
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} GLOO_SOCKET_IFNAME=cable  # gloo would look for the name of the machine

stop() {
  for node in "$first" "$second"; do
    ip netns pids "$node" 2>/dev/null | xargs -r kill -9 2>/dev/null || true
    ip netns del "$node" 2>/dev/null || true
  done
}
trap stop EXIT

ip netns add "$first"
ip netns add "$second"
ip link add cable netns "$first" type veth peer name cable netns "$second"
ip -n "$first" addr add 10.78.0.1/24 dev cable
ip -n "$second" addr add 10.78.0.2/24 dev cable
for node in "$first" "$second"; do
  ip -n "$node" link set lo up
  ip -n "$node" link set cable up
done

node() {  # number, namespace, and the command
  local number=$1 name=$2
  shift 2
  ip netns exec "$name" taskset -c "$number" \
    torchrun --nnodes=2 --node-rank="$number" --nproc-per-node=1 --master-addr=10.78.0.1 --master-port=29500 \
    --no-python -- "$@"  # without --, torchrun would read the options of the command
}

node 1 "$second" "$@" &
code=0
node 0 "$first" "$@" || code=$?
exit $code
