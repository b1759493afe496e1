/** The small parts of the NBD server, each by itself. */
import { describe, expect, it } from 'vitest';
import { allocationOf } from '../../src/nbd/allocation.js';
import { whyRefused } from '../../src/nbd/checks.js';
import { DirtyAge } from '../../src/nbd/dirty-age.js';
import { Histogram, percentileNs, snapshotCount, snapshotSince } from '../../src/nbd/histogram.js';
import { greeting, Negotiation, type NegotiationOptions } from '../../src/nbd/negotiation.js';
import {
  Command,
  CommandFlag,
  Info,
  Option,
  OptionReply,
  PAYLOAD_MAX_BYTES,
  TransmissionFlag,
} from '../../src/nbd/protocol.js';
import { ReceiveWindows, WINDOW_BYTES, WINDOWS_BYTES } from '../../src/nbd/receive-windows.js';
import { ReplyRing } from '../../src/nbd/reply-ring.js';
import { CLIENT_FLAGS, GO, optionBytes } from '../nbd/client.js';

describe('the reply ring', () => {
  it('hands out regions that follow one another, wraps, and tells full from empty', () => {
    const ring = new ReplyRing(1000, 100);
    const [a, b, c] = [ring.take(40), ring.take(40), ring.take(20)];
    expect([a, b, c].map((region) => ring.startOf(region))).toEqual([1000, 1040, 1080]);
    expect(ring.take(1)).toBe(-1);
    ring.release(b);
    expect(ring.take(1)).toBe(-1); // the oldest is still in use
    ring.release(a);
    const d = ring.take(80);
    expect(ring.startOf(d)).toBe(1000);
    expect(ring.take(1)).toBe(-1);
    ring.release(c, d);
    expect(ring.isEmpty).toBe(true);
    expect(ring.take(101)).toBe(-1);
    expect(ring.startOf(ring.take(100))).toBe(1000);
  });

  it('does not give the end away that a wrapped region would need in one piece', () => {
    const ring = new ReplyRing(0, 100);
    const first = ring.take(30);
    ring.take(50);
    ring.release(first);
    expect(ring.startOf(ring.take(25))).toBe(0); // 20 bytes are left at the end
    expect(ring.take(10)).toBe(-1);
    expect(ring.startOf(ring.take(5))).toBe(25);
  });

  it('asserts on a second release', () => {
    const ring = new ReplyRing(0, 100);
    const region = ring.take(10);
    ring.take(10);
    ring.release(region);
    ring.take(10);
    expect(() => ring.release(region + 1, region + 1)).not.toThrow();
    expect(() => ring.release(region + 1, region + 1)).toThrow('released twice');
  });
});

describe('receive windows', () => {
  const make = () => new ReceiveWindows(new Uint8Array(WINDOWS_BYTES), 0);

  it('go back to the front when everything is parsed', () => {
    const windows = make();
    windows.start = windows.end = 5000;
    expect(windows.makeRoom(28)).toBe(true);
    expect([windows.start, windows.end]).toEqual([0, 0]);
  });

  it('take the beginning of the next request to the front, when no payload lies in the window', () => {
    const memory = new Uint8Array(WINDOWS_BYTES);
    const windows = new ReceiveWindows(memory, 0);
    windows.start = 5000;
    windows.end = 5002;
    memory.set([7, 8], windows.start);
    windows.pin(0);
    expect([windows.makeRoom(28), windows.start]).toEqual([true, 5000]);
    windows.unpin(0);
    expect([windows.makeRoom(28), windows.start, windows.end]).toEqual([true, 0, 2]);
    expect([...memory.subarray(0, 2)]).toEqual([7, 8]);
  });

  it('leave a window that a payload lies in, with what is not parsed yet', () => {
    const memory = new Uint8Array(WINDOWS_BYTES);
    const windows = new ReceiveWindows(memory, 0);
    windows.start = WINDOW_BYTES - 1000;
    windows.end = WINDOW_BYTES - 998;
    memory.set([7, 8], windows.start);
    windows.pin(0);
    expect(windows.makeRoom(28)).toBe(true);
    expect([windows.current, windows.start, windows.end]).toEqual([1, WINDOW_BYTES, WINDOW_BYTES + 2]);
    expect([...memory.subarray(windows.start, windows.end)]).toEqual([7, 8]);
  });

  it('refuse when all are in use, and go on when one is free', () => {
    const windows = make();
    for (let window = 0; window < 4; window++) windows.pin(window);
    windows.start = windows.end = WINDOW_BYTES;
    expect(windows.makeRoom(28)).toBe(false);
    windows.unpin(2);
    expect(windows.makeRoom(28)).toBe(true);
    expect(windows.current).toBe(2);
    expect(() => windows.unpin(2)).toThrow('more often');
  });

  it('make room for a whole window only at its front', () => {
    const windows = make();
    windows.start = 28;
    windows.end = 100;
    expect(windows.makeRoom(WINDOW_BYTES)).toBe(true);
    expect([windows.start, windows.end]).toEqual([0, 72]);
  });
});

describe('the histogram', () => {
  it('knows percentiles to 6 % over the whole range', () => {
    for (const value of [1, 15, 31, 32, 33, 1000, 123_456, 7e6, 3e9, 5e11]) {
      const histogram = new Histogram();
      histogram.record(value, 3);
      const snapshot = histogram.snapshot();
      expect(snapshotCount(snapshot)).toBe(3);
      expect(percentileNs(snapshot, 50)).toBeGreaterThanOrEqual(value);
      expect(percentileNs(snapshot, 50)).toBeLessThanOrEqual(value * 1.0625);
    }
  });

  it('tells what came after an earlier look', () => {
    const histogram = new Histogram();
    for (let n = 0; n < 99; n++) histogram.record(100);
    const earlier = histogram.snapshot();
    histogram.record(10_000);
    expect(percentileNs(histogram.snapshot(), 99)).toBeLessThan(110);
    const since = snapshotSince(histogram.snapshot(), earlier);
    expect(snapshotCount(since)).toBe(1);
    expect(percentileNs(since, 50)).toBeGreaterThan(9999);
    expect(percentileNs([], 50)).toBe(0);
  });
});

describe('a request is refused', () => {
  const writable = { sizeBytes: 1 << 20, isReadOnly: false };
  it.each([
    ['a read within', Command.read, 0, 0, 1 << 20, undefined],
    ['a read with FUA', Command.read, CommandFlag.fua, 0, 512, undefined],
    ['a read beyond', Command.read, 0, 512, 1 << 20, 22],
    ['a write beyond', Command.write, 0, 512, 1 << 20, 28],
    ['zeroes beyond', Command.writeZeroes, 0, 512, 1 << 20, 28],
    ['an odd offset', Command.read, 0, 1, 512, 22],
    ['an odd length', Command.write, 0, 0, 513, 22],
    ['nothing', Command.cache, 0, 0, 0, 22],
    ['a trim', Command.trim, 0, 0, 512, undefined],
    ['a trim beyond', Command.trim, 0, 512, 1 << 20, 22],
    ['a trim with NO_HOLE', Command.trim, CommandFlag.noHole, 0, 512, 22],
    ['fast zeroes', Command.writeZeroes, CommandFlag.fastZero, 0, 512, 95],
    ['zeroes with NO_HOLE', Command.writeZeroes, CommandFlag.noHole, 0, 512, undefined],
    ['a write with DF', Command.write, CommandFlag.dontFragment, 0, 512, 22],
    ['a flush', Command.flush, 0, 0, 0, undefined],
    ['a flush with a length', Command.flush, 0, 0, 512, 22],
  ])('%s', (_, command, flags, offset, length, error) => {
    expect(whyRefused(writable, command, flags, offset, length)?.error).toBe(error);
  });

  it('that writes to what is read-only, or that is longer than a payload may be', () => {
    const readOnly = { sizeBytes: 1 << 20, isReadOnly: true };
    expect(whyRefused(readOnly, Command.write, 0, 0, 512)?.error).toBe(1);
    expect(whyRefused(readOnly, Command.writeZeroes, 0, 0, 512)?.error).toBe(1);
    expect(whyRefused(readOnly, Command.trim, 0, 0, 512)?.error).toBe(1);
    expect(whyRefused(readOnly, Command.flush, 0, 0, 0)).toBeUndefined();
    const large = { sizeBytes: 2 ** 40, isReadOnly: false };
    expect(whyRefused(large, Command.read, 0, 0, PAYLOAD_MAX_BYTES)).toBeUndefined();
    expect(whyRefused(large, Command.read, 0, 0, PAYLOAD_MAX_BYTES + 512)?.error).toBe(22);
    expect(whyRefused(large, Command.writeZeroes, 0, 0, 2 ** 31)).toBeUndefined();
  });
});

it('fast zeroes are taken only where the store says that they are fast', () => {
  const exported = { sizeBytes: 1 << 20, isReadOnly: false, zeroesFast: (offset: number) => offset >= 4096 };
  expect(whyRefused(exported, Command.writeZeroes, CommandFlag.fastZero, 0, 512)?.error).toBe(95);
  expect(whyRefused(exported, Command.writeZeroes, CommandFlag.fastZero, 4096, 512)).toBeUndefined();
});

/** Runs client bytes through a negotiation, in pieces of `size`. @returns its replies as `option:type`, and the outcome */
function negotiate(bytes: Uint8Array, size: number, more: Partial<NegotiationOptions> = {}) {
  const sent: Uint8Array[] = [];
  const base = { sizeBytes: 3 * 2 ** 33, isReadOnly: false, description: 'd', tls: 'none', flags: undefined } as const;
  const negotiation = new Negotiation({ ...base, send: (piece) => sent.push(piece), ...more });
  let outcome = negotiation.take(new Uint8Array(0));
  for (let at = 0; at < bytes.length && outcome.kind === 'more'; at += size) {
    outcome = negotiation.take(bytes.subarray(at, at + size));
  }
  const replies = Buffer.concat(sent);
  const list: { option: number; type: number; data: Buffer }[] = [];
  for (let at = 0; at + 20 <= replies.length && replies.readUInt32BE(at) === 0x0003e889;) {
    const end = at + 20 + replies.readUInt32BE(at + 16);
    list.push({
      option: replies.readUInt32BE(at + 8),
      type: replies.readUInt32BE(at + 12),
      data: replies.subarray(at + 20, end),
    });
    at = end;
  }
  return { outcome, list, replies };
}

describe('negotiation', () => {
  it.each([1, 7, 100_000])('goes with what the client asked for, in pieces of %i bytes', (size) => {
    expect(Buffer.from(greeting()).toString('latin1')).toBe('NBDMAGICIHAVEOPT\x00\x03');
    const go = optionBytes(Option.go, Buffer.from([0, 0, 0, 0, 0, 2, 0, 1, 0, 2]));
    const bytes = Buffer.concat([CLIENT_FLAGS, optionBytes(Option.list), optionBytes(Option.structuredReply), go]);
    const { outcome, list } = negotiate(bytes, size);
    expect(outcome).toMatchObject({ kind: 'ready', isStructured: true });
    expect(list.map(({ option, type }) => [option, type])).toEqual([
      [Option.list, OptionReply.server],
      [Option.list, OptionReply.ack],
      [Option.structuredReply, OptionReply.ack],
      [Option.go, OptionReply.info],
      [Option.go, OptionReply.info],
      [Option.go, OptionReply.info],
      [Option.go, OptionReply.info],
      [Option.go, OptionReply.ack],
    ]);
    const infos = list.filter(({ type }) => type === OptionReply.info).map(({ data }) => data);
    expect(infos.map((data) => data.readUInt16BE(0))).toEqual([
      Info.export,
      Info.blockSize,
      Info.name,
      Info.description,
    ]);
    expect(infos[0].readBigUInt64BE(2)).toBe(3n * 2n ** 33n);
    expect(infos[0].readUInt16BE(10) & TransmissionFlag.sendDontFragment).not.toBe(0);
    expect([2, 6, 10].map((at) => infos[1].readUInt32BE(at))).toEqual([512, 4096, PAYLOAD_MAX_BYTES]);
  });

  it('accepts every export name, unless one is given: then others are refused', () => {
    const goFor = (name: string) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(name.length);
      return Buffer.concat([
        CLIENT_FLAGS,
        optionBytes(Option.go, Buffer.concat([length, Buffer.from(name), Buffer.alloc(2)])),
      ]);
    };
    for (const name of ['', 'export', 'x'.repeat(4096)])
      expect(negotiate(goFor(name), 1 << 20).outcome.kind).toBe('ready');
    const named = { exportName: 'disk' };
    expect(negotiate(goFor('disk'), 1 << 20, named).outcome.kind).toBe('ready');
    const { outcome, list } = negotiate(goFor('other'), 1 << 20, named);
    expect([outcome.kind, list[0].type]).toEqual(['more', OptionReply.unknown]);
    const listed = negotiate(Buffer.concat([CLIENT_FLAGS, optionBytes(Option.list)]), 1 << 20, named).list[0].data;
    expect(listed.toString()).toBe('\0\0\0\x04disk');
    const old = (name: string) => Buffer.concat([CLIENT_FLAGS, optionBytes(Option.exportName, Buffer.from(name))]);
    expect(negotiate(old('disk'), 1 << 20, named).outcome.kind).toBe('ready');
    expect(negotiate(old('other'), 1 << 20, named).outcome.kind).toBe('broken');
    expect(negotiate(old('other'), 1 << 20).outcome.kind).toBe('ready');
  });

  it('drops a client after 64 options, however long their data are', () => {
    for (const bytes of [0, 9000]) {
      const one = optionBytes(99, Buffer.alloc(bytes));
      const { outcome, list } = negotiate(Buffer.concat([CLIENT_FLAGS, ...Array<Buffer>(100).fill(one)]), 1 << 16);
      expect([outcome, list.length]).toEqual([{ kind: 'broken', what: 'too many options' }, 64]);
    }
  });

  it('hands on what comes right behind', () => {
    const { outcome } = negotiate(Buffer.concat([CLIENT_FLAGS, GO, Buffer.from('next')]), 1000);
    expect(outcome).toMatchObject({ kind: 'ready', isStructured: false, rest: Buffer.from('next') });
  });

  it('the old way has no reply header, and zeroes only for who wants them', () => {
    const name = optionBytes(Option.exportName);
    expect(negotiate(Buffer.concat([CLIENT_FLAGS, name]), 1000).replies.length).toBe(10);
    const { replies, outcome } = negotiate(Buffer.concat([Buffer.from([0, 0, 0, 1]), name]), 1000);
    expect([replies.length, outcome.kind, replies.readUInt16BE(8)]).toEqual([134, 'ready', 0x56d | (1 << 11)]);
    expect(negotiate(Buffer.concat([CLIENT_FLAGS, name]), 1000, { isReadOnly: true }).replies.readUInt16BE(8)).toBe(
      0x107,
    );
  });

  it.each([
    ['an unknown option', optionBytes(99), OptionReply.unsupported],
    ['a name longer than its data', optionBytes(Option.info, Buffer.from([0, 0, 0, 9, 65, 0, 0])), OptionReply.invalid],
    ['data where there are none', optionBytes(Option.list, Buffer.from('x')), OptionReply.invalid],
    ['TLS where there is none', optionBytes(Option.startTls), OptionReply.policy],
    ['data of 9000 bytes', optionBytes(Option.info, Buffer.alloc(9000)), OptionReply.tooBig],
    ['data of 900000 bytes', optionBytes(Option.info, Buffer.alloc(900_000)), OptionReply.tooBig],
  ])('answers %s, and goes on', (_, option, type) => {
    for (const size of [13, 1 << 20]) {
      const { outcome, list } = negotiate(Buffer.concat([CLIENT_FLAGS, option, GO]), size);
      expect(outcome.kind).toBe('ready');
      expect(list[0].type).toBe(type);
    }
  });

  it('grants extended headers, which take the place of structured replies and of EXPORT_NAME', () => {
    const [extended, structured] = [optionBytes(Option.extendedHeaders), optionBytes(Option.structuredReply)];
    const { outcome, list } = negotiate(Buffer.concat([CLIENT_FLAGS, structured, extended, structured, GO]), 1000);
    expect(outcome).toMatchObject({ kind: 'ready', isStructured: true, isExtended: true });
    const types = [OptionReply.ack, OptionReply.ack, OptionReply.extendedHeadersRequired];
    expect(list.slice(0, 3).map(({ type }) => type)).toEqual(types);
    const old = negotiate(Buffer.concat([CLIENT_FLAGS, extended, optionBytes(Option.exportName)]), 1000);
    expect(old.outcome.kind).toBe('broken');
    const withData = negotiate(
      Buffer.concat([CLIENT_FLAGS, optionBytes(Option.extendedHeaders, Buffer.from('x'))]),
      1000,
    );
    expect(withData.list[0].type).toBe(OptionReply.invalid);
  });

  it('with TLS required says nothing before, and needs no flags after', () => {
    const required = { tls: 'required' } as const;
    const { outcome, list } = negotiate(
      Buffer.concat([CLIENT_FLAGS, GO, optionBytes(Option.startTls)]),
      1000,
      required,
    );
    expect(list.map(({ type }) => type)).toEqual([OptionReply.tlsRequired, OptionReply.ack]);
    expect(outcome).toEqual({ kind: 'tls', flags: 3 });
    expect(negotiate(GO, 1000, { tls: 'established', flags: 3 }).outcome.kind).toBe('ready');
    expect(negotiate(Buffer.concat([CLIENT_FLAGS, optionBytes(Option.abort)]), 1000, required).outcome.kind).toBe(
      'abort',
    );
  });
});

describe('the age of dirty data', () => {
  it('is that of the oldest kset that is not durable, to within the time between two looks', () => {
    const age = new DirtyAge(0);
    expect(age.ageMs({ oldest: 1, newest: 0 }, 100)).toBeNull();
    age.look({ oldest: 1, newest: 1 }, 200);
    age.look({ oldest: 1, newest: 5 }, 700);
    expect(age.ageMs({ oldest: 1, newest: 5 }, 1000)).toBe(800);
    expect(age.ageMs({ oldest: 2, newest: 6 }, 1100)).toBe(400);
    expect(age.ageMs({ oldest: 6, newest: 6 }, 1200)).toBe(100);
    expect(age.ageMs({ oldest: 7, newest: 6 }, 1300)).toBeNull();
    expect(age.ageMs({ oldest: 7, newest: 7 }, 2000)).toBe(0);
  });

  it('counts from the opening for what was dirty then', () => {
    const age = new DirtyAge(50);
    age.look({ oldest: -3, newest: 2 }, 500);
    expect(age.ageMs({ oldest: -1, newest: 2 }, 1000)).toBe(950);
    expect(age.ageMs({ oldest: 1, newest: 2 }, 1000)).toBe(500);
  });

  it('never seems younger however often it was looked at', () => {
    const age = new DirtyAge(0);
    for (let kset = 1; kset <= 20_000; kset++) age.look({ oldest: 1, newest: kset }, kset);
    for (const oldest of [1, 100, 5_000, 19_999, 20_000]) {
      const ageMs = age.ageMs({ oldest, newest: 20_000 }, 20_000)!;
      expect(ageMs).toBeGreaterThanOrEqual(20_000 - oldest);
    }
  });
});

describe('base:allocation', () => {
  const backing = (...extents: [endBytes: number, isHole: 0 | 1][]) => ({
    endBytes: Float64Array.from(extents, ([end]) => end),
    isHole: Uint8Array.from(extents, ([, isHole]) => isHole),
    count: extents.length,
  });
  const holes = (cached: number[], ...extents: [number, 0 | 1][]) =>
    allocationOf(4096, { bounds: cached, endBytes: 65536 }, backing(...extents), 256);

  it('is a hole only where the backing device has one and the cache holds nothing', () => {
    expect(holes([], [65536, 1])).toEqual([61440, 3]);
    expect(holes([], [65536, 0])).toEqual([61440, 0]);
    expect(holes([4096, 65536], [65536, 1])).toEqual([61440, 0]);
    expect(holes([8192, 12288, 20480, 24576], [65536, 1])).toEqual([4096, 3, 4096, 0, 8192, 3, 4096, 0, 40960, 3]);
    expect(holes([8192, 12288], [12288, 1], [16384, 0], [65536, 1])).toEqual([4096, 3, 8192, 0, 49152, 3]);
  });

  it('takes a sector with any data in it for data', () => {
    expect(holes([], [8000, 1], [9000, 0], [65536, 1])).toEqual([3584, 3, 1536, 0, 56320, 3]);
  });

  it('reaches as far as it was found out, and as many extents as it may have', () => {
    expect(holes([], [16384, 1])).toEqual([12288, 3]);
    const cached = { bounds: [8192, 12288], endBytes: 65536 };
    expect(allocationOf(4096, cached, backing([65536, 1]), 1)).toEqual([4096, 3]);
    expect(allocationOf(4096, { bounds: [8192, 12288], endBytes: 12288 }, backing([65536, 1]), 256)).toEqual([
      4096, 3, 4096, 0,
    ]);
  });

  const question = (name: string, ...queries: string[]) => {
    const text = (value: string) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(Buffer.byteLength(value));
      return Buffer.concat([length, Buffer.from(value)]);
    };
    const count = Buffer.alloc(4);
    count.writeUInt32BE(queries.length);
    return Buffer.concat([text(name), count, ...queries.map(text)]);
  };
  const STRUCTURED = optionBytes(Option.structuredReply);
  const set = (...args: Parameters<typeof question>) => optionBytes(Option.setMetaContext, question(...args));
  const agreed = (...options: Uint8Array[]) => negotiate(Buffer.concat([CLIENT_FLAGS, ...options, GO]), 7);

  it('is negotiated for the export that the client goes to, after structured replies', () => {
    const { outcome, list: replies } = agreed(STRUCTURED, set('', 'qemu:x', 'base:allocation'));
    expect(outcome).toMatchObject({ kind: 'ready', hasAllocation: true });
    const context = replies.filter(({ option }) => option === Option.setMetaContext);
    expect(context.map(({ type }) => type)).toEqual([OptionReply.metaContext, OptionReply.ack]);
    expect(context[0].data.toString('latin1')).toBe('\0\0\0\x01base:allocation');
    for (const options of [
      [set('', 'base:allocation')],
      [STRUCTURED, set('other', 'base:allocation')],
      [STRUCTURED, set('', 'base:')],
      [STRUCTURED, set('', 'base:allocation'), set('')],
      [STRUCTURED, optionBytes(Option.listMetaContext, question('', 'base:allocation'))],
    ]) {
      expect(agreed(...options).outcome).toMatchObject({ kind: 'ready', hasAllocation: false });
    }
  });

  it('is listed, and a question with wrong lengths is refused', () => {
    for (const queries of [[], ['base:'], ['base:allocation']]) {
      const { list: replies } = agreed(STRUCTURED, optionBytes(Option.listMetaContext, question('', ...queries)));
      expect(replies.some(({ type }) => type === OptionReply.metaContext)).toBe(true);
    }
    const good = question('', 'base:allocation');
    const many = Buffer.from(good);
    many.writeUInt32BE(0xffffffff, 4);
    for (const bad of [good.subarray(0, -1), Buffer.concat([good, good]), many, Buffer.alloc(3)]) {
      const { list: replies } = agreed(STRUCTURED, optionBytes(Option.setMetaContext, bad));
      expect(replies.find(({ option }) => option === Option.setMetaContext)?.type).toBe(OptionReply.invalid);
    }
  });

  it('cannot be asked for without having been negotiated', () => {
    const sizes = { sizeBytes: 65536, isReadOnly: true };
    expect(whyRefused(sizes, Command.blockStatus, 0, 0, 4096)?.error).toBe(22);
    expect(whyRefused({ ...sizes, hasAllocation: true }, Command.blockStatus, 8, 0, 4096)).toBeUndefined();
    expect(whyRefused({ ...sizes, hasAllocation: true }, Command.blockStatus, 0, 0, 131072)?.error).toBe(22);
  });
});
