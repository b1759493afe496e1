// Turns a SIGBUS inside an access to a mapping (the file was cut short, its filesystem is full, the medium
// has a bad line) into a return value. Faults anywhere else go to whoever handled SIGBUS before.
#pragma once

#include <atomic>
#include <csetjmp>
#include <csignal>
#include <cstddef>
#include <cstdint>

namespace pcache {

struct FaultGuard {
  sigjmp_buf jump;
  const uint8_t* begin;
  const uint8_t* end;
  // Written by the signal handler.
  const uint8_t* volatile address;
  volatile int code;
};

// The guard of the access that a thread is in, if any.
using GuardSlot = FaultGuard* volatile;
extern __thread GuardSlot current_guard;

// Installs the handler, once per process.
void install_fault_handler();

// Runs `body`, which may touch [begin, begin + length), must not throw and must not own anything: a fault
// leaves it on the spot. Returns false after a fault; `guard` then says where. What `body` writes and the
// caller reads after a fault must be volatile. `slot` is this thread's: looking it up costs some.
template <typename Body>
bool guarded(GuardSlot& slot, FaultGuard& guard, const uint8_t* begin, size_t length, Body& body) {
  guard.begin = begin;
  guard.end = begin + length;
  // The signal mask need not be saved: the handler runs with SIGBUS unblocked.
  if (sigsetjmp(guard.jump, 0) != 0) return false;
  slot = &guard;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  body();
  std::atomic_signal_fence(std::memory_order_seq_cst);
  slot = nullptr;
  return true;
}

template <typename Body>
bool guarded(FaultGuard& guard, const uint8_t* begin, size_t length, Body& body) {
  return guarded(current_guard, guard, begin, length, body);
}

}  // namespace pcache
