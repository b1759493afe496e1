#include "ublk-device.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <memory>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <vector>

#include "device-thread.h"
#include "errors.h"
#include "ublk-abi.h"
#include "uring.h"

namespace pcache {
namespace {

constexpr uint32_t kDepthMax = 4096;
constexpr uint32_t kSectorBytes = 512;
#ifndef PR_SET_IO_FLUSHER  // Linux 5.6
#define PR_SET_IO_FLUSHER 57
#endif

// ---- control commands --------------------------------------------------------------------------------------

// Sends a command and waits for its end. Returns its result, or a negative errno.
int control(uint32_t op, abi::ControlCommand command) {
  const int fd = open("/dev/ublk-control", O_RDWR | O_CLOEXEC);
  if (fd < 0) return -errno;
  int result;
  {
    Uring ring;
    const int error = ring.open(1, true);
    if (error != 0) {
      result = -error;
    } else {
      abi::Submission* const entry = ring.next();
      entry->opcode = abi::kOpUringCmd;
      entry->fd = fd;
      entry->command_op = op;
      abi::place(entry, command);
      abi::Completion completion = {};
      const int failed = ring.submit(1);
      result = failed != 0 ? -failed : ring.take(&completion) ? completion.result : -EIO;
    }
  }
  close(fd);
  return result;
}

// ---- the event loop ----------------------------------------------------------------------------------------

// Of libuv, which every Node.js exports: the calls that watch a file descriptor. Looked up when a device is served, so
// that the helper itself needs Node-API alone.
struct Loop {
  using Handle = void;
  using Ready = void (*)(Handle*, int status, int events);
  static constexpr int kPollType = 8;  // UV_POLL
  static constexpr int kReadable = 1;  // UV_READABLE
  size_t (*handle_size)(int type);
  int (*poll_init)(void* loop, Handle* handle, int fd);
  int (*poll_start)(Handle* handle, int events, Ready ready);
  int (*poll_stop)(Handle* handle);
  void (*close)(Handle* handle, void (*closed)(Handle*));

  bool find() {
    const auto look = [](auto& call, const char* name) {
      void* const address = dlsym(RTLD_DEFAULT, name);
      memcpy(&call, &address, sizeof(address));
      return address != nullptr;
    };
    return look(handle_size, "uv_handle_size") && look(poll_init, "uv_poll_init") && look(poll_start, "uv_poll_start") &&
           look(poll_stop, "uv_poll_stop") && look(close, "uv_close");
  }
};

// ---- a queue -----------------------------------------------------------------------------------------------

// JavaScript's columns; each has an element for every tag.
struct Columns {
  uint16_t* tag;
  uint8_t* op;
  double* offset;
  uint32_t* length;
  uint16_t* commit_tag;
  int32_t* commit_result;
};

// Serves a queue from the thread that creates it: the kernel hands requests to that thread only, and copies their data
// while it is in a system call. Memory and columns stay alive by references.
class Queue : public std::enable_shared_from_this<Queue> {
 public:
  Queue(Napi::Env env, int fd, uint16_t number, uint32_t depth) : env_(env), fd_(fd), number_(number), depth_(depth) {}
  ~Queue() { release(); }

  Columns columns = {};
  uint8_t* memory = nullptr;
  uint32_t max_bytes = 0;
  bool is_encoded = true;
  Napi::FunctionReference take_, ended_;
  Napi::ObjectReference columns_kept, memory_kept;

  // Throws. Afterwards the kernel has a command for every tag.
  void start();
  void commit(uint32_t count);
  void close();

 private:
  void command(uint32_t number, uint16_t tag, int32_t result);
  void reap();
  void call(Napi::FunctionReference& function, double argument);
  void release();
  [[noreturn]] void refuse(const char* doing, int error) {
    close();
    throw errno_error(env_, doing, error);
  }
  static size_t descriptors_bytes(uint32_t depth) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    return (depth * sizeof(abi::Descriptor) + page - 1) / page * page;
  }

  const Napi::Env env_;
  const int fd_;
  const uint16_t number_;
  const uint32_t depth_;
  std::unique_ptr<Uring> ring_;
  int event_fd_ = -1;
  const abi::Descriptor* descriptors_ = nullptr;
  Loop loop_ = {};
  void* handle_ = nullptr;
  // Commands that the kernel has.
  uint32_t commands_ = 0;
  int error_ = 0;
  bool is_ending_ = false;
  bool is_closed_ = false;
};

void Queue::start() {
  // Memory that this thread asks for must not make the kernel write dirty pages of this device and wait for us.
  // Without the privilege it goes on as it is.
  prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
  ring_ = std::make_unique<Uring>();
  uint32_t entries = 1;
  while (entries < depth_) entries *= 2;
  int error = ring_->open(entries, false);
  if (error != 0) refuse("io_uring_setup", error);
  event_fd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (event_fd_ < 0) refuse("eventfd", errno);
  error = ring_->signal_on(event_fd_);
  if (error != 0) refuse("io_uring_register", error);
  // Each queue has room for the greatest depth.
  const auto place = static_cast<off_t>(number_ * descriptors_bytes(kDepthMax));
  void* const mapped = mmap(nullptr, descriptors_bytes(depth_), PROT_READ, MAP_SHARED | MAP_POPULATE, fd_, place);
  if (mapped == MAP_FAILED) refuse("mmap", errno);
  descriptors_ = static_cast<const abi::Descriptor*>(mapped);
  uv_loop_s* loop = nullptr;
  if (!loop_.find() || napi_get_uv_event_loop(env_, &loop) != napi_ok) refuse("libuv", ENOSYS);
  handle_ = calloc(1, loop_.handle_size(Loop::kPollType));
  if (handle_ == nullptr) refuse("uv_poll_init", ENOMEM);
  error = -loop_.poll_init(loop, handle_, event_fd_);
  if (error != 0) {
    free(handle_);
    handle_ = nullptr;
    refuse("uv_poll_init", error);
  }
  // The first member of a handle is its user's.
  *static_cast<Queue**>(handle_) = this;
  error = -loop_.poll_start(handle_, Loop::kReadable, [](void* handle, int, int) {
    (*static_cast<Queue**>(handle))->reap();
  });
  if (error != 0) refuse("uv_poll_start", error);
  for (uint32_t tag = 0; tag < depth_; tag++) command(abi::kFetchReq, static_cast<uint16_t>(tag), 0);
  error = ring_->submit(0);
  if (error != 0) refuse("io_uring_enter", error);
}

void Queue::command(uint32_t number, uint16_t tag, int32_t result) {
  abi::Submission* const entry = ring_->next();
  entry->opcode = abi::kOpUringCmd;
  entry->fd = fd_;
  entry->command_op = is_encoded ? abi::kIoCommandEncoding | number : number;
  entry->user_data = tag;
  const abi::IoCommand command = {number_, tag, result, reinterpret_cast<uint64_t>(memory) + uint64_t{tag} * max_bytes};
  abi::place(entry, command);
  commands_++;
}

void Queue::commit(uint32_t count) {
  if (is_closed_) return;
  if (count > depth_) throw coded_error(env_, "INVALID", "more results than tags");
  for (uint32_t i = 0; i < count; i++) {
    if (columns.commit_tag[i] >= depth_) throw coded_error(env_, "INVALID", "no such tag");
    command(abi::kCommitAndFetchReq, columns.commit_tag[i], columns.commit_result[i]);
  }
  const int error = ring_->submit(0);
  if (error != 0) throw errno_error(env_, "io_uring_enter", error);
}

// Gives JavaScript the requests that have come.
void Queue::reap() {
  const auto self = shared_from_this();  // the callbacks may close it
  uint64_t signals;
  if (read(event_fd_, &signals, sizeof(signals)) < 0 && errno != EAGAIN) error_ = errno;
  const Napi::HandleScope scope(env_);
  uint32_t count = 0;
  abi::Completion completion;
  while (count < depth_ && ring_->take(&completion)) {
    commands_--;
    if (completion.result != 0) {
      is_ending_ = true;  // the device is being stopped, or the command was wrong
      if (completion.result != -ENODEV && error_ == 0) error_ = -completion.result;
      continue;
    }
    const auto tag = static_cast<uint16_t>(completion.user_data);
    const abi::Descriptor& request = descriptors_[tag];
    columns.tag[count] = tag;
    columns.op[count] = static_cast<uint8_t>(request.op_flags & 0xff);
    columns.offset[count] = static_cast<double>(request.start_sector) * kSectorBytes;
    columns.length[count] = request.sectors * kSectorBytes;
    count++;
  }
  if (count > 0) call(take_, count);
  if (is_ending_ && commands_ == 0 && !is_closed_) call(ended_, error_);
}

void Queue::call(Napi::FunctionReference& function, double argument) {
  const napi_value value = Napi::Number::New(env_, argument);
  const napi_value receiver = Napi::Object::New(env_);
  if (napi_make_callback(env_, nullptr, receiver, function.Value(), 1, &value, nullptr) == napi_ok) return;
  // Nobody has called us who could catch it.
  napi_value error;
  bool is_pending = false;
  napi_is_exception_pending(env_, &is_pending);
  if (is_pending && napi_get_and_clear_last_exception(env_, &error) == napi_ok) napi_fatal_exception(env_, error);
}

void Queue::close() {
  if (is_closed_) return;
  is_closed_ = true;
  if (handle_ != nullptr) {
    loop_.poll_stop(handle_);
    loop_.close(handle_, [](void* handle) { free(handle); });
    handle_ = nullptr;
  }
  release();
  take_.Reset();
  ended_.Reset();
  columns_kept.Reset();
  // Where the kernel still has commands it may copy into the memory until it has cancelled them: then it stays.
  if (commands_ == 0) memory_kept.Reset();
  else memory_kept.SuppressDestruct();
}

void Queue::release() {
  ring_.reset();
  if (event_fd_ >= 0) ::close(event_fd_);
  event_fd_ = -1;
  if (descriptors_ != nullptr) munmap(const_cast<abi::Descriptor*>(descriptors_), descriptors_bytes(depth_));
  descriptors_ = nullptr;
}

template <typename Element>
Element* column(const Napi::Object& columns, const char* name, napi_typedarray_type type, size_t count) {
  const Napi::Value value = columns.Get(name);
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type ||
      value.As<Napi::TypedArray>().ElementLength() < count) {
    throw coded_error(columns.Env(), "INVALID", "a column of the requests has the wrong type or length");
  }
  const auto array = value.As<Napi::TypedArray>();
  return reinterpret_cast<Element*>(static_cast<uint8_t*>(array.ArrayBuffer().Data()) + array.ByteOffset());
}

}  // namespace

void ublk_control(const Napi::CallbackInfo& info) {
  const uint32_t op = info[0].As<Napi::Number>().Uint32Value();
  abi::ControlCommand command = {};
  command.device = info[1].As<Napi::Number>().Uint32Value();
  command.queue = static_cast<uint16_t>(info[2].As<Napi::Number>().Uint32Value());
  command.data = static_cast<uint64_t>(info[3].As<Napi::Number>().Int64Value());
  std::vector<uint8_t> buffer;
  if (info[4].IsTypedArray()) {
    const auto bytes = info[4].As<Napi::Uint8Array>();
    buffer.assign(bytes.Data(), bytes.Data() + bytes.ByteLength());
  }
  auto done = callback_argument(info, 5, "ublkControl");
  run_undisturbed([op, command, buffer = std::move(buffer), done]() mutable {
    command.length = static_cast<uint16_t>(buffer.size());
    command.address = buffer.empty() ? 0 : reinterpret_cast<uint64_t>(buffer.data());
    const int result = control(op, command);
    done.BlockingCall([result, buffer = std::move(buffer)](Napi::Env env, Napi::Function function) {
      const auto bytes = Napi::Buffer<uint8_t>::Copy(env, buffer.data(), buffer.size());
      function.Call({Napi::Number::New(env, result), bytes});
    });
    done.Release();
  });
}

Napi::Value ublk_serve(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto object = info[2].As<Napi::Object>();
  const uint32_t depth = object.Get("depth").As<Napi::Number>().Uint32Value();
  if (depth < 1 || depth > kDepthMax) throw coded_error(env, "INVALID", "1 to 4096 tags are possible");
  auto queue = std::make_shared<Queue>(env, info[0].As<Napi::Number>().Int32Value(),
                                       static_cast<uint16_t>(info[1].As<Napi::Number>().Uint32Value()), depth);
  queue->columns = {
      column<uint16_t>(object, "tag", napi_uint16_array, depth),
      column<uint8_t>(object, "op", napi_uint8_array, depth),
      column<double>(object, "offsetBytes", napi_float64_array, depth),
      column<uint32_t>(object, "lengthBytes", napi_uint32_array, depth),
      column<uint16_t>(object, "commitTag", napi_uint16_array, depth),
      column<int32_t>(object, "commitResult", napi_int32_array, depth),
  };
  auto memory = info[3].As<Napi::Uint8Array>();
  queue->memory = memory.Data();
  queue->max_bytes = info[4].As<Napi::Number>().Uint32Value();
  if (queue->max_bytes < 4096 || memory.ByteLength() / queue->max_bytes < depth) {
    throw coded_error(env, "INVALID", "the memory has no room for every tag");
  }
  queue->is_encoded = info[5].ToBoolean();
  queue->take_ = Napi::Persistent(info[6].As<Napi::Function>());
  queue->ended_ = Napi::Persistent(info[7].As<Napi::Function>());
  queue->columns_kept = Napi::Persistent(object);
  queue->memory_kept = Napi::Persistent(memory.As<Napi::Object>());
  queue->start();
  Napi::Object result = Napi::Object::New(env);
  result.Set("commit", Napi::Function::New(env, [queue](const Napi::CallbackInfo& call) {
               queue->commit(call[0].As<Napi::Number>().Uint32Value());
             }));
  result.Set("close", Napi::Function::New(env, [queue](const Napi::CallbackInfo&) { queue->close(); }));
  return result;
}

}  // namespace pcache
