/**
 * What one simulation does: a configuration and a list of operations, both made from a seed, both plain data,
 * so that a plan that fails can be shortened, printed and pasted into a test.
 */
import type { CacheMode } from '../../src/engine/media/codecs.js';
import { SUBTREE_SECTORS } from '../../src/engine/media/geometry.js';
import { Random } from '../../src/engine/sim/random.js';
import { geometryOf, type DeviceShape } from './sim-device.js';

export interface SimConfig extends DeviceShape {
  readonly seed: number;
  readonly slots: number;
  /** Sectors of the backing device. */
  readonly sectors: number;
  readonly mode: CacheMode;
  /** Payload CRCs are checked at reads; needs data_crc. */
  readonly verifyReads: boolean;
  /** There are requests without payload, and the backing device can make holes. */
  readonly punches: boolean;
}

export type SimRequest =
  | {
      readonly op: 'read' | 'write';
      readonly sector: number;
      readonly sectors: number;
      readonly fua?: true;
      readonly preflush?: true;
    }
  | ({ readonly op: 'zero' } & WithoutPayload)
  | ({ readonly op: 'trim' } & WithoutPayload)
  | { readonly op: 'flush' };

interface WithoutPayload {
  readonly sector: number;
  readonly sectors: number;
  readonly fua?: true;
  readonly keepsSpace?: true;
}

/** `id` seeds what chance decides inside the operation; it stays when operations around it are dropped. */
export type SimOp = { readonly id: number } &
  /** `next` is submitted from within the callback that says that the last of `requests` has ended late. */
  (
    | { readonly kind: 'submit'; readonly requests: readonly SimRequest[]; readonly next?: readonly SimRequest[] }
    | { readonly kind: 'step'; readonly times: number }
    /** Ends calls under way at the backing device; `error` ends them badly, `flushError` only flushes. */
    | {
        readonly kind: 'answer';
        readonly times: number;
        readonly error?: 'IO' | 'NO_SPACE';
        readonly flushError?: 'IO' | 'NO_SPACE';
      }
    | { readonly kind: 'clock'; readonly ms: number }
    | { readonly kind: 'gcPercent'; readonly percent: number }
    /** The power goes; the process ends at once and the devices live on; an orderly close. Then a new open. */
    | { readonly kind: 'crash' | 'kill' | 'reopen'; readonly slots: number }
    /** Lets everything that was asked for end. */
    | { readonly kind: 'settle' }
    /** The cache device fails: after so many more stores and barriers, so often. */
    | { readonly kind: 'fail'; readonly after: number; readonly times: number }
    /** Payload of some dirty key goes bad on the medium. */
    | { readonly kind: 'corrupt' }
  );

export interface SimPlan {
  readonly config: SimConfig;
  readonly ops: readonly SimOp[];
}

export const GROUP_REQUESTS_MAX = 32;
/** Sectors that the requests of one group may have together. */
export const GROUP_SECTORS_MAX = 2560;

/** A cache device that fails or goes bad is for those who ask for it: `withFault`, `withCorruption`. */
type RandomKind = Exclude<SimOp['kind'], 'fail' | 'corrupt'>;

/** Everything that one seed's plan has in common. */
interface Temper {
  readonly windows: readonly { readonly start: number; readonly sectors: number }[];
  readonly weights: readonly (readonly [RandomKind, number])[];
  readonly readShare: number;
  readonly flushShare: number;
  readonly fuaShare: number;
  readonly errorShare: number;
  readonly largest: number;
  readonly busiest: number;
}

export function makePlan(seed: number): SimPlan {
  const random = new Random(seed);
  const config = makeConfig(seed, random);
  const temper = makeTemper(config, random);
  const count = random.between(60, 260);
  const ops: SimOp[] = [];
  for (let id = 1; id <= count; id++) ops.push(makeOp(id, config, temper, random));
  return config.punches ? withZeroes({ config, ops }) : { config, ops };
}

/** The plan with some of its writes as requests without payload, some of them longer. */
function withZeroes({ config, ops }: SimPlan): SimPlan {
  const random = new Random(config.seed ^ 0x02e20e5);
  const share = random.pick([0.1, 0.3, 0.6]);
  const replace = (request: SimRequest): SimRequest => {
    if (request.op !== 'write' || !random.chance(share)) return request;
    const { sector, fua } = request;
    const longer = random.chance(0.2) ? random.below(300) : 0;
    const sectors = Math.min(request.sectors + longer, config.sectors - sector);
    const keepsSpace = random.chance(0.2) ? ({ keepsSpace: true } as const) : {};
    return { op: random.chance(0.3) ? 'trim' : 'zero', sector, sectors, ...(fua ? { fua } : {}), ...keepsSpace };
  };
  return {
    config,
    ops: ops.map((op) =>
      op.kind === 'submit'
        ? { ...op, requests: op.requests.map(replace), ...(op.next ? { next: op.next.map(replace) } : {}) }
        : op,
    ),
  };
}

function makeConfig(seed: number, random: Random): SimConfig {
  const modes = new Random(seed ^ 0x0a0de5);
  const dice = modes.below(100);
  const mode = dice < 55 ? 'writeback' : dice < 70 ? 'writethrough' : dice < 85 ? 'writearound' : 'writeonly';
  const segmentBytes = 1024 * random.pick([17.5, 17.5, 20, 24, 32, 64]);
  const subtrees = random.between(1, 4);
  const shape = {
    seed,
    mode,
    segmentBytes,
    segments: segmentBytes < 65_536 ? random.between(8, 24) : random.between(8, 14),
    dataCrc: random.chance(0.4),
    gcPercent: random.pick([0, 0, 10, 40, 70, 90]),
    model: random.chance(0.6) ? 'dax' : 'page-cache',
    aged: random.chance(0.6),
    logStartBytes: random.chance(0.3) ? 0 : geometryOf({ segmentBytes }).segmentDataBytes - 8 * random.between(4, 200),
    seq: random.pick([1, 2, 126, 127, 128, 250, 253, 254, 255]),
    generation: random.pick([0, 1, 7, 2 ** 31 - 1, 2 ** 32 - 1, 2 ** 32, 2 ** 40]),
    slots: random.between(1, 3),
    sectors: subtrees * SUBTREE_SECTORS - random.pick([0, 0, 1, 777]),
  } as const;
  return { ...shape, verifyReads: shape.dataCrc && modes.chance(0.5), punches: modes.chance(0.3) };
}

function makeTemper(config: SimConfig, random: Random): Temper {
  const dataSectors = geometryOf(config).segmentDataBytes / 512;
  const windows: { start: number; sectors: number }[] = [];
  const hot = random.between(1, 4);
  for (let n = 0; n < hot; n++) {
    const sectors = random.pick([8, 32, 128, 400]);
    // Around a subtree's border, where a request becomes keys of two slots, or anywhere.
    const border = random.between(0, 3) * SUBTREE_SECTORS - Math.floor(sectors / 2);
    const start = random.chance(0.6) ? border : random.below(config.sectors);
    windows.push({ start: Math.max(0, Math.min(start, config.sectors - sectors)), sectors });
  }
  const answers = random.pick([2, 10, 25, 25, 60]);
  const steps = random.pick([5, 20, 30, 30, 60]);
  return {
    windows,
    weights: [
      ['submit', 40],
      ['step', steps],
      ['answer', answers],
      ['clock', 4],
      ['settle', random.pick([0, 0.5, 3])],
      ['crash', random.pick([0.5, 2, 6])],
      ['kill', random.pick([0, 0.5, 2])],
      ['reopen', random.pick([0, 1])],
      ['gcPercent', random.pick([0, 0, 1])],
    ],
    ...makeMix(dataSectors, random),
    errorShare: random.pick([0, 0, 0, 0.03, 0.2]),
  };
}

type Mix = Pick<Temper, 'readShare' | 'flushShare' | 'fuaShare' | 'largest' | 'busiest'>;

/** Requests of all kinds; or many small ksets; or full ones. The latter two make the log hop. */
function makeMix(dataSectors: number, random: Random): Mix {
  const readShare = random.pick([0.1, 0.35, 0.6]);
  const busiest = random.pick([1, 3, 8, GROUP_REQUESTS_MAX]);
  switch (random.below(4)) {
    case 0:
      return { readShare: 0.1, flushShare: 0.3, fuaShare: 0.9, largest: 4, busiest: 3 };
    case 1:
      return { readShare, flushShare: 0.01, fuaShare: 0.005, largest: 1, busiest: GROUP_REQUESTS_MAX };
    default: {
      const largest = random.pick([4, 16, 16, 64, 2 * dataSectors]);
      return {
        readShare,
        flushShare: random.pick([0, 0.04, 0.15]),
        fuaShare: random.pick([0, 0.1, 0.5]),
        largest,
        busiest,
      };
    }
  }
}

function makeOp(id: number, config: SimConfig, temper: Temper, random: Random): SimOp {
  const kind = weighted(temper.weights, random);
  switch (kind) {
    case 'submit':
      if (!random.chance(0.2)) return { id, kind, requests: makeRequests(config, temper, random) };
      return {
        id,
        kind,
        requests: makeRequests(config, temper, random),
        next: makeRequests(config, temper, random),
      };
    case 'step':
      return { id, kind, times: random.chance(0.2) ? random.between(1, 40) : random.between(1, 4) };
    case 'answer': {
      const times = random.chance(0.2) ? random.between(1, 20) : random.between(1, 3);
      const error = random.chance(0.8) ? 'IO' : 'NO_SPACE';
      if (random.chance(temper.errorShare)) return { id, kind, times: 1, error };
      // Flushes are far fewer than reads and writes, and what fails with them is worse.
      if (temper.errorShare > 0 && random.chance(0.5)) return { id, kind, times, flushError: error };
      return { id, kind, times };
    }
    case 'clock':
      return { id, kind, ms: random.pick([1, 50, 999, 1000, 5000]) };
    case 'gcPercent':
      return { id, kind, percent: random.below(91) };
    case 'crash':
    case 'kill':
    case 'reopen':
      return { id, kind, slots: random.chance(0.7) ? config.slots : random.between(1, 3) };
    case 'settle':
      return { id, kind };
  }
}

function weighted(weights: Temper['weights'], random: Random): RandomKind {
  let left = (weights.reduce((sum, [, weight]) => sum + weight, 0) * random.next()) / 2 ** 32;
  for (const [kind, weight] of weights) {
    if (left < weight) return kind;
    left -= weight;
  }
  return 'step';
}

function makeRequests(config: SimConfig, temper: Temper, random: Random): SimRequest[] {
  const count = random.between(1, random.chance(0.5) ? 1 : temper.busiest);
  const requests: SimRequest[] = [];
  let room = GROUP_SECTORS_MAX;
  for (let n = 0; n < count && room > 0; n++) {
    if (random.chance(temper.flushShare)) {
      requests.push({ op: 'flush' });
      continue;
    }
    const request = makeTransfer(config, temper, room, random);
    requests.push(request);
    if (request.op !== 'flush') room -= request.sectors;
  }
  return requests;
}

function makeTransfer(config: SimConfig, temper: Temper, room: number, random: Random): SimRequest {
  const cold = random.chance(0.05);
  const { start, sectors: window } = cold ? { start: 0, sectors: config.sectors } : random.pick(temper.windows);
  const huge = random.chance(0.002);
  const most = Math.min(huge ? 2048 : random.chance(0.6) ? Math.min(8, temper.largest) : temper.largest, room);
  const sectors = huge ? most : random.between(1, most);
  const sector = Math.min(start + random.below(window), config.sectors - sectors);
  if (random.chance(temper.readShare)) return { op: 'read', sector, sectors };
  const fua = random.chance(temper.fuaShare) ? ({ fua: true } as const) : {};
  const preflush = random.chance(temper.fuaShare / 3) ? ({ preflush: true } as const) : {};
  return { op: 'write', sector, sectors, ...fua, ...preflush };
}

/** The plan with a failure of the cache device somewhere in it: once, a few times in a row, or for good. */
export function withFault(plan: SimPlan): SimPlan {
  const random = new Random(plan.config.seed ^ 0x0fa17ed);
  const at = random.below(plan.ops.length);
  const times = random.pick([1, 1, 2, 1e9]);
  const fault: SimOp = { id: plan.ops.length + 1, kind: 'fail', after: random.below(40), times };
  return { config: plan.config, ops: [...plan.ops.slice(0, at), fault, ...plan.ops.slice(at)] };
}

/**
 * The plan on a cache with data_crc whose reads are verified, and in which dirty payload goes bad a few times. Zeroes are
 * written: they do not say which request they are of.
 */
export function withCorruption(plan: SimPlan): SimPlan {
  const random = new Random(plan.config.seed ^ 0x0c0bb1e);
  const written = (request: SimRequest): SimRequest =>
    request.op === 'zero' || request.op === 'trim'
      ? { op: 'write', sector: request.sector, sectors: Math.min(request.sectors, 8) }
      : request;
  const ops = plan.ops.map((op) =>
    op.kind === 'submit'
      ? { ...op, requests: op.requests.map(written), ...(op.next ? { next: op.next.map(written) } : {}) }
      : op,
  );
  for (let n = random.between(1, 4); n > 0; n--) {
    ops.splice(random.below(ops.length), 0, { id: plan.ops.length + 2 + n, kind: 'corrupt' });
  }
  return { config: { ...plan.config, dataCrc: true, verifyReads: true, punches: false }, ops };
}
