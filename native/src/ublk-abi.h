// What is used of two interfaces of the kernel. They are defined here because the headers of the machine that compiles
// may be older than the kernel that runs. test/unit/ublk-abi.test.ts compares them with the headers where there are any.
//
// io_uring (Linux 5.19 and later): io_uring_setup, io_uring_enter, io_uring_register (an eventfd only); one mapping for
// both rings, entries of 64 or 128 bytes, and of all operations IORING_OP_URING_CMD.
//
// ublk (Linux 6.0 and later): control commands on /dev/ublk-control, in entries of 128 bytes; their buffers (device
// info, parameters, features) are encoded in src/block-device/ublk-abi.ts. On /dev/ublkcN the commands FETCH_REQ and
// COMMIT_AND_FETCH_REQ, in entries of 64 bytes, and the request descriptors of queue 0, mapped read-only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace pcache::abi {

// System calls, the same on all architectures.
constexpr long kIoUringSetup = 425, kIoUringEnter = 426, kIoUringRegister = 427;

constexpr uint32_t kSetupCoopTaskrun = 1u << 8, kSetupSqe128 = 1u << 10;
constexpr uint32_t kFeatureSingleMmap = 1u << 0;
constexpr uint32_t kEnterGetEvents = 1u << 0;
constexpr uint32_t kRegisterEventfd = 4;
constexpr int64_t kOffsetRings = 0, kOffsetEntries = 0x10000000;
constexpr uint8_t kOpUringCmd = 46;

struct SubmissionOffsets {
  uint32_t head, tail, ring_mask, ring_entries, flags, dropped, array, reserved;
  uint64_t user_address;
};
struct CompletionOffsets {
  uint32_t head, tail, ring_mask, ring_entries, overflow, entries, flags, reserved;
  uint64_t user_address;
};
struct RingParams {
  uint32_t sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd, reserved[3];
  SubmissionOffsets sq;
  CompletionOffsets cq;
};
static_assert(sizeof(RingParams) == 120);

// A submission entry as IORING_OP_URING_CMD has it; the command begins at byte 48 and has 16 or 80 bytes.
struct Submission {
  uint8_t opcode, flags;
  uint16_t io_priority;
  int32_t fd;
  uint32_t command_op, padding;
  uint64_t address;
  uint32_t length, command_flags;
  uint64_t user_data;
  uint8_t unused[8];
  uint8_t command[16];
};
static_assert(sizeof(Submission) == 64 && offsetof(Submission, command) == 48 && offsetof(Submission, user_data) == 32);

// Puts a command into an entry of 64 bytes (16 bytes of command) or 128 (80 bytes).
template <typename Command>
void place(Submission* entry, const Command& command) {
  memcpy(reinterpret_cast<uint8_t*>(entry) + offsetof(Submission, command), &command, sizeof(command));
}

struct Completion {
  uint64_t user_data;
  int32_t result;
  uint32_t flags;
};
static_assert(sizeof(Completion) == 16);

// ublksrv_ctrl_cmd
struct ControlCommand {
  uint32_t device;
  uint16_t queue;  // 0xffff: none
  uint16_t length;
  uint64_t address;
  uint64_t data;
  uint16_t path_length, padding;
  uint32_t reserved;
};
static_assert(sizeof(ControlCommand) == 32 && offsetof(ControlCommand, address) == 8 && offsetof(ControlCommand, data) == 16);

// ublksrv_io_cmd
struct IoCommand {
  uint16_t queue, tag;
  int32_t result;
  uint64_t address;
};
static_assert(sizeof(IoCommand) == 16 && offsetof(IoCommand, address) == 8);

// ublksrv_io_desc
struct Descriptor {
  uint32_t op_flags;  // operation in bits 0 to 7
  uint32_t sectors;
  uint64_t start_sector;
  uint64_t address;
};
static_assert(sizeof(Descriptor) == 24 && offsetof(Descriptor, start_sector) == 8);

constexpr uint32_t kFetchReq = 0x20, kCommitAndFetchReq = 0x21;
// Direction, size and type that numbers of commands on requests have from Linux 6.4 on: _IOWR('u', number, 16 bytes).
constexpr uint32_t kIoCommandEncoding = 0xc0107500;

}  // namespace pcache::abi
