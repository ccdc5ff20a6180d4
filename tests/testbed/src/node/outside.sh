#!/usr/bin/env bash
# Runs a node until it is told to end, and leaves nothing of it:
#
#   outside.sh FOLDER PROGRAMS RUNTIME
#
# Everything (etcd, API server, controllers, scheduler, containerd, kubelet, Pods) descends from one process, inside.sh,
# which is PID 1 of PID, mount, network, IPC, UTS and cgroup namespaces of its own. When that ends, the kernel ends all
# of them and takes mounts, links and networks away; what is left to remove is one control group in each hierarchy.
# FOLDER must not be below /run, /var/lib or /var/log, which are new inside.
set -euo pipefail
folder=$1
export NODE_DIR=$folder PROGRAMS=$2 RUNTIME=$3
: "${HOST_IP:?}" "${NODE_IP:?}" "${POD_NET:?}" "${SERVICE_NET:?}" "${API_IP:?}"
group=conjur-node link=cjnode0

# One at a time on a machine, for its addresses and names are fixed. The lock goes with this process.
exec 8>"${TMPDIR:-/tmp}/conjur-operator-node.lock"
flock -w 300 8 || { echo "another node has been up for five minutes; end that first"; exit 1; }

hierarchies() {
  while IFS=: read -r _ names _; do
    case $names in "") echo unified ;; name=*) echo "${names#name=}" ;; *) echo "$names" ;; esac
  done </proc/self/cgroup
}

clean_up() {
  local status=$? hierarchy process
  trap '' INT TERM
  # By control group, so that it is never a process of another.
  for _ in $(seq 100); do
    left=0
    for hierarchy in /sys/fs/cgroup/*/"$group"; do
      [ -d "$hierarchy" ] || continue
      while read -r process; do kill -KILL "$process" || true; done 2>/dev/null \
        < <(find "$hierarchy" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u)
      find "$hierarchy" -depth -type d -exec rmdir {} + 2>/dev/null || true
      [ ! -d "$hierarchy" ] || left=1
    done
    [ "$left" = 1 ] || break
    sleep 0.1
  done
  ip link del "$link" 2>/dev/null || true
  exit "$status"
}
trap clean_up EXIT
trap 'exit 143' TERM INT

for hierarchy in $(hierarchies); do
  [ -d "/sys/fs/cgroup/$hierarchy" ] || continue
  mkdir -p "/sys/fs/cgroup/$hierarchy/$group"
  [ "$hierarchy" != cpuset ] || for file in cpus mems; do
    cat "/sys/fs/cgroup/cpuset/cpuset.$file" >"/sys/fs/cgroup/cpuset/$group/cpuset.$file"
  done
done
# The shell that becomes the node enters its control groups first: they are the root of its cgroup namespace.
(
  exec 8>&-
  for hierarchy in $(hierarchies); do
    [ ! -d "/sys/fs/cgroup/$hierarchy/$group" ] || echo "$BASHPID" >"/sys/fs/cgroup/$hierarchy/$group/cgroup.procs"
  done
  exec unshare --mount --net --pid --ipc --uts --cgroup --fork --kill-child bash "$folder/inside.sh" </dev/null
) &
outer=$!

# The child of unshare, not of the shell before it, is the node's PID 1; this is its number out here.
pid=""
until [ -n "$pid" ]; do
  kill -0 "$outer" 2>/dev/null || { echo "the node ended before it was up"; exit 1; }
  if [ "$(cat "/proc/$outer/comm" 2>/dev/null)" = unshare ]; then
    for child in $(cat "/proc/$outer/task/$outer/children" 2>/dev/null); do
      if grep -q '^NSpid:.*[[:space:]]1$' "/proc/$child/status" 2>/dev/null; then pid=$child; fi
    done
  fi
  sleep 0.02
done
echo "$pid" >"$folder/node.pid.new" && mv "$folder/node.pid.new" "$folder/node.pid"
ip link add "$link" type veth peer name eth0 netns "$pid"
ip addr add "$HOST_IP/30" dev "$link"
ip link set "$link" up
# From here to Pods and Services. The routes go with the link.
for net in "$POD_NET" "$SERVICE_NET"; do ip route add "$net" via "$NODE_IP" dev "$link"; done
wait "$outer"
