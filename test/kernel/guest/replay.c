// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Runs inside the guest: does a list of requests on a block device, or checks its whole contents.
 *
 *   replay run DEVICE LIST VERSIONS ACKS CRASH_AT
 *     LIST      records of five 32-bit words: op (0 read, 1 write, 2 FUA write, 3 flush), thread, first
 *               sector, sectors, id of the write
 *     VERSIONS  32-bit id of the write that made each sector, before the first request
 *     ACKS      one 32-bit word per thread: how many of its requests have ended. Written after each one,
 *               straight to the host
 *     CRASH_AT  machine is reset without warning once so many requests have ended; 0 for never
 *   replay check DEVICE VERSIONS
 *   replay metadata CACHE_DEVICE SEGMENTS FILE
 *     saves the 20 KiB before the segments and the first 16 KiB of each
 *
 * Every thread does its own records in order, one at a time, and owns the sectors it touches; so it knows
 * what each read must give. The contents of a sector are those of test/support/stamps.ts.
 * Exit status: 0, 1 for wrong contents (each is told), 2 for anything else.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <linux/fs.h>

#define SECTOR_BYTES 512
#define WORDS (SECTOR_BYTES / 4)
#define MAX_BYTES (1 << 20)
#define MAX_THREADS 16
#define MAX_TOLD 10

enum { OP_READ, OP_WRITE, OP_FUA, OP_FLUSH };

struct record {
	uint32_t op, thread, sector, sectors, id;
};

static int device, acks;
static struct record *records;
static size_t record_count;
static uint32_t *versions;
static size_t version_count;
static unsigned long crash_at;
static atomic_ulong ended, wrong;

static void die(const char *what)
{
	fprintf(stderr, "replay: %s: %s\n", what, strerror(errno));
	exit(2);
}

static uint32_t base_of(uint32_t sector, uint32_t id)
{
	uint32_t x = ((id ^ (id >> 15)) * 0x2c1b3c6du) ^ ((sector + 1) * 0x297a2d39u);

	x = (x ^ (x >> 13)) * 0x5bd1e995u;
	return x ^ (x >> 16);
}

static void stamp(uint32_t *words, uint32_t sector, uint32_t id)
{
	uint32_t value = base_of(sector, id);

	words[0] = id;
	words[1] = sector;
	for (int i = 2; i < WORDS; i++, value += 0x9e3779b1u)
		words[i] = value;
}

static void expect(const uint32_t *words, uint32_t sector)
{
	uint32_t want[WORDS];

	stamp(want, sector, versions[sector]);
	if (memcmp(words, want, SECTOR_BYTES) == 0)
		return;
	if (atomic_fetch_add(&wrong, 1) < MAX_TOLD)
		fprintf(stderr, "replay: sector %u: must be version %u, says version %u of sector %u\n",
			sector, versions[sector], words[0], words[1]);
}

static void *read_file(const char *path, size_t *bytes)
{
	struct stat status;
	FILE *file = fopen(path, "r");
	void *data;

	if (!file || fstat(fileno(file), &status))
		die(path);
	data = malloc(status.st_size + 1);
	if (!data || fread(data, 1, status.st_size, file) != (size_t)status.st_size)
		die(path);
	fclose(file);
	*bytes = status.st_size;
	return data;
}

static uint32_t *aligned_buffer(void)
{
	void *memory;

	if (posix_memalign(&memory, 4096, MAX_BYTES))
		die("memory");
	return memory;
}

static void transfer(const struct record *r, uint32_t *buffer)
{
	struct iovec piece = { buffer, (size_t)r->sectors * SECTOR_BYTES };
	off_t at = (off_t)r->sector * SECTOR_BYTES;
	ssize_t moved;

	if (r->op == OP_FLUSH) {
		if (fdatasync(device))
			die("flush");
		return;
	}
	if (r->op == OP_READ) {
		moved = preadv(device, &piece, 1, at);
	} else {
		for (uint32_t i = 0; i < r->sectors; i++) {
			stamp(buffer + i * WORDS, r->sector + i, r->id);
			versions[r->sector + i] = r->id;
		}
		moved = pwritev2(device, &piece, 1, at, r->op == OP_FUA ? RWF_DSYNC : 0);
	}
	if (moved != (ssize_t)piece.iov_len)
		die(r->op == OP_READ ? "read" : "write");
	if (r->op == OP_READ)
		for (uint32_t i = 0; i < r->sectors; i++)
			expect(buffer + i * WORDS, r->sector + i);
}

static void *run_thread(void *argument)
{
	uint32_t thread = (uintptr_t)argument, done = 0;
	uint32_t *buffer = aligned_buffer();

	for (size_t n = 0; n < record_count; n++) {
		if (records[n].thread != thread)
			continue;
		transfer(&records[n], buffer);
		done++;
		if (pwrite(acks, &done, sizeof(done), thread * sizeof(done)) != sizeof(done))
			die("acknowledging");
		atomic_fetch_add(&ended, 1);
	}
	return NULL;
}

static void *run_crash(void *unused)
{
	int trigger = open("/proc/sysrq-trigger", O_WRONLY);

	(void)unused;
	if (trigger < 0)
		die("/proc/sysrq-trigger");
	while (atomic_load(&ended) < crash_at)
		usleep(20);
	if (write(trigger, "b", 1) != 1)
		die("crashing");
	return NULL;
}

static void run(char **arguments)
{
	pthread_t threads[MAX_THREADS], crasher;
	uint32_t count = 0;
	size_t bytes;

	records = read_file(arguments[0], &bytes);
	record_count = bytes / sizeof(*records);
	acks = open(arguments[2], O_WRONLY | O_CREAT, 0666);
	if (acks < 0)
		die(arguments[2]);
	crash_at = strtoul(arguments[3], NULL, 10);
	for (size_t n = 0; n < record_count; n++)
		if (records[n].thread >= count)
			count = records[n].thread + 1;
	if (count > MAX_THREADS) {
		fprintf(stderr, "replay: %u threads are too many\n", count);
		exit(2);
	}
	if (crash_at && pthread_create(&crasher, NULL, run_crash, NULL))
		die("thread");
	for (uint32_t t = 0; t < count; t++)
		if (pthread_create(&threads[t], NULL, run_thread, (void *)(uintptr_t)t))
			die("thread");
	for (uint32_t t = 0; t < count; t++)
		pthread_join(threads[t], NULL);
	if (crash_at)
		pthread_join(crasher, NULL); /* ends in the reset */
	printf("replay: %lu requests, %lu wrong sectors\n", atomic_load(&ended), atomic_load(&wrong));
}

static void check(void)
{
	uint32_t *buffer = aligned_buffer();
	size_t step = MAX_BYTES / SECTOR_BYTES;

	for (size_t first = 0; first < version_count; first += step) {
		size_t sectors = version_count - first < step ? version_count - first : step;

		if (pread(device, buffer, sectors * SECTOR_BYTES, first * SECTOR_BYTES) !=
		    (ssize_t)(sectors * SECTOR_BYTES))
			die("read");
		for (size_t i = 0; i < sectors; i++)
			expect(buffer + i * WORDS, first + i);
	}
	printf("replay: %zu sectors checked, %lu wrong sectors\n", version_count, atomic_load(&wrong));
}

static void save_metadata(const char *path, unsigned long segments, const char *target)
{
	const size_t block = 4096, segment = 4096 * block;
	int from = open(path, O_RDONLY), to = open(target, O_WRONLY | O_CREAT | O_TRUNC, 0666);
	size_t bytes = (5 + 4 * segments) * block;
	char *buffer = malloc(bytes), *at = buffer + 5 * block;

	if (from < 0 || to < 0 || !buffer)
		die("saving metadata");
	if (pread(from, buffer, 5 * block, 0) != (ssize_t)(5 * block))
		die(path);
	for (unsigned long n = 0; n < segments; n++, at += 4 * block)
		if (pread(from, at, 4 * block, 5 * block + n * segment) != (ssize_t)(4 * block))
			die(path);
	if (write(to, buffer, bytes) != (ssize_t)bytes)
		die(target);
}

int main(int count, char **arguments)
{
	int running = count == 7 && strcmp(arguments[1], "run") == 0;
	uint64_t device_bytes;
	size_t bytes;

	if (count == 5 && strcmp(arguments[1], "metadata") == 0) {
		save_metadata(arguments[2], strtoul(arguments[3], NULL, 10), arguments[4]);
		return 0;
	}
	if (!running && !(count == 4 && strcmp(arguments[1], "check") == 0)) {
		fprintf(stderr, "replay: wrong arguments\n");
		return 2;
	}
	device = open(arguments[2], O_RDWR | O_DIRECT);
	if (device < 0 || ioctl(device, BLKGETSIZE64, &device_bytes))
		die(arguments[2]);
	versions = read_file(arguments[running ? 4 : 3], &bytes);
	version_count = bytes / sizeof(*versions);
	if (version_count * SECTOR_BYTES != device_bytes) {
		fprintf(stderr, "replay: versions for %zu sectors, device of %llu bytes\n", version_count,
			(unsigned long long)device_bytes);
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (running) {
		char *rest[] = { arguments[3], arguments[4], arguments[5], arguments[6] };

		run(rest);
	} else {
		check();
	}
	return atomic_load(&wrong) ? 1 : 0;
}
