// A mapped cache device and the durability of stores to it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace pcache {

enum class Durability { dax, page_cache, volatile_memory };

// The mapped pages. Threads of a cache share them: each page is entered in the page tables once, not once a thread.
class Region {
 public:
  Region(uint8_t* base, uint64_t size_bytes, int fd, bool writable, bool is_sync);
  ~Region();
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  // Whether it maps so much of that file, in that way.
  bool is_of(int fd, uint64_t size_bytes, bool writable) const;

  // The region of that number; null when it is gone.
  static std::shared_ptr<Region> find(uint32_t number);
  // Its number for `find`, in whatever thread.
  static uint32_t share(const std::shared_ptr<Region>& region);

  uint8_t* const base;
  const uint64_t size_bytes;
  const bool writable;
  // Mapped with MAP_SYNC.
  const bool is_sync;

 private:
  // Of the file, as fstat gives them.
  uint64_t device_ = 0, inode_ = 0;
};

// Owns a share of the mapped pages and a duplicate of a file descriptor, so that a flock on the file lasts at least as
// long as the mapping. The open file is its own: the system reports an error of write-back once for each.
class Mapping {
 public:
  // Returns null and sets errno when the system refuses. `ephemeral`: no durability is needed. `region`: pages that
  // another thread has mapped, of the same device; null to map them.
  static Mapping* create(int fd, uint64_t size_bytes, bool writable, bool ephemeral, std::shared_ptr<Region> region);
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  uint8_t* base() const { return base_; }
  uint64_t size_bytes() const { return size_bytes_; }
  bool writable() const { return writable_; }
  const std::shared_ptr<Region>& region() const { return region_; }
  int fd() const { return fd_; }
  Durability durability() const { return durability_; }

  // False when [offset, offset + length) is not inside the mapping.
  bool holds(uint64_t offset, uint64_t length) const {
    return length <= size_bytes_ && offset <= size_bytes_ - length;
  }

  // Reads [offset, offset + length) with pread, if nothing is stored through this mapping: a read through the mapping
  // costs a fault for each page, and gives memory to the holes of a file. False when it has not read all of it: a read
  // through the mapping does that, or tells why.
  bool read_file(uint64_t offset, uint8_t* bytes, uint64_t length) const;

  // Whether a memory filesystem is behind it, whose pages are its only copy.
  bool is_in_memory() const;

  // Has page faults read single pages: few are touched, far apart. Otherwise each reads what its disk reads ahead.
  void expect_scattered() const;

  // Fence, and on a page-cache mapping fdatasync. Returns 0 or an errno.
  int persist() const;

 private:
  Mapping(std::shared_ptr<Region> region, int fd, Durability durability)
      : region_(std::move(region)),
        base_(region_->base),
        size_bytes_(region_->size_bytes),
        fd_(fd),
        writable_(region_->writable),
        durability_(durability) {}

  const std::shared_ptr<Region> region_;
  uint8_t* base_;
  uint64_t size_bytes_;
  int fd_;
  bool writable_;
  Durability durability_;
};

}  // namespace pcache
