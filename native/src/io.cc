// Reads and writes of a file off the main thread, many in one piece of work: what a call into libuv's pool costs
// on the main thread is paid once for all of them.
#include "io.h"

#include <algorithm>
#include <cerrno>
#include <unistd.h>
#include <vector>

namespace pcache {
namespace {

struct Transfer {
  uint8_t* bytes;
  uint64_t offset;
  uint64_t length;
  bool is_write;
  // What came of it: bytes moved, and the error that ended it before all were; 0 at the end of the file.
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
    for (Transfer& transfer : transfers_) transfer.run(fd_);
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

Napi::Error invalid(Napi::Env env, const char* message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, "INVALID"));
  return error;
}

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
// errno: Int32Array }. All of it stays untouched until `done` is called, with the last two columns set.
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
    if (!(offset[i] >= 0 && bytes_offset[i] >= 0 && length[i] >= 0 && end <= static_cast<double>(bytes.ByteLength()))) {
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

}  // namespace pcache
