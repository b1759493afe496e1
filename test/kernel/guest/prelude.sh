# SPDX-License-Identifier: GPL-2.0-or-later
# Put before every guest script of these tests; bash, as root, inside the guest.
export DM_DISABLE_UDEV=1
set -eu

# The other machine's files, also those below /tmp, /run and /mnt, where the guest has its own.
HOST=/mnt/host
mkdir -p "$HOST"
mount --bind / "$HOST"
# What is attached; a script may take others.
CACHE=/dev/pmem0 BACKING=/dev/vda
sectors=$(blockdev --getsz "$BACKING")

# attach true|false [MILLISECONDS]: attaches the cache as /dev/mapper/pc with or without data_crc and prints
# its status. With MILLISECONDS every write to the backing device takes that much longer, so data stay dirty.
attach() {
  local backing=$BACKING
  if [ $# -gt 1 ]; then
    dmsetup create slow --table "0 $sectors delay $BACKING 0 0 $BACKING 0 $2"
    backing=/dev/mapper/slow
  fi
  dmsetup create pc --table "0 $sectors pcache $CACHE $backing 4 cache_mode writeback data_crc $1" ||
    { dmesg | tail -n 20; return 1; }
  status
}

# attach_held true|false MILLISECONDS: as attach, but nothing is written back before the status is printed, for up to two
# minutes. Writes that were held until then go at once; later ones take MILLISECONDS longer.
attach_held() {
  attach "$1" 120000
  dmsetup suspend slow
  dmsetup load slow --table "0 $sectors delay $BACKING 0 0 $BACKING 0 $2"
  dmsetup resume slow
}

status() { echo "status: $(dmsetup status pc)"; }

detach() {
  dmsetup remove --retry pc
  if [ -e /dev/mapper/slow ]; then dmsetup remove --retry slow; fi
}

# The whole device as the kernel reads it.
hash_device() { echo "sha256: $(sha256sum </dev/mapper/pc)"; }
