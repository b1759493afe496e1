// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Runs inside the guest: random operations on a file or on the beginning of a block device, whose contents are
 * compared with a model in memory.
 *
 *   fsx PATH SEED OPERATIONS [RUNNING]
 *     RUNNING   goes on, with a pause after each operation, for as long as this file exists
 *
 * Operations: writes and reads, buffered, direct and through a mapping; truncation (files only), holes and zeroed
 * ranges; fsync, after which the page cache is dropped and everything is read again. Prints how many operations it
 * did. Exit status: 0, 1 for wrong contents, 2 for an operation that fails.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE_MAX_BYTES (4 << 20)
#define LENGTH_MAX (128 << 10)
#define DIRECT_ALIGN 4096
#define PAGE_BYTES 4096
#define PAUSE_US 200000

static unsigned char model[SIZE_MAX_BYTES], *buffer;
static size_t size;
static int buffered, direct, is_file;
static uint64_t state;
static unsigned long operations;
static const char *operation = "open";

static void die(void)
{
	fprintf(stderr, "fsx: %s: operation %lu: %s\n", operation, operations, strerror(errno));
	exit(2);
}

static uint32_t below(uint32_t limit)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)((state >> 16) % limit);
}

static void check(const unsigned char *found, size_t offset, size_t length)
{
	for (size_t n = 0; n < length; n++) {
		if (found[n] == model[offset + n])
			continue;
		printf("fsx: %s: operation %lu: byte %zu is %02x, not %02x\n", operation, operations, offset + n,
		       found[n], model[offset + n]);
		exit(1);
	}
}

/* New contents of a range; what a file gains between its end and the range are zeroes, as they are in the model. */
static void change(size_t offset, size_t length)
{
	for (size_t n = 0; n < length; n++)
		model[offset + n] = (unsigned char)below(256);
	memcpy(buffer, model + offset, length);
	if (is_file && offset + length > size)
		size = offset + length;
}

static void write_range(int fd, size_t offset, size_t length)
{
	change(offset, length);
	if (pwrite(fd, buffer, length, (off_t)offset) != (ssize_t)length)
		die();
}

static void read_range(int fd, size_t offset, size_t length)
{
	size_t expected = offset >= size ? 0 : length < size - offset ? length : size - offset;
	ssize_t got = pread(fd, buffer, length, (off_t)offset);

	if (got < 0)
		die();
	if ((size_t)got != expected) {
		printf("fsx: %s: operation %lu: %zd bytes at %zu, not %zu\n", operation, operations, got, offset, expected);
		exit(1);
	}
	check(buffer, offset, expected);
}

static void use_mapping(size_t offset, size_t length, int writes)
{
	size_t start = offset / PAGE_BYTES * PAGE_BYTES, end = offset + length;
	unsigned char *mapping;

	if (end > size)
		return;
	mapping = mmap(NULL, end - start, PROT_READ | PROT_WRITE, MAP_SHARED, buffered, (off_t)start);
	if (mapping == MAP_FAILED)
		die();
	if (writes) {
		change(offset, length);
		memcpy(mapping + (offset - start), buffer, length);
		if (msync(mapping, end - start, MS_SYNC) != 0)
			die();
	} else {
		check(mapping + (offset - start), offset, length);
	}
	munmap(mapping, end - start);
}

static void cut(size_t length)
{
	if (ftruncate(buffered, (off_t)length) != 0)
		die();
	if (length < size)
		memset(model + length, 0, size - length);
	size = length;
}

static void zero_range(size_t offset, size_t length, int mode)
{
	if (offset + length > size)
		return;
	if (fallocate(buffered, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length) != 0)
		die();
	memset(model + offset, 0, length);
}

static void sync_and_read_all(void)
{
	if (fsync(buffered) != 0 || posix_fadvise(buffered, 0, 0, POSIX_FADV_DONTNEED) != 0)
		die();
	for (size_t offset = 0; offset < size; offset += LENGTH_MAX)
		read_range(buffered, offset, size - offset < LENGTH_MAX ? size - offset : LENGTH_MAX);
}

enum kind { WRITE, DIRECT_WRITE, READ, DIRECT_READ, MAPPED_WRITE, MAPPED_READ, TRUNCATE, HOLE, ZEROES, FSYNC };
static const char *const NAMES[] = { "write", "direct write", "read", "direct read", "mapped write", "mapped read",
				     "truncate", "hole", "zeroes", "fsync" };

static void operate(void)
{
	enum kind kind = below(sizeof(NAMES) / sizeof(NAMES[0]));
	size_t offset = below(SIZE_MAX_BYTES - LENGTH_MAX), length = 1 + below(LENGTH_MAX);
	size_t block = offset / DIRECT_ALIGN * DIRECT_ALIGN;
	size_t blocks = (length + DIRECT_ALIGN - 1) / DIRECT_ALIGN * DIRECT_ALIGN;

	operation = NAMES[kind];
	switch (kind) {
	case WRITE: write_range(buffered, offset, length); break;
	case DIRECT_WRITE: write_range(direct, block, blocks); break;
	case READ: read_range(buffered, offset, length); break;
	case DIRECT_READ: read_range(direct, block, blocks); break;
	case MAPPED_WRITE: use_mapping(offset, length, 1); break;
	case MAPPED_READ: use_mapping(offset, length, 0); break;
	case TRUNCATE: if (is_file && below(4) == 0) cut(below(SIZE_MAX_BYTES)); break;
	case HOLE: zero_range(block, blocks, FALLOC_FL_PUNCH_HOLE); break;
	case ZEROES: zero_range(block, blocks, FALLOC_FL_ZERO_RANGE); break;
	case FSYNC: sync_and_read_all(); break;
	}
}

int main(int argc, char **argv)
{
	unsigned long least;
	struct stat is;

	if (argc < 4 || posix_memalign((void **)&buffer, DIRECT_ALIGN, LENGTH_MAX) != 0)
		return 2;
	state = strtoull(argv[2], NULL, 10) * 0x9e3779b97f4a7c15u + 1;
	least = strtoul(argv[3], NULL, 10);
	buffered = open(argv[1], O_RDWR | O_CREAT, 0600);
	direct = open(argv[1], O_RDWR | O_DIRECT);
	if (buffered < 0 || direct < 0 || fstat(buffered, &is) != 0)
		die();
	is_file = S_ISREG(is.st_mode);
	if (!is_file) {
		size = SIZE_MAX_BYTES;
		for (size_t offset = 0; offset < size; offset += LENGTH_MAX)
			write_range(buffered, offset, LENGTH_MAX);
	}
	while (operations < least || (argc > 4 && access(argv[4], F_OK) == 0)) {
		operations++;
		operate();
		if (argc > 4)
			usleep(PAUSE_US);
	}
	operation = "end";
	sync_and_read_all();
	printf("fsx: %lu operations\n", operations);
	return 0;
}
