/*
 * The first code of the single executable. Node.js needs the C++ library, which a rescue system may not have: it lies
 * behind this program together with Node.js itself, and all of it goes to memory files, from which Node.js is started.
 * Of the system it needs glibc and /proc. Statically linked.
 *
 * Behind this program: the parts, one after the other, then their sizes (u64 each) and MAGIC.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

enum { NODE, LIBSTDCXX, LIBGCC, PARTS };
static const char *const NAMES[PARTS] = { "pcache", "libstdc++.so.6", "libgcc_s.so.1" };
static const char MAGIC[8] = { 'P', 'C', 'A', 'C', 'H', 'E', '0', '1' };

struct trailer {
  uint64_t size[PARTS];
  char magic[8];
};

static void fail(const char *what) {
  fprintf(stderr, "pcache: %s: %s\n", what, strerror(errno));
  exit(8);
}

static int copy_to_memory(int from, off_t at, uint64_t size, const char *name) {
  int fd = memfd_create(name, MFD_EXEC);
  if (fd < 0 && errno == EINVAL) fd = memfd_create(name, 0);
  if (fd < 0) fail("memory file");
  while (size > 0) {
    ssize_t copied = sendfile(fd, from, &at, size);
    if (copied < 0 && errno == EINTR) continue;
    if (copied <= 0) fail("cannot unpack the program into memory");
    size -= (uint64_t)copied;
  }
  return fd;
}

int main(int argc, char **argv) {
  (void)argc;
  int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  if (self < 0) fail("/proc is needed; mount it (mount -t proc proc /proc)");
  off_t end = lseek(self, 0, SEEK_END);
  struct trailer trailer;
  if (pread(self, &trailer, sizeof trailer, end - (off_t)sizeof trailer) != (ssize_t)sizeof trailer ||
      memcmp(trailer.magic, MAGIC, sizeof MAGIC) != 0) {
    fputs("pcache: this file is cut short; copy it again\n", stderr);
    return 8;
  }
  off_t at = end - (off_t)sizeof trailer;
  for (int part = 0; part < PARTS; part++) at -= (off_t)trailer.size[part];
  int fds[PARTS];
  for (int part = 0; part < PARTS; part++) {
    fds[part] = copy_to_memory(self, at, trailer.size[part], NAMES[part]);
    at += (off_t)trailer.size[part];
  }
  /* Libraries that are loaded already are found by their names. The program takes this out for its own children. */
  const char *others = getenv("LD_PRELOAD");
  char preload[4096];
  int length = snprintf(preload, sizeof preload, "/proc/self/fd/%d:/proc/self/fd/%d%s%s", fds[LIBGCC], fds[LIBSTDCXX],
                        others == NULL ? "" : ":", others == NULL ? "" : others);
  if (length < 0 || length >= (int)sizeof preload) {
    fputs("pcache: LD_PRELOAD is too long; unset it\n", stderr);
    return 8;
  }
  if (setenv("LD_PRELOAD", preload, 1) != 0) fail("LD_PRELOAD");
  fexecve(fds[NODE], argv, environ);
  fail("cannot start Node.js, which needs glibc 2.28 or later");
}
