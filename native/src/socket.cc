// Sends on a stream socket without a stream of Node.js: one system call, and only what the socket takes at once.
#include <cerrno>
#include <climits>
#include <sys/socket.h>

#include "call.h"

namespace pcache {

// (fd, bytes, start, end) → bytes sent; 0 when the socket takes none now, and when it is broken
napi_value send_now(napi_env env, napi_callback_info info) {
  const Arguments<4> args(env, info);
  uint32_t fd;
  uint8_t* bytes;
  size_t bytes_length;
  uint64_t start, end;
  if (!args.bytes(1, &bytes, &bytes_length)) return fail(env, "INVALID", "a Uint8Array is needed");
  if (!args.word(0, &fd) || fd > INT_MAX || !args.integer(2, &start) || !args.integer(3, &end) || start > end ||
      end > bytes_length) {
    return fail_range(env);
  }
  ssize_t sent;
  do {
    sent = send(static_cast<int>(fd), bytes + start, end - start, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  napi_value result;
  return napi_create_double(env, sent > 0 ? static_cast<double>(sent) : 0, &result) == napi_ok ? result : nullptr;
}

}  // namespace pcache
