#!/bin/sh
# First process of the guest: prepares it, runs the command, reports its exit code, and switches the guest off.
# This shell is no busybox: busybox's would take its own `ip` before the one on the path.
export PATH=/sbin:/bin HOME=/tmp TERM=dumb VPN_VM_REPORT=/dev/ttyS1

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /dev/pts /dev/net
mount -t devpts devpts /dev/pts
stty -F "$VPN_VM_REPORT" raw
echo booted > "$VPN_VM_REPORT"

for module in /modules/*; do
    insmod "$module" || echo "init: cannot load $module"
done
ip link set lo up
if [ -e /sys/class/net/eth0 ]; then
    ip addr add 10.0.2.15/24 dev eth0
    ip link set eth0 up
fi

/bin/sh /command < /dev/null
code=$?

# Both ports are slow: without waiting for the last bytes, they would be lost with the power.
stty -F /dev/console opost
echo "exit=$code" > "$VPN_VM_REPORT"
stty -F "$VPN_VM_REPORT" raw
echo 0 > /proc/sys/kernel/printk   # the kernel's goodbye would be taken for the end of the command's output
poweroff -f
