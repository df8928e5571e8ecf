#!/bin/busybox sh
# First process of the tiny guest: writes a numbered heartbeat to its disk and its console.
#
# On the kernel command line:
#   tiny.interval=SECONDS   time between heartbeats, default 1
#   tiny.name=NAME          shown in messages
#   tiny.ip=ADDRESS/BITS    address of eth0
# The disk: sector 0 may have a label (`tiny-guest-disk 1`, then `name=NAME`); heartbeats lie from
# sector 2048 on, in a ring of 1024 sectors, one each: `HB NUMBER BOOT UPTIME`.

/bin/busybox --install -s /bin
export PATH=/bin HOME=/
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
echo 1 > /proc/sys/kernel/printk

FIRST=2048 SLOTS=1024

given() { # given KEY FALLBACK: the value on the kernel command line
  for word in $(cat /proc/cmdline); do
    case $word in "tiny.$1="*) echo "${word#*=}"; return ;; esac
  done
  echo "$2"
}

say() { echo "tiny: $*" > /dev/console; }

while read -r module; do insmod "/modules/$module" 2>/dev/null; done < /modules/order

boot=$(cut -c1-8 /proc/sys/kernel/random/uuid)
name=$(given name tiny)
interval=$(given interval 1)
hostname "$name"

# The newest number on any disk is continued.
disks= number=0
for entry in /sys/block/vd* /sys/block/sd*; do
  disk=${entry##*/}
  [ -r "$entry/size" ] && [ "$(cat "$entry/ro")" = 0 ] || continue
  if [ "$(cat "$entry/size")" -lt $((FIRST + SLOTS)) ]; then
    say "disk $disk is too small"
    continue
  fi
  disks="$disks $disk"
  label=$(dd if="/dev/$disk" bs=512 count=1 2>/dev/null | tr -d '\000' | sed -n 's/^name=//p')
  last=$(dd if="/dev/$disk" bs=512 skip=$FIRST count=$SLOTS 2>/dev/null | tr -d '\000' |
    sed -n 's/^HB \([0-9]*\) .*/\1/p' | sort -n | tail -n 1)
  say "disk $disk label=${label:-none} last=${last:-none}"
  [ "${last:-0}" -gt "$number" ] && number=$last
done

ip link set lo up
address=$(given ip "")
for entry in /sys/class/net/eth*; do
  [ -e "$entry" ] || continue
  ip link set "${entry##*/}" up
done
if [ -n "$address" ] && [ -e /sys/class/net/eth0 ]; then
  ip addr add "$address" dev eth0
  say "address $address"
fi

# An input event has 24 bytes; the first of the power button ends the guest.
event=$(sed -n '/^N:.*Power Button/,/^$/s/^H:.*\(event[0-9]*\).*/\1/p' /proc/bus/input/devices | head -n 1)
if [ -n "$event" ]; then
  (
    dd if="/dev/input/$event" of=/dev/null bs=24 count=1 2>/dev/null
    say "power button"
    touch /stop
    sync
    poweroff -f
  ) &
fi

say "ready name=$name boot=$boot"
while [ ! -e /stop ]; do
  number=$((number + 1))
  read -r up rest < /proc/uptime
  written=yes
  for disk in $disks; do
    printf 'HB %s %s %s\n' "$number" "$boot" "$up" |
      dd of="/dev/$disk" bs=512 seek=$((FIRST + number % SLOTS)) conv=sync,notrunc,fsync 2>/dev/null ||
      written=no
  done
  if [ $written = yes ]; then echo "heartbeat $number"; else say "cannot write heartbeat $number"; fi
  sleep "$interval"
done
sleep 60
