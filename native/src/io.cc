// Reads and writes of a file off the main thread, many in one job, so that the cost of a call into libuv's pool on the
// main thread is paid once for all of them.
#include "io.h"

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>
#include <sys/uio.h>
#include <unistd.h>
#include <vector>

#include "errors.h"
#include "state.h"
#include "turns.h"

namespace pcache {
namespace {

constexpr double kSafe = 9007199254740992.0;  // 2^53

struct Transfer {
  uint8_t* bytes;
  uint64_t offset;
  uint64_t length;
  bool is_write;
  // Result: bytes moved, and the error that ended the transfer early; 0 at the end of the file.
  uint64_t moved = 0;
  int error = 0;

  void run(int fd) {
    while (moved < length) {
      const size_t piece = std::min<uint64_t>(length - moved, 1u << 30);
      const auto at = static_cast<off_t>(offset + moved);
      const ssize_t count = is_write ? pwrite(fd, bytes + moved, piece, at) : pread(fd, bytes + moved, piece, at);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) error = errno;
      if (count <= 0) return;
      moved += static_cast<uint64_t>(count);
    }
  }
};

// Owns its transfers; the references keep the JavaScript memory that they go from and to.
class Batch : public Napi::AsyncWorker {
 public:
  Batch(Napi::Function done, int fd, std::vector<Transfer> transfers, Napi::Array memory, Napi::Object results)
      : Napi::AsyncWorker(done), fd_(fd), transfers_(std::move(transfers)), memory_(Napi::Persistent(memory.As<Napi::Object>())),
        results_(Napi::Persistent(results)) {}

 protected:
  void Execute() override {
    std::optional<WritersTurns> turns;
    for (Transfer& transfer : transfers_) {
      transfer.run(fd_);
      if (!transfer.is_write) continue;  // only writes take turns: a request waits for each read
      if (!turns) turns.emplace();
      turns->wrote(transfer.moved);
    }
  }

  void OnOK() override {
    const Napi::HandleScope scope(Env());
    auto moved = results_.Get("movedBytes").As<Napi::Float64Array>();
    auto error = results_.Get("errno").As<Napi::Int32Array>();
    for (size_t i = 0; i < transfers_.size(); i++) {
      moved[i] = static_cast<double>(transfers_[i].moved);
      error[i] = transfers_[i].error;
    }
    Callback().Call({});
  }

 private:
  const int fd_;
  std::vector<Transfer> transfers_;
  Napi::ObjectReference memory_, results_;
};

// A range of a mapping and its offset in the file.
struct Range {
  uint8_t* bytes;
  uint64_t offset;
  uint64_t length;
};

// Ranges of a mapping being written into a file. Shares the mapping: once unmapped, its addresses might belong to
// another mapping.
class WriteOut : public Napi::AsyncWorker {
 public:
  WriteOut(Napi::Function done, int fd, std::shared_ptr<Mapping> mapping, std::vector<Range> ranges)
      : Napi::AsyncWorker(done), fd_(fd), mapping_(std::move(mapping)), ranges_(std::move(ranges)) {}

 protected:
  void Execute() override {
    WritersTurns turns;
    while (next_ < ranges_.size() && error_ == 0) turns.wrote(write_some());
  }

  void OnOK() override {
    const Napi::HandleScope scope(Env());
    Callback().Call({Napi::Number::New(Env(), error_), Napi::Number::New(Env(), static_cast<double>(next_))});
  }

 private:
  static constexpr size_t kPieces = 64;

  // One system call for the next range and those that adjoin it in the file. Returns the bytes written.
  size_t write_some() {
    iovec pieces[kPieces];
    size_t count = 0;
    for (size_t i = next_; i < ranges_.size() && count < kPieces; i++) {
      if (i > next_ && ranges_[i].offset != ranges_[i - 1].offset + ranges_[i - 1].length) break;
      pieces[count++] = {ranges_[i].bytes, static_cast<size_t>(ranges_[i].length)};
    }
    const ssize_t written = pwritev(fd_, pieces, static_cast<int>(count), static_cast<off_t>(ranges_[next_].offset));
    if (written < 0 && errno == EINTR) return 0;
    if (written <= 0) {
      error_ = written < 0 ? errno : EIO;
      return 0;
    }
    auto left = static_cast<uint64_t>(written);
    while (left > 0 && left >= ranges_[next_].length) left -= ranges_[next_++].length;
    if (left > 0) {
      ranges_[next_].bytes += left;
      ranges_[next_].offset += left;
      ranges_[next_].length -= left;
    }
    return static_cast<size_t>(written);
  }

  const int fd_;
  const std::shared_ptr<Mapping> mapping_;
  std::vector<Range> ranges_;
  // The first range that is not written whole, and its error.
  size_t next_ = 0;
  int error_ = 0;
};

Napi::Error invalid(Napi::Env env, const char* message) { return coded_error(env, "INVALID", message); }

// A column of the batch: a typed array with an element for each transfer.
template <typename Array>
Array column(const Napi::Object& batch, const char* name, size_t count) {
  const Napi::Value value = batch.Get(name);
  if (!value.IsTypedArray()) throw invalid(batch.Env(), "a column of the transfers is no typed array");
  const auto array = value.As<Array>();
  if (array.ElementLength() < count) throw invalid(batch.Env(), "a column of the transfers is too short");
  return array;
}

}  // namespace

// transfer(fd, batch, count, done): batch is { isWrite: Uint8Array, offsetBytes: Float64Array,
// lengthBytes: Float64Array, bytesOffset: Float64Array, memory: Uint8Array[], movedBytes: Float64Array,
// errno: Int32Array }. The caller leaves it untouched until `done`, which finds the last two columns set.
void transfer(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = info[0].As<Napi::Number>().Int32Value();
  const auto batch = info[1].As<Napi::Object>();
  const size_t count = info[2].As<Napi::Number>().Uint32Value();
  const auto is_write = column<Napi::Uint8Array>(batch, "isWrite", count);
  const auto offset = column<Napi::Float64Array>(batch, "offsetBytes", count);
  const auto length = column<Napi::Float64Array>(batch, "lengthBytes", count);
  const auto bytes_offset = column<Napi::Float64Array>(batch, "bytesOffset", count);
  column<Napi::Float64Array>(batch, "movedBytes", count);
  column<Napi::Int32Array>(batch, "errno", count);
  const auto memory = batch.Get("memory").As<Napi::Array>();
  std::vector<Transfer> transfers;
  transfers.reserve(count);
  for (size_t i = 0; i < count; i++) {
    const Napi::Value value = memory.Get(static_cast<uint32_t>(i));
    if (!value.IsTypedArray()) throw invalid(env, "a Uint8Array is needed");
    auto bytes = value.As<Napi::Uint8Array>();
    const double end = bytes_offset[i] + length[i];
    if (!(offset[i] >= 0 && offset[i] < kSafe && bytes_offset[i] >= 0 && length[i] >= 0 && end <= static_cast<double>(bytes.ByteLength()))) {
      throw invalid(env, "a transfer is out of its memory");
    }
    Transfer transfer;
    transfer.bytes = bytes.Data() + static_cast<size_t>(bytes_offset[i]);
    transfer.offset = static_cast<uint64_t>(offset[i]);
    transfer.length = static_cast<uint64_t>(length[i]);
    transfer.is_write = is_write[i] != 0;
    transfers.push_back(transfer);
  }
  auto* const worker = new Batch(info[3].As<Napi::Function>(), fd, std::move(transfers), memory, batch);
  worker->Queue();  // deletes itself when it is done
}

// writeOut(mapping, fd, ranges, count, done): ranges is { pmemOffsetBytes, offsetBytes, lengthBytes: Float64Array },
// which may change as soon as this returns; no length is 0. `done` is called with an errno, or 0, and the number of
// ranges that were written whole.
void write_out(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const State& state = *static_cast<State*>(info.Data());
  auto mapping = state.mappings.share(info[0].As<Napi::Number>().Uint32Value());
  if (!mapping) throw coded_error(env, "CLOSED", "the handle is not open");
  const int fd = info[1].As<Napi::Number>().Int32Value();
  const auto columns = info[2].As<Napi::Object>();
  const size_t count = info[3].As<Napi::Number>().Uint32Value();
  const auto pmem_offset = column<Napi::Float64Array>(columns, "pmemOffsetBytes", count);
  const auto offset = column<Napi::Float64Array>(columns, "offsetBytes", count);
  const auto length = column<Napi::Float64Array>(columns, "lengthBytes", count);
  std::vector<Range> ranges(count);
  for (size_t i = 0; i < count; i++) {
    const bool sound = pmem_offset[i] >= 0 && pmem_offset[i] < kSafe && offset[i] >= 0 && offset[i] < kSafe &&
                       length[i] >= 1 && length[i] < kSafe &&
                       mapping->holds(static_cast<uint64_t>(pmem_offset[i]), static_cast<uint64_t>(length[i]));
    if (!sound) throw coded_error(env, "OUT_OF_RANGE", "a range is not inside the mapping");
    ranges[i] = {mapping->base() + static_cast<uint64_t>(pmem_offset[i]), static_cast<uint64_t>(offset[i]),
                 static_cast<uint64_t>(length[i])};
  }
  auto* const worker = new WriteOut(info[4].As<Napi::Function>(), fd, std::move(mapping), std::move(ranges));
  worker->Queue();  // deletes itself when it is done
}

// giveWay(): yields the processor to a thread of this process that writes a file, if one waits for it.
void give_way_to_writers(const Napi::CallbackInfo&) {
  if (writers_at_work.load(std::memory_order_relaxed) > 0) give_way();
}

}  // namespace pcache
