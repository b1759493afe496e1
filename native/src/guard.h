// Turns a SIGBUS inside an access to a mapping (the file was truncated, its filesystem is full, the medium has a
// bad line) into a return value. Faults anywhere else go to the previous handler of SIGBUS.
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

// The guard of the access that this thread is in, or null.
using GuardSlot = FaultGuard* volatile;
extern __thread GuardSlot current_guard;

// Installs the handler, once per process.
void install_fault_handler();

// Runs `body`, which may touch [begin, begin + length). It must not throw and must not own anything, since a fault
// leaves it without unwinding. Returns false after a fault, whose address is then in `guard`. Variables that `body`
// writes and the caller reads after a fault must be volatile. `slot` is `current_guard` of this thread; the caller
// passes it since looking it up takes time.
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
