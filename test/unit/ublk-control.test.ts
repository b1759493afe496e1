/** Which control commands the ublk driver is sent, with a driver that a test plays. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { ControlOp, controlNumber } from '../../src/block-device/ublk-abi.js';
import { UblkDriver } from '../../src/block-device/ublk-control.js';
import { nativeAddon } from '../../src/engine/device/native.js';

const EOPNOTSUPP = 95;
const ENODEV = 19;
const DELETE = controlNumber(ControlOp.deleteDevice, true);
const DELETE_ASYNC = controlNumber(ControlOp.deleteDeviceAsync, true);

let sent: number[];
/** What the driver answers to a command; 0 if not given. */
let answers: Record<number, number>;

beforeEach(() => {
  sent = [];
  answers = {};
  vi.spyOn(UblkDriver, 'isPresent').mockReturnValue(true);
  vi.spyOn(nativeAddon(), 'ublkControl').mockImplementation((number, _id, _queue, _data, buffer, done) => {
    sent.push(number);
    setImmediate(() => done(answers[number] ?? 0, buffer ?? new Uint8Array()));
  });
});
afterEach(() => vi.restoreAllMocks());

async function deleteUsed(): Promise<number[]> {
  const driver = await UblkDriver.open();
  sent = [];
  await driver.deleteUsed(3);
  return sent;
}

it('a used device is removed by the command that does not wait for its users', async () => {
  expect(await deleteUsed()).toEqual([DELETE_ASYNC]);
});

it('a used device is removed by the older command where the driver does not know the newer', async () => {
  answers = { [DELETE_ASYNC]: -EOPNOTSUPP };
  expect(await deleteUsed()).toEqual([DELETE_ASYNC, DELETE]);
});

it('a device that is gone already needs no removal', async () => {
  answers = { [DELETE_ASYNC]: -ENODEV };
  expect(await deleteUsed()).toEqual([DELETE_ASYNC]);
});

it('a process that may not use io_uring or the driver is told what to check', async () => {
  answers = { [controlNumber(ControlOp.getFeatures, true)]: -1 };
  await expect(UblkDriver.open()).rejects.toMatchObject({
    code: 'UNSUPPORTED',
    message: expect.stringContaining(
      'run it as root (CAP_SYS_ADMIN), check the sysctl kernel.io_uring_disabled',
    ) as string,
  });
});
