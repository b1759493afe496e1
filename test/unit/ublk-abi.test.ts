/** What we define of the kernel's interfaces ublk and io_uring, beside its own headers. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import {
  Attribute,
  ControlOp,
  controlNumber,
  decodeDeviceInfo,
  decodeParameters,
  DEVICE_INFO_BYTES,
  DeviceFlag,
  DeviceState,
  encodeDeviceInfo,
  encodeParameters,
  PARAMETERS_BYTES,
  RequestOp,
} from '../../src/block-device/ublk-abi.js';
import { describeWithClient } from '../support/clients.js';

const folder = mkdtempSync(join(tmpdir(), 'pcache-ublk-abi-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const INFO = {
  queues: 1,
  depth: 0x80,
  state: DeviceState.quiesced,
  maxIoBytes: 0x80000,
  id: 0x01020304,
  pid: -1,
  flags: DeviceFlag.userRecovery | DeviceFlag.userRecoveryReissue,
  serverFlags: 0x7063_0102_0304_0506n,
};
const PARAMETERS = {
  attributes: Attribute.readOnly,
  logicalBlockShift: 9,
  physicalBlockShift: 12,
  maxSectors: 1024,
  deviceSectors: 0x1_2345_6789,
  discardMaxSectors: 0x40000,
  zeroesMaxSectors: 0x4000,
};

describe('the buffers of ublk control commands', () => {
  it('decode to what was encoded', () => {
    expect(decodeDeviceInfo(encodeDeviceInfo(INFO))).toEqual(INFO);
    expect(decodeParameters(encodeParameters(PARAMETERS))).toEqual(PARAMETERS);
  });

  it('have the numbers of older drivers without direction and size', () => {
    expect(controlNumber(ControlOp.addDevice, false)).toBe(4);
    expect(controlNumber(ControlOp.addDevice, true)).toBe(0xc0207504);
    expect(controlNumber(ControlOp.getParameters, true)).toBe(0x80207509);
    expect(controlNumber(ControlOp.deleteDeviceAsync, true)).toBe(0x80207514);
  });
});

/** C++ that prints, as JSON, what the kernel's headers say. */
const PROGRAM = `
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <linux/io_uring.h>
#include <linux/ublk_cmd.h>
#include <sys/syscall.h>
#include "${fileURLToPath(new URL('../../native/src/ublk-abi.h', import.meta.url))}"
namespace abi = pcache::abi;
#define SAME(ours, theirs) static_assert((ours) == (theirs))
#define FIELD(our, ourField, their, theirField) SAME(offsetof(abi::our, ourField), offsetof(their, theirField))
SAME(sizeof(abi::RingParams), sizeof(io_uring_params));
FIELD(RingParams, features, io_uring_params, features);
FIELD(RingParams, sq, io_uring_params, sq_off);
FIELD(RingParams, cq, io_uring_params, cq_off);
FIELD(SubmissionOffsets, array, io_sqring_offsets, array);
FIELD(CompletionOffsets, entries, io_cqring_offsets, cqes);
SAME(sizeof(abi::Submission), sizeof(io_uring_sqe));
FIELD(Submission, fd, io_uring_sqe, fd);
FIELD(Submission, command_op, io_uring_sqe, cmd_op);
FIELD(Submission, user_data, io_uring_sqe, user_data);
FIELD(Submission, command, io_uring_sqe, cmd);
SAME(sizeof(abi::Completion), sizeof(io_uring_cqe));
FIELD(Completion, result, io_uring_cqe, res);
SAME(abi::kOpUringCmd, IORING_OP_URING_CMD);
SAME(abi::kSetupSqe128, IORING_SETUP_SQE128);
SAME(abi::kSetupCoopTaskrun, IORING_SETUP_COOP_TASKRUN);
SAME(abi::kFeatureSingleMmap, IORING_FEAT_SINGLE_MMAP);
SAME(abi::kEnterGetEvents, IORING_ENTER_GETEVENTS);
SAME(abi::kRegisterEventfd, IORING_REGISTER_EVENTFD);
SAME(abi::kOffsetEntries, IORING_OFF_SQES);
SAME(abi::kIoUringSetup, SYS_io_uring_setup);
SAME(abi::kIoUringEnter, SYS_io_uring_enter);
SAME(abi::kIoUringRegister, SYS_io_uring_register);
SAME(sizeof(abi::ControlCommand), 32);
FIELD(ControlCommand, queue, ublksrv_ctrl_cmd, queue_id);
FIELD(ControlCommand, length, ublksrv_ctrl_cmd, len);
FIELD(ControlCommand, address, ublksrv_ctrl_cmd, addr);
FIELD(ControlCommand, data, ublksrv_ctrl_cmd, data);
SAME(sizeof(abi::IoCommand), sizeof(ublksrv_io_cmd));
FIELD(IoCommand, tag, ublksrv_io_cmd, tag);
FIELD(IoCommand, result, ublksrv_io_cmd, result);
FIELD(IoCommand, address, ublksrv_io_cmd, addr);
SAME(sizeof(abi::Descriptor), sizeof(ublksrv_io_desc));
FIELD(Descriptor, sectors, ublksrv_io_desc, nr_sectors);
FIELD(Descriptor, start_sector, ublksrv_io_desc, start_sector);
SAME(abi::kFetchReq, UBLK_IO_FETCH_REQ);
SAME(abi::kCommitAndFetchReq, UBLK_IO_COMMIT_AND_FETCH_REQ);

template <typename Type> void print(const char* name, const Type& value, size_t bytes) {
  std::printf("\\"%s\\": \\"", name);
  for (size_t i = 0; i < bytes; i++) std::printf("%02x", reinterpret_cast<const unsigned char*>(&value)[i]);
  std::printf("\\", ");
}

int main() {
  ublksrv_ctrl_dev_info info = {};
  info.nr_hw_queues = 1;
  info.queue_depth = 0x80;
  info.state = UBLK_S_DEV_QUIESCED;
  info.max_io_buf_bytes = 0x80000;
  info.dev_id = 0x01020304;
  info.ublksrv_pid = -1;
  info.flags = UBLK_F_USER_RECOVERY | UBLK_F_USER_RECOVERY_REISSUE;
  info.ublksrv_flags = 0x7063010203040506;
  ublk_params parameters = {};
  parameters.len = offsetof(ublk_params, discard) + sizeof(ublk_param_discard);
  parameters.types = UBLK_PARAM_TYPE_BASIC | UBLK_PARAM_TYPE_DISCARD;
  parameters.discard.discard_granularity = 4096;
  parameters.discard.max_discard_sectors = 0x40000;
  parameters.discard.max_write_zeroes_sectors = 0x4000;
  parameters.discard.max_discard_segments = 1;
  parameters.basic.attrs = UBLK_ATTR_READ_ONLY;
  parameters.basic.logical_bs_shift = 9;
  parameters.basic.physical_bs_shift = parameters.basic.io_opt_shift = parameters.basic.io_min_shift = 12;
  parameters.basic.max_sectors = 1024;
  parameters.basic.dev_sectors = 0x123456789;
  std::printf("{");
  print("info", info, sizeof(info));
  print("parameters", parameters, parameters.len);
  std::printf("\\"numbers\\": [%d, %d, %d, %d, %d, %d, %d, %d, %d, %d, %d, %d, %d, %d, %d, %d]}", UBLK_CMD_GET_DEV_INFO,
              UBLK_CMD_ADD_DEV, UBLK_CMD_DEL_DEV, UBLK_CMD_START_DEV, UBLK_CMD_STOP_DEV, UBLK_CMD_SET_PARAMS,
              UBLK_CMD_GET_PARAMS, UBLK_CMD_START_USER_RECOVERY, UBLK_CMD_END_USER_RECOVERY, UBLK_IO_OP_READ,
              UBLK_IO_OP_WRITE, UBLK_IO_OP_FLUSH, UBLK_IO_OP_DISCARD, UBLK_IO_OP_WRITE_ZEROES, UBLK_ATTR_READ_ONLY,
              UBLK_S_DEV_LIVE);
}
`;

describeWithClient('the interfaces of ublk and io_uring', 'g++', () => {
  it("are those of the kernel's headers, in sizes, offsets and numbers", { timeout: 60_000 }, () => {
    const source = join(folder, 'abi.cc');
    writeFileSync(source, PROGRAM);
    const built = spawnSync('g++', ['-std=c++17', '-o', join(folder, 'abi'), source], { encoding: 'utf8' });
    expect([built.status, built.stderr]).toEqual([0, '']);
    const theirs = JSON.parse(execFileSync(join(folder, 'abi'), { encoding: 'utf8' })) as {
      info: string;
      parameters: string;
      numbers: number[];
    };
    const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
    expect(hex(encodeDeviceInfo(INFO))).toBe(theirs.info);
    expect(theirs.info.length).toBe(2 * DEVICE_INFO_BYTES);
    expect(hex(encodeParameters(PARAMETERS))).toBe(theirs.parameters);
    expect(theirs.parameters.length).toBe(2 * PARAMETERS_BYTES);
    // These two are newer than some headers.
    const { getFeatures: _, deleteDeviceAsync: __, ...ops } = ControlOp;
    const ours = [...Object.values(ops), ...Object.values(RequestOp), ...[Attribute.readOnly, DeviceState.live]];
    expect(theirs.numbers).toEqual(ours);
  });
});
