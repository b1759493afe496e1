# SPDX-License-Identifier: GPL-2.0-or-later
# Attaches many caches, one after another, that are small changes of a few images; one process, because each program
# that is started costs an emulated machine a second.
#
#   perl attach-many.pl FOLDER
#
# FOLDER/cases has a line for each: number, first byte of its image on /dev/pmem0, its size, first byte of its backing
# on /dev/vda, its size, data_crc, name of the file that restores the image, 1 to read it. FOLDER/change-N makes the
# change: records of an offset on /dev/pmem0, a length and so many bytes. FOLDER/ranges-N names what is read.
#
# Prints of each "case N: refused" or "case N: STATUS". What was read goes to FOLDER/read-N; "said N: TEXT" is the first
# error that dm-pcache reported when it refused.
use strict;
use warnings;

use constant { BYTES => 1 << 20, SYS_FSYNC => 74, NONBLOCK => 04000, SECTOR => 512, BLKRASET => 0x1262 };

my ($folder) = @ARGV;
$| = 1;
open(my $pmem, '+<:raw', '/dev/pmem0') or die "pmem0: $!";
sysopen(my $log, '/dev/kmsg', NONBLOCK) or die "kmsg: $!";

sub run { return system(@_) == 0 }

sub contents {
  my ($path) = @_;
  local $/;
  open(my $file, '<:raw', $path) or die "$path: $!";
  return scalar(<$file>) // '';
}

# Writes records to /dev/pmem0, durably.
sub put {
  my ($records) = @_;
  for (my $from = 0; $from < length $records;) {
    my ($at, $length) = unpack('Q<L<', substr($records, $from, 12));
    sysseek($pmem, $at, 0) // die "seek: $!";
    syswrite($pmem, $records, $length, $from + 12) == $length or die "pmem0: $!";
    $from += 12 + $length;
  }
  syscall(SYS_FSYNC, fileno($pmem)) == 0 or die "fsync: $!";
}

sub messages {
  my @lines;
  while (defined sysread($log, my $record, 8192)) {
    push @lines, $1 if $record =~ /;(.*pcache.*)/i;
  }
  return @lines;
}

sub save {
  my ($ranges, $target) = @_;
  open(my $device, '<:raw', '/dev/mapper/pc') or die "pc: $!";
  ioctl($device, BLKRASET, 0) or die "read-ahead: $!"; # it would read what is not cached, and so change the cache
  open(my $lines, '<', $ranges) or die "$ranges: $!";
  open(my $out, '>:raw', $target) or die "$target: $!";
  while (<$lines>) {
    my ($at, $left) = split;
    sysseek($device, $at, 0) // die "seek: $!";
    while ($left > 0) {
      my $got = sysread($device, my $bytes, $left < BYTES ? $left : BYTES);
      if (!$got) { print $out "unreadable"; last }
      print $out $bytes or die "$target: $!";
      $left -= $got;
    }
  }
  close($out) or die "$target: $!";
}

my %linear;

# A device-mapper target for a part of a device; made once.
sub part {
  my ($device, $at, $bytes) = @_;
  my $name = "part-$at-$bytes-" . ($device =~ s{.*/}{}r);
  if (!$linear{$name}++) {
    my $table = join ' ', 0, $bytes / SECTOR, 'linear', $device, $at / SECTOR;
    run('dmsetup', 'create', $name, '--table', $table) or die "linear $table";
  }
  return "/dev/mapper/$name";
}

my %restored;
open(my $cases, '<', "$folder/cases") or die "cases: $!";
while (<$cases>) {
  my ($n, $cache_at, $cache_bytes, $backing_at, $backing_bytes, $crc, $restore, $reads) = split;
  put($restored{$restore} //= contents("$folder/$restore"));
  put(contents("$folder/change-$n"));
  my ($cache, $backing) = (part('/dev/pmem0', $cache_at, $cache_bytes), part('/dev/vda', $backing_at, $backing_bytes));
  my $table = join ' ', 0, $backing_bytes / SECTOR, 'pcache', $cache, $backing, '4 cache_mode writeback data_crc', $crc;
  messages();
  if (run("dmsetup create pc --table '$table' 2>/dev/null")) {
    my $status = `dmsetup status pc`;
    print "case $n: ", $status =~ s/^\d+ \d+ pcache //r;
    save("$folder/ranges-$n", "$folder/read-$n") if $reads;
    run('dmsetup', 'remove', '--retry', 'pc') or die "remove";
  } else {
    print "case $n: refused\n";
    my @said = messages();
    print "said $n: ", (grep { !/Failed to start/ } @said)[0] // $said[0] // 'nothing', "\n";
  }
}
