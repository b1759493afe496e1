// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Runs inside the guest: writes files with fsync, and keeps a copy elsewhere of each whose fsync was answered.
 *
 *   synced write FOLDER KEPT ROUND RUNNING
 *     writes FOLDER/ROUND-1, FOLDER/ROUND-2 and so on for as long as the file RUNNING exists or until a call fails. The
 *     last FILES of them stay: a copy goes before its file. Prints the number of each that is kept.
 *   synced check FOLDER KEPT
 *     reads, past the page cache, each file that has a copy. Prints their number.
 *
 * Exit status: 0, 1 for wrong contents, 2 for a call that fails.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define FILES 16
#define FILE_BYTES 16384
#define PAUSE_US 20000

static unsigned char *data, *copy;

static int failed(const char *what, const char *path)
{
	fprintf(stderr, "synced: %s %s: %s\n", what, path, strerror(errno));
	return 2;
}

static int write_file(const char *path, int with_sync)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);

	if (fd < 0)
		return -1;
	if (write(fd, data, FILE_BYTES) != FILE_BYTES || (with_sync && fsync(fd) != 0)) {
		close(fd);
		return -1;
	}
	return close(fd);
}

static int read_file(const char *path, int flags, unsigned char *to)
{
	int fd = open(path, O_RDONLY | flags);
	ssize_t got;

	if (fd < 0)
		return -1;
	got = read(fd, to, FILE_BYTES);
	close(fd);
	return got == FILE_BYTES ? 0 : -1;
}

static int write_files(const char *folder, const char *kept, const char *round, const char *running)
{
	char file[512], made[512], name[64];

	snprintf(made, sizeof(made), "%s/.new", kept);
	for (unsigned long n = 1; access(running, F_OK) == 0; n++) {
		if (getrandom(data, FILE_BYTES, 0) != FILE_BYTES)
			return failed("getrandom", "");
		snprintf(name, sizeof(name), "%s-%lu", round, n);
		snprintf(file, sizeof(file), "%s/%s", folder, name);
		if (write_file(file, 1) != 0)
			return failed("write", file);
		snprintf(file, sizeof(file), "%s/%s", kept, name);
		if (write_file(made, 0) != 0 || rename(made, file) != 0)
			return failed("keep", file);
		if (n > FILES) {
			snprintf(name, sizeof(name), "%s-%lu", round, n - FILES);
			snprintf(file, sizeof(file), "%s/%s", kept, name);
			unlink(file);
			snprintf(file, sizeof(file), "%s/%s", folder, name);
			if (unlink(file) != 0)
				return failed("remove", file);
		}
		printf("%lu\n", n);
		fflush(stdout);
		usleep(PAUSE_US);
	}
	return 0;
}

static int check_files(const char *folder, const char *kept)
{
	DIR *files = opendir(kept);
	char path[512];
	unsigned long count = 0;

	if (files == NULL)
		return failed("open", kept);
	for (struct dirent *entry; (entry = readdir(files)) != NULL;) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", kept, entry->d_name);
		if (read_file(path, 0, copy) != 0)
			return failed("read", path);
		snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		if (read_file(path, O_DIRECT, data) != 0)
			return failed("read", path);
		if (memcmp(data, copy, FILE_BYTES) != 0) {
			printf("synced: %s differs\n", path);
			return 1;
		}
		count++;
	}
	printf("%lu\n", count);
	return 0;
}

int main(int argc, char **argv)
{
	if (posix_memalign((void **)&data, 4096, FILE_BYTES) != 0 || posix_memalign((void **)&copy, 4096, FILE_BYTES) != 0)
		return 2;
	if (argc == 6 && strcmp(argv[1], "write") == 0)
		return write_files(argv[2], argv[3], argv[4], argv[5]);
	if (argc == 4 && strcmp(argv[1], "check") == 0)
		return check_files(argv[2], argv[3]);
	return 2;
}
