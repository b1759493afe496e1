#include "mapping.h"

#include <cerrno>
#include <fcntl.h>
#include <iterator>
#include <linux/magic.h>
#include <map>
#include <mutex>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "copy.h"
#include "cpu.h"

#ifndef MAP_SHARED_VALIDATE
#define MAP_SHARED_VALIDATE 0x03
#endif
#ifndef MAP_SYNC
#define MAP_SYNC 0x80000
#endif

namespace pcache {
namespace {

// Only a regular file's filesystem tells: a block device's node also lies on a memory filesystem.
bool on_memory_filesystem(int fd) {
  struct stat status;
  struct statfs filesystem;
  // The call itself: a prebuilt helper must run where the C library has no such function (glibc before 2.33).
  if (syscall(SYS_fstat, fd, &status) != 0 || !S_ISREG(status.st_mode)) return false;
  if (fstatfs(fd, &filesystem) != 0) return false;
  const auto type = static_cast<unsigned long>(filesystem.f_type);
  return type == TMPFS_MAGIC || type == RAMFS_MAGIC || type == HUGETLBFS_MAGIC;
}

struct Shared {
  std::mutex mutex;
  uint32_t last = 0;
  std::map<uint32_t, std::weak_ptr<Region>> regions;
};

Shared& shared() {
  static Shared* const all = new Shared;  // never destroyed: threads may end after the process has begun to
  return *all;
}

// Null with errno set when the system refuses.
std::shared_ptr<Region> map_region(int fd, uint64_t size_bytes, bool writable) {
  const int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
  void* base = MAP_FAILED;
  // Without cache-line write-backs fdatasync serves DAX files as well. A reader asks too: it reports the durability.
  if (can_write_back()) {
    base = mmap(nullptr, size_bytes, protection, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0);
  }
  const bool is_sync = base != MAP_FAILED;
  if (!is_sync) base = mmap(nullptr, size_bytes, protection, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED) return nullptr;
  return std::make_shared<Region>(static_cast<uint8_t*>(base), size_bytes, fd, writable, is_sync);
}

}  // namespace

Region::Region(uint8_t* at, uint64_t size, int fd, bool can_store, bool sync)
    : base(at), size_bytes(size), writable(can_store), is_sync(sync) {
  struct stat status;
  if (syscall(SYS_fstat, fd, &status) != 0) return;
  device_ = status.st_dev;
  inode_ = status.st_ino;
}

bool Region::is_of(int fd, uint64_t size, bool can_store) const {
  struct stat status;
  return size == size_bytes && can_store == writable && syscall(SYS_fstat, fd, &status) == 0 && status.st_ino != 0 &&
         status.st_dev == device_ && status.st_ino == inode_;
}

Region::~Region() { munmap(base, size_bytes); }

uint32_t Region::share(const std::shared_ptr<Region>& region) {
  Shared& all = shared();
  const std::lock_guard<std::mutex> lock(all.mutex);
  for (auto entry = all.regions.begin(); entry != all.regions.end();) {
    const auto known = entry->second.lock();
    if (known == region) return entry->first;
    entry = known ? std::next(entry) : all.regions.erase(entry);
  }
  all.regions.emplace(++all.last, region);
  return all.last;
}

std::shared_ptr<Region> Region::find(uint32_t number) {
  Shared& all = shared();
  const std::lock_guard<std::mutex> lock(all.mutex);
  const auto found = all.regions.find(number);
  return found == all.regions.end() ? nullptr : found->second.lock();
}

Mapping* Mapping::create(int fd, uint64_t size_bytes, bool writable, bool ephemeral, std::shared_ptr<Region> region) {
  if (size_bytes == 0 || size_bytes > SIZE_MAX) {
    errno = EINVAL;
    return nullptr;
  }
  const int own_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (own_fd < 0) return nullptr;
  if (!region) region = map_region(own_fd, size_bytes, writable);
  if (!region) {
    const int error = errno;
    close(own_fd);
    errno = error;
    return nullptr;
  }
  Durability durability = region->is_sync ? Durability::dax : Durability::page_cache;
  if (ephemeral || on_memory_filesystem(own_fd)) durability = Durability::volatile_memory;
  return new Mapping(std::move(region), own_fd, durability);
}

Mapping::~Mapping() { close(fd_); }

bool Mapping::read_file(uint64_t offset, uint8_t* bytes, uint64_t length) const {
  if (writable_ || durability_ == Durability::dax) return false;
  while (length > 0) {
    const ssize_t got = pread(fd_, bytes, length, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    offset += static_cast<uint64_t>(got);
    bytes += got;
    length -= static_cast<uint64_t>(got);
  }
  return true;
}

bool Mapping::is_in_memory() const { return on_memory_filesystem(fd_); }

void Mapping::expect_scattered() const {
  madvise(base_, size_bytes_, MADV_RANDOM);  // It is advice: without it everything works, but slower.
}

int Mapping::persist() const {
  fence();
  if (durability_ != Durability::page_cache) return 0;
  // Linux tracks stores to shared file mappings as dirty pages of the file, so this covers them without
  // an msync per range.
  while (fdatasync(fd_) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

}  // namespace pcache
