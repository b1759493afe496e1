// Integer handles for JavaScript. A handle is made of a table entry and the number of times that entry was used, so
// that a released handle is recognised even after its entry is in use again.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace pcache {

template <typename T>
class HandleTable {
 public:
  // Returns 0 when the table is full.
  uint32_t add(std::shared_ptr<T> object) {
    for (uint32_t index = 0; index < kEntries; index++) {
      if (index == entries_.size()) entries_.emplace_back();
      Entry& entry = entries_[index];
      if (entry.object || entry.uses == kUsesMax) continue;
      entry.uses++;
      entry.object = std::move(object);
      return handle_of(index);
    }
    return 0;
  }

  // Returns null for anything but a live handle.
  T* find(uint32_t handle) const {
    const uint32_t index = handle % kEntries;
    if (index >= entries_.size() || handle_of(index) != handle) return nullptr;
    return entries_[index].object.get();
  }

  // As `find`; the caller shares the object, which then outlives its handle.
  std::shared_ptr<T> share(uint32_t handle) const {
    return find(handle) == nullptr ? nullptr : entries_[handle % kEntries].object;
  }

  template <typename Body>
  void each(Body body) const {
    for (const Entry& entry : entries_) {
      if (entry.object) body(*entry.object);
    }
  }

  bool remove(uint32_t handle) {
    if (find(handle) == nullptr) return false;
    entries_[handle % kEntries].object.reset();
    return true;
  }

 private:
  static constexpr uint32_t kEntries = 4096;
  static constexpr uint32_t kUsesMax = UINT32_MAX / kEntries;

  struct Entry {
    std::shared_ptr<T> object;
    uint32_t uses = 0;
  };

  uint32_t handle_of(uint32_t index) const { return entries_[index].uses * kEntries + index; }

  std::vector<Entry> entries_;
};

}  // namespace pcache
