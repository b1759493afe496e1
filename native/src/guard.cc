#include "guard.h"

#include <mutex>

namespace pcache {

__thread GuardSlot current_guard = nullptr;

namespace {

struct sigaction previous;

// Passes a foreign fault to the previous handler.
void pass_on(int number, siginfo_t* info, void* context) {
  if (previous.sa_flags & SA_SIGINFO) {
    previous.sa_sigaction(number, info, context);
    return;
  }
  const bool sent = info->si_code <= 0;
  if (previous.sa_handler == SIG_IGN && sent) return;
  if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(number);
    return;
  }
  // Default action: the signal ends the process. A real fault recurs on return; a sent signal must be sent again.
  struct sigaction fatal = {};
  fatal.sa_handler = SIG_DFL;
  sigaction(SIGBUS, &fatal, nullptr);
  if (sent) raise(SIGBUS);
}

void on_bus_error(int number, siginfo_t* info, void* context) {
  FaultGuard* guard = current_guard;
  const auto* address = static_cast<const uint8_t*>(info->si_addr);
  const bool ours = guard != nullptr && info->si_code > 0 && address >= guard->begin && address < guard->end;
  if (!ours) {
    pass_on(number, info, context);
    return;
  }
  guard->address = address;
  guard->code = info->si_code;
  current_guard = nullptr;
  siglongjmp(guard->jump, 1);
}

}  // namespace

void install_fault_handler() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action = {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, &previous);
  });
}

}  // namespace pcache
