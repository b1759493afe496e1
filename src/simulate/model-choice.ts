/** The latency model that a user asks for. */
import { readFileSync } from 'node:fs';
import { fromSystemError, PcacheError } from '../engine/errors.js';
import {
  BACKING_DEPTH_MAX,
  makeModel,
  pmemOfBench,
  type BackingPreset,
  type LatencyModel,
  type PmemChoice,
} from './latency-model.js';

const NS_PER_US = 1e3;
const BYTES_PER_MB = 1e6;

/** What is undefined is as the preset has it. */
export interface ModelChoice {
  readonly preset: BackingPreset;
  readonly backingReadUs: number | undefined;
  readonly backingWriteUs: number | undefined;
  readonly backingFlushUs: number | undefined;
  readonly backingSeekUs: number | undefined;
  readonly backingShortSeekUs: number | undefined;
  readonly backingMbPerSecond: number | undefined;
  readonly backingDepth: number | undefined;
  readonly pmemReadNs: number | undefined;
  readonly pmemWriteNs: number | undefined;
  /** Files of `pcache bench --json`; what is given above goes before what they say. */
  readonly pmemBenches: readonly string[];
}

/** @throws PcacheError USAGE for what makes no model, and what reading a file throws */
export function modelOf(choice: ModelChoice): LatencyModel {
  const { backingDepth: depth, pmemReadNs: readNs, pmemWriteNs: writeNs, backingMbPerSecond } = choice;
  if (depth !== undefined && depth > BACKING_DEPTH_MAX) {
    throw new PcacheError('USAGE', `--backing-depth ${depth}: at most ${BACKING_DEPTH_MAX}`);
  }
  const ns = (us: number | undefined) => (us === undefined ? undefined : us * NS_PER_US);
  let pmem: PmemChoice = {};
  for (const path of choice.pmemBenches) pmem = { ...pmem, ...pmemOfBench(readText(path), path) };
  if (readNs !== undefined) pmem = { ...pmem, readNs };
  if (writeNs !== undefined) pmem = { ...pmem, writeNs };
  const model = makeModel(choice.preset, pmem, {
    readNs: ns(choice.backingReadUs),
    writeNs: ns(choice.backingWriteUs),
    flushNs: ns(choice.backingFlushUs),
    seekNs: ns(choice.backingSeekUs),
    shortSeekNs: ns(choice.backingShortSeekUs),
    bytesPerSecond: backingMbPerSecond === undefined ? undefined : backingMbPerSecond * BYTES_PER_MB,
    depth,
  });
  if (model.backing.shortSeekNs > model.backing.seekNs) {
    const averageUs = model.backing.seekNs / NS_PER_US;
    throw new PcacheError(
      'USAGE',
      `--backing-short-seek-us ${choice.backingShortSeekUs}: above the average seek, ${averageUs} µs`,
    );
  }
  return model;
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw fromSystemError(error, path, 'reading the measurement');
  }
}
