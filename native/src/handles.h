// Integer handles for JavaScript. A handle names its slot and how often the slot was filled, so one that was
// released is recognised even after its slot is in use again.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace pcache {

template <typename T>
class HandleTable {
 public:
  // 0 when the table is full.
  uint32_t add(std::shared_ptr<T> object) {
    for (uint32_t index = 0; index < kSlots; index++) {
      if (index == slots_.size()) slots_.emplace_back();
      Slot& slot = slots_[index];
      if (slot.object || slot.uses == kUsesMax) continue;
      slot.uses++;
      slot.object = std::move(object);
      return handle_of(index);
    }
    return 0;
  }

  // Null for anything that is not a live handle.
  T* find(uint32_t handle) const {
    const uint32_t index = handle % kSlots;
    if (index >= slots_.size() || handle_of(index) != handle) return nullptr;
    return slots_[index].object.get();
  }

  // As `find`; the object then lasts as long as whoever holds it, whatever becomes of the handle.
  std::shared_ptr<T> share(uint32_t handle) const {
    return find(handle) == nullptr ? nullptr : slots_[handle % kSlots].object;
  }

  template <typename Body>
  void each(Body body) const {
    for (const Slot& slot : slots_) {
      if (slot.object) body(*slot.object);
    }
  }

  bool remove(uint32_t handle) {
    if (find(handle) == nullptr) return false;
    slots_[handle % kSlots].object.reset();
    return true;
  }

 private:
  static constexpr uint32_t kSlots = 4096;
  static constexpr uint32_t kUsesMax = UINT32_MAX / kSlots;

  struct Slot {
    std::shared_ptr<T> object;
    uint32_t uses = 0;
  };

  uint32_t handle_of(uint32_t index) const { return slots_[index].uses * kSlots + index; }

  std::vector<Slot> slots_;
};

}  // namespace pcache
