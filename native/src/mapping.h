// A mapped cache device and the durability of stores to it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pcache {

enum class Durability { dax, page_cache, volatile_memory };

// Owns the mapping and a duplicate of its file descriptor, so that a flock on the file lasts at least as long as the
// mapping.
class Mapping {
 public:
  // Returns null and sets errno when the system refuses. `ephemeral`: no durability is needed.
  static Mapping* create(int fd, uint64_t size_bytes, bool writable, bool ephemeral);
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  uint8_t* base() const { return base_; }
  uint64_t size_bytes() const { return size_bytes_; }
  bool writable() const { return writable_; }
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
  Mapping(uint8_t* base, uint64_t size_bytes, int fd, bool writable, Durability durability)
      : base_(base), size_bytes_(size_bytes), fd_(fd), writable_(writable), durability_(durability) {}

  uint8_t* base_;
  uint64_t size_bytes_;
  int fd_;
  bool writable_;
  Durability durability_;
};

}  // namespace pcache
