#include "process.h"

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "errors.h"

namespace pcache {

Napi::Value notify_service(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string address = info[0].As<Napi::String>();
  const std::string text = info[1].As<Napi::String>();
  sockaddr_un to = {};
  to.sun_family = AF_UNIX;
  if (address.empty() || address.size() >= sizeof to.sun_path) throw coded_error(env, "INVALID", "the address is too long");
  memcpy(to.sun_path, address.data(), address.size());
  socklen_t length = offsetof(sockaddr_un, sun_path) + address.size();
  if (address[0] == '@') to.sun_path[0] = '\0';
  else length++;  // the zero that ends a path
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw errno_error(env, "socket", errno);
  const ssize_t sent = sendto(fd, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL, reinterpret_cast<sockaddr*>(&to), length);
  const int error = sent < 0 ? errno : 0;
  close(fd);
  if (error != 0 && error != EAGAIN) throw errno_error(env, "sendto", error);
  return Napi::Boolean::New(env, error == 0);
}

void redirect(const Napi::CallbackInfo& info) {
  const int from = info[0].As<Napi::Number>().Int32Value();
  const int to = info[1].As<Napi::Number>().Int32Value();
  while (dup2(to, from) < 0) {
    if (errno != EINTR && errno != EBUSY) throw errno_error(info.Env(), "dup2", errno);
  }
}

Napi::Value duplicate(const Napi::CallbackInfo& info) {
  const int fd = fcntl(info[0].As<Napi::Number>().Int32Value(), F_DUPFD_CLOEXEC, 0);
  if (fd < 0) throw errno_error(info.Env(), "dup", errno);
  return Napi::Number::New(info.Env(), fd);
}

}  // namespace pcache
