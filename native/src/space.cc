#include "space.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <vector>

#include "errors.h"

namespace pcache {
namespace {

constexpr double kSafe = 9007199254740992.0;  // 2^53

struct Extent {
  off_t end;
  bool is_hole;
};

// Its fd stays open until the callback: the caller sees to that. The file offset that lseek moves is used by nobody else.
class Extents : public Napi::AsyncWorker {
 public:
  Extents(Napi::Function done, int fd, off_t offset, off_t end, size_t capacity, Napi::Object ends, Napi::Object holes)
      : Napi::AsyncWorker(done), fd_(fd), offset_(offset), end_(end), capacity_(capacity),
        ends_(Napi::Persistent(ends)), holes_(Napi::Persistent(holes)) {}

 protected:
  void Execute() override {
    while (offset_ < end_ && found_.size() < capacity_) {
      off_t data = lseek(fd_, offset_, SEEK_DATA);
      if (data < 0 && errno == ENXIO) data = end_;  // a hole up to the end of the file
      if (data < 0) {
        // A device or filesystem that cannot tell: all of it is data.
        if (errno == EINVAL || errno == EOPNOTSUPP || errno == ENOTTY) found_.push_back({end_, false});
        else error_ = errno;
        return;
      }
      off_t next = std::min(data, end_);
      const bool is_hole = data > offset_;
      if (!is_hole) {
        const off_t hole = lseek(fd_, offset_, SEEK_HOLE);
        if (hole < 0) {
          error_ = errno;
          return;
        }
        next = hole <= offset_ ? end_ : std::min(hole, end_);
      }
      found_.push_back({next, is_hole});
      offset_ = next;
    }
  }

  void OnOK() override {
    const Napi::HandleScope scope(Env());
    auto ends = ends_.Value().As<Napi::Float64Array>();
    auto holes = holes_.Value().As<Napi::Uint8Array>();
    for (size_t i = 0; i < found_.size(); i++) {
      ends[i] = static_cast<double>(found_[i].end);
      holes[i] = found_[i].is_hole ? 1 : 0;
    }
    Callback().Call({Napi::Number::New(Env(), error_), Napi::Number::New(Env(), static_cast<double>(found_.size()))});
  }

 private:
  const int fd_;
  off_t offset_;
  const off_t end_;
  const size_t capacity_;
  Napi::ObjectReference ends_, holes_;
  std::vector<Extent> found_;
  int error_ = 0;
};

// fstat is a function of glibc 2.33 and later only, and the prebuilt helper runs with 2.28.
int status_of(int fd, struct stat* status) { return static_cast<int>(syscall(SYS_fstat, fd, status)); }

// Zeroes in memory for `Zeroes`: the most that one write takes.
constexpr size_t kZeroBytes = size_t{1} << 20;

// Its fd stays open until the callback: the caller sees to that.
class Zeroes : public Napi::AsyncWorker {
 public:
  Zeroes(Napi::Function done, int fd, off_t offset, off_t length, bool keeps_space)
      : Napi::AsyncWorker(done), fd_(fd), offset_(offset), length_(length), keeps_space_(keeps_space) {}

 protected:
  void Execute() override {
    struct stat status;
    if (status_of(fd_, &status) != 0) {
      error_ = errno;
      return;
    }
    const off_t end = offset_ + length_;
    // A block device's fallocate does not wait for buffered writes, which read the rest of their page first: a write
    // beside the range, in the same page, could bring the old data back.
    const off_t page = S_ISBLK(status.st_mode) ? sysconf(_SC_PAGESIZE) : 1;
    const off_t first = std::min((offset_ + page - 1) / page * page, end);
    const off_t last = std::max(end / page * page, first);
    write_zeroes(offset_, first);
    if (error_ == 0) zero_pages(first, last);
    if (error_ == 0) write_zeroes(last, end);
  }

  void OnOK() override {
    const Napi::HandleScope scope(Env());
    Callback().Call({Napi::Number::New(Env(), error_)});
  }

 private:
  void zero_pages(off_t offset, off_t end) {
    const int mode = keeps_space_ ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE;
    while (offset < end && fallocate(fd_, mode | FALLOC_FL_KEEP_SIZE, offset, end - offset) != 0) {
      if (errno == EINTR) continue;
      if (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL || errno == ENOTTY) write_zeroes(offset, end);
      else error_ = errno;
      return;
    }
  }

  void write_zeroes(off_t offset, off_t end) {
    const std::vector<char> zeroes(std::min(kZeroBytes, static_cast<size_t>(end - offset)));
    while (offset < end) {
      const auto bytes = std::min(zeroes.size(), static_cast<size_t>(end - offset));
      const ssize_t written = pwrite(fd_, zeroes.data(), bytes, offset);
      if (written > 0) offset += written;
      else if (written == 0) error_ = ENOSPC;
      else if (errno != EINTR) error_ = errno;
      if (error_ != 0) return;
    }
  }

  const int fd_;
  const off_t offset_, length_;
  const bool keeps_space_;
  int error_ = 0;
};

double number_argument(const Napi::CallbackInfo& info, size_t index) {
  const double value = info[index].As<Napi::Number>().DoubleValue();
  if (!(value >= 0 && value < kSafe)) throw coded_error(info.Env(), "OUT_OF_RANGE", "a number is out of range");
  return value;
}

}  // namespace

void allocate(const Napi::CallbackInfo& info) {
  const int fd = info[0].As<Napi::Number>().Int32Value();
  const auto size = static_cast<off_t>(number_argument(info, 1));
  while (fallocate(fd, 0, 0, size) != 0) {
    if (errno != EINTR) throw errno_error(info.Env(), "fallocate", errno);
  }
}

Napi::Value can_punch(const Napi::CallbackInfo& info) {
  const int fd = info[0].As<Napi::Number>().Int32Value();
  constexpr off_t kBytes = 4096;
  struct stat status;
  if (status_of(fd, &status) != 0) return Napi::Boolean::New(info.Env(), false);
  int failed;
  do failed = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, status.st_size, kBytes);
  while (failed != 0 && errno == EINTR);
  return Napi::Boolean::New(info.Env(), failed == 0);
}

void zero_range(const Napi::CallbackInfo& info) {
  const int fd = info[0].As<Napi::Number>().Int32Value();
  const auto offset = static_cast<off_t>(number_argument(info, 1));
  const auto length = static_cast<off_t>(number_argument(info, 2));
  const bool keeps_space = info[3].As<Napi::Boolean>().Value();
  auto* const worker = new Zeroes(info[4].As<Napi::Function>(), fd, offset, length, keeps_space);
  worker->Queue();  // deletes itself when it is done
}

void extents(const Napi::CallbackInfo& info) {
  const int fd = info[0].As<Napi::Number>().Int32Value();
  const auto offset = static_cast<off_t>(number_argument(info, 1));
  const auto length = static_cast<off_t>(number_argument(info, 2));
  const auto ends = info[3].As<Napi::Float64Array>();
  const auto holes = info[4].As<Napi::Uint8Array>();
  const size_t capacity = std::min(ends.ElementLength(), holes.ElementLength());
  auto* const worker = new Extents(info[5].As<Napi::Function>(), fd, offset, offset + length, capacity,
                                   ends.As<Napi::Object>(), holes.As<Napi::Object>());
  worker->Queue();  // deletes itself when it is done
}

}  // namespace pcache
