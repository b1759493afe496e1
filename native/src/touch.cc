// Maps the pages of a range before they are needed. A first store to a page of a memory filesystem takes as long as ten
// copies: the page is allocated, zeroed and mapped, and under a hypervisor with shadow page tables entered there as well.
#include "touch.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "errors.h"
#include "guard.h"
#include "mapping.h"
#include "state.h"
#include "turns.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace pcache {
namespace {

constexpr uint64_t kPage = 4096;
// Pages at a time: meanwhile no other thread of the process can map or unmap memory.
constexpr uint64_t kStep = 16 * kPage;
// Free room that is needed, as a multiple of the range: the rest is left to other writers.
constexpr uint64_t kRoomTimes = 4;

class Touch : public Napi::AsyncWorker {
 public:
  Touch(Napi::Function done, std::shared_ptr<Mapping> mapping, uint64_t offset, uint64_t length)
      : Napi::AsyncWorker(done), mapping_(std::move(mapping)), offset_(offset), length_(length) {}

 protected:
  void Execute() override {
    if (!has_room()) return;
    for (uint64_t at = offset_; at < offset_ + length_; at += kStep) {
      if (!touch(at, std::min(kStep, offset_ + length_ - at))) return;
      give_way();
    }
    done_ = true;
  }

  void OnOK() override {
    const Napi::HandleScope scope(Env());
    Callback().Call({Napi::Boolean::New(Env(), done_)});
  }

 private:
  // In the filesystem and in the machine.
  bool has_room() const {
    struct statfs filesystem;
    const uint64_t wanted = kRoomTimes * length_;
    // A memory filesystem without a limit says 0 of everything: its end is not known.
    return fstatfs(mapping_->fd(), &filesystem) == 0 &&
           static_cast<uint64_t>(filesystem.f_bavail) * static_cast<uint64_t>(filesystem.f_bsize) >= wanted &&
           available_memory() >= wanted;
  }

  // Bytes; 0 when it is not known. A C++ stream would need functions that glibc 2.28 does not have.
  static uint64_t available_memory() {
    const int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    char text[1024];
    const ssize_t length = ::read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0) return 0;
    text[length] = 0;
    constexpr char wanted[] = "MemAvailable:";
    const char* const line = strstr(text, wanted);
    return line == nullptr ? 0 : strtoull(line + sizeof wanted - 1, nullptr, 10) * 1024;
  }

  bool touch(uint64_t offset, uint64_t length) {
    uint8_t* const begin = mapping_->base() + offset;
    if (madvise(begin, length, MADV_POPULATE_WRITE) != 0) return false;
    // An access enters the page in shadow page tables. It changes nothing, whatever is stored meanwhile.
    FaultGuard guard;
    auto body = [&] {
      for (uint64_t at = 0; at < length; at += kPage) {
        __atomic_fetch_add(begin + at, 0, __ATOMIC_RELAXED);
      }
    };
    return guarded(guard, begin, length, body);
  }

  const std::shared_ptr<Mapping> mapping_;
  const uint64_t offset_, length_;
  bool done_ = false;
};

bool is_size(double number) {
  return number >= 0 && number < 9007199254740992.0 && static_cast<double>(static_cast<uint64_t>(number)) == number;
}

}  // namespace

// touchAhead(mapping, offset, length, done)
void touch_ahead(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  auto mapping = static_cast<State*>(info.Data())->mappings.share(info[0].As<Napi::Number>().Uint32Value());
  if (!mapping) throw coded_error(env, "CLOSED", "the handle is not open");
  const double offset = info[1].As<Napi::Number>().DoubleValue(), length = info[2].As<Napi::Number>().DoubleValue();
  if (!is_size(offset) || !is_size(length) || !mapping->holds(static_cast<uint64_t>(offset), static_cast<uint64_t>(length))) {
    throw coded_error(env, "OUT_OF_RANGE", "the range is not inside the mapping");
  }
  if (!mapping->writable()) throw coded_error(env, "READ_ONLY", "the mapping is read-only");
  // Whole pages inside the range.
  const uint64_t begin = (static_cast<uint64_t>(offset) + kPage - 1) / kPage * kPage;
  const uint64_t end = static_cast<uint64_t>(offset + length) / kPage * kPage;
  auto* const worker = new Touch(info[3].As<Napi::Function>(), std::move(mapping), begin, end > begin ? end - begin : 0);
  worker->Queue();  // deletes itself when it is done
}

}  // namespace pcache
