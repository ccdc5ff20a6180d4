#!/usr/bin/env bash
# PID 1 of the node's namespaces; outside.sh starts it. Each program has its arguments in NODE_DIR/args, one a line.
# Lines in the pipe NODE_DIR/orders end and start programs: `stop NAME`, `start NAME`.
set -euo pipefail
mount --make-rprivate /
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
# Mounted within the cgroup namespace, each hierarchy shows the node's own control group as its root.
while IFS=: read -r _ names _; do
  case $names in
  "") hierarchy=unified kind=cgroup2 options=rw ;;
  name=*) hierarchy=${names#name=} kind=cgroup options=none,$names ;;
  *) hierarchy=$names kind=cgroup options=$names ;;
  esac
  mkdir -p "/sys/fs/cgroup/$hierarchy"
  mount -t $kind -o "$options" $kind "/sys/fs/cgroup/$hierarchy"
done </proc/self/cgroup
# What programs write to fixed places goes away with the mounts.
for place in /run /var/lib /var/log; do mount -t tmpfs -o mode=755 tmpfs $place; done
mkdir -p /run/netns /run/lock /var/lib/kubelet /var/log/pods /var/log/containers /run/opt
mount --bind "$NODE_DIR/kubelet" /var/lib/kubelet
mount --bind "$NODE_DIR/pods" /var/log/pods
# kubelet wants these so, and would set them for the whole machine. It finds them so, and sets nothing.
mkdir /run/sysctl
pretend() {
  echo "$2" >"/run/sysctl/$1"
  mount --bind "/run/sysctl/$1" "/proc/sys/${1/./\/}"
}
pretend vm.overcommit_memory 1
pretend kernel.panic 10
pretend kernel.panic_on_oops 1
# The machine's name servers can't be reached from here, and each question to them would be a timeout.
resolv=$(readlink -m /etc/resolv.conf)
[ -e "$resolv" ] || { mkdir -p "${resolv%/*}" && : >"$resolv"; }
mount --bind "$NODE_DIR/resolv.conf" "$resolv"
mount --make-rshared /

hostname conjur-node
ip link set lo up
ip addr add "$API_IP/32" dev lo # the Service "kubernetes" is the API server itself: no kube-proxy
until ip link show eth0 >/dev/null 2>&1; do sleep 0.02; done
ip addr add "$NODE_IP/30" dev eth0
ip link set eth0 up
ip route add default via "$HOST_IP"
echo 1 >/proc/sys/net/ipv4/ip_forward

export PATH=$RUNTIME/bin:$RUNTIME/sbin:$PATH HOME=/root
LD_LIBRARY_PATH=$(find "$RUNTIME/lib" -maxdepth 1 -name '*-linux-gnu*' -print -quit)
export LD_LIBRARY_PATH
cd "$NODE_DIR"
declare -A running
start() {
  local path=$PROGRAMS/$1 args
  [ -e "$path" ] || path=$RUNTIME/bin/$1
  mapfile -t args <"args/$1"
  "$path" "${args[@]}" >>"logs/$1.log" 2>&1 &
  running[$1]=$!
}
import() { for image in images/*.tar; do
  until ctr --namespace k8s.io images import "$image" >>logs/import.log 2>&1; do sleep 0.2; done
done; }

for program in containerd etcd kube-apiserver; do start $program; done
import &
importing=$!
until [ "$("$PROGRAMS/kubectl" --kubeconfig kubeconfig get --raw /readyz 2>/dev/null)" = ok ]; do sleep 0.2; done
wait "$importing"
for program in kube-controller-manager kube-scheduler kubelet; do start $program; done
# Opened for both, the pipe never ends. A program that dies by itself is for the tests to see.
exec 4<>orders
while read -r order name <&4; do
  case $order in
  start) start "$name" ;;
  stop) kill -KILL "${running[$name]}" || true ;;
  esac
done
