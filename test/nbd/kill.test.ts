/**
 * The server is killed (SIGKILL) at random while clients write, flush and write with FUA: after a restart every
 * sector holds what was last made durable before, or something newer that was written to it. What is lost with
 * the process is its memory; the page cache stays.
 *
 * PCACHE_NBD_KILLS=N kills that often; PCACHE_NBD_KILL_SEED=N does it otherwise.
 */
import { rmSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { Random } from '../../src/engine/sim/random.js';
import { runCli } from '../support/cli.js';
import { makeImageFolder } from '../support/kernel.js';
import { casesOf, countOf } from '../support/long.js';
import { attach, killAll, makeDevices } from './attached.js';
import { NbdClient } from './client.js';

const KILLS = Number(process.env['PCACHE_NBD_KILLS'] ?? countOf({ share: 2, all: 6 }));
const SEED = Number(process.env['PCACHE_NBD_KILL_SEED'] ?? 1);
const MIB = 1024 * 1024;
const SECTOR = 512;
const DEVICE_BYTES = 128 * MIB;
const SECTORS = DEVICE_BYTES / SECTOR;
const WRITERS = 3;
const DEPTH = 12;
const SECTORS_MAX = 64;

const folder = makeImageFolder();
afterEach(killAll);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What is known of each sector: versions count its writes; 0 is as it was at first. */
class Ledger {
  readonly issued = new Uint32Array(SECTORS);
  readonly acknowledged = new Uint32Array(SECTORS);
  readonly durable = new Uint32Array(SECTORS);

  /** A write of the next version of each sector. */
  issue(sector: number, sectors: number): Buffer {
    const data = Buffer.alloc(sectors * SECTOR);
    for (let n = 0; n < sectors; n++) {
      const version = ++this.issued[sector + n];
      for (let at = n * SECTOR; at < (n + 1) * SECTOR; at += 8) {
        data.writeUInt32LE(sector + n, at);
        data.writeUInt32LE(version, at + 4);
      }
    }
    return data;
  }

  /** @returns versions that `data` holds of each sector. */
  versions(sector: number, data: Buffer): number[] {
    return Array.from({ length: data.length / SECTOR }, (_, n) => {
      const at = n * SECTOR;
      const version = data.readUInt32LE(at + 4);
      for (let k = at; k < at + SECTOR; k += 8) {
        const isWhole = data.readUInt32LE(k + 4) === version && data.readUInt32LE(k) === (version && sector + n);
        if (!isWhole) throw new Error(`sector ${sector + n} is torn or holds something else`);
      }
      return version;
    });
  }
}

/** One of them at a time: either would hide that the other is broken, since both put open keys into the log. */
interface Mix {
  readonly flushPercent: number;
  readonly fuaPercent: number;
}
const MIXES: readonly Mix[] = [
  { flushPercent: 4, fuaPercent: 0 },
  { flushPercent: 0, fuaPercent: 4 },
];
const READ_PERCENT = 20;

/** Works on the sectors that are `writer` modulo the number of writers in groups, until the server is gone. */
async function work(client: NbdClient, ledger: Ledger, writer: number, random: Random, mix: Mix): Promise<void> {
  const busy = new Set<number>(); // two writes of a sector at a time could end in either order
  const acknowledge = (sector: number, sectors: number, data: Buffer, isDurable: boolean) => {
    for (let n = 0; n < sectors; n++) {
      const version = data.readUInt32LE(n * SECTOR + 4);
      ledger.acknowledged[sector + n] = version;
      if (isDurable) ledger.durable[sector + n] = version;
    }
  };
  const one = async () => {
    for (;;) {
      const dice = random.below(100);
      if (dice < mix.flushPercent) {
        const before = ledger.acknowledged.slice();
        await client.flush();
        for (let n = 0; n < SECTORS; n++) if (before[n] > ledger.durable[n]) ledger.durable[n] = before[n];
        continue;
      }
      const place = random.below(Math.floor(SECTORS / SECTORS_MAX / WRITERS)) * WRITERS + writer;
      if (busy.has(place)) {
        await new Promise((resolve) => setImmediate(resolve));
        continue;
      }
      busy.add(place);
      const from = random.below(SECTORS_MAX);
      const sector = place * SECTORS_MAX + from;
      const sectors = random.between(1, SECTORS_MAX - from);
      if (dice < READ_PERCENT) {
        const found = ledger.versions(sector, await client.read(sector * SECTOR, sectors * SECTOR));
        found.forEach((version, n) => expect(version).toBe(ledger.acknowledged[sector + n]));
      } else {
        const data = ledger.issue(sector, sectors);
        const isFua = random.below(100) < mix.fuaPercent;
        await client.write(sector * SECTOR, data, isFua);
        acknowledge(sector, sectors, data, isFua);
      }
      busy.delete(place);
    }
  };
  const ends = await Promise.allSettled(Array.from({ length: DEPTH }, one));
  for (const end of ends) {
    const reason = (end as PromiseRejectedResult).reason as Error;
    if (!/the server has closed the connection/.test(reason.message)) throw reason;
  }
}

/** Reads everything; from here on it counts as durable: it was found in the log. */
async function compare(socket: string, ledger: Ledger): Promise<void> {
  const client = await NbdClient.connect(socket);
  for (let sector = 0; sector < SECTORS; sector += 2048) {
    const found = ledger.versions(sector, await client.read(sector * SECTOR, 2048 * SECTOR));
    found.forEach((version, n) => {
      const at = sector + n;
      if (version < ledger.durable[at] || version > ledger.issued[at]) {
        throw new Error(`sector ${at}: version ${version}, durable ${ledger.durable[at]}, issued ${ledger.issued[at]}`);
      }
      ledger.durable[at] = ledger.acknowledged[at] = version;
    });
  }
  client.close();
}

describe('a server that is killed', () => {
  // With data_crc payload goes to the backing device kset by kset, without it several ksets at a time.
  const CRCS: readonly [string, string[]][] = [
    ['with data_crc', ['--data-crc']],
    ['without data_crc', []],
  ];
  it.each(casesOf(CRCS, 1))(
    `${KILLS} times keeps what was flushed, %s (seed ${SEED})`,
    { timeout: 60_000 + KILLS * 20_000 },
    async (_, flags) => {
      const random = new Random(SEED);
      const { cache, backing } = await makeDevices(folder, [...flags, '--gc-percent', '10'], DEVICE_BYTES);
      const ledger = new Ledger();
      for (let n = 0; n < KILLS; n++) {
        const attached = await attach(folder, [cache, backing]);
        await compare(attached.socket, ledger);
        const clients = await Promise.all(Array.from({ length: WRITERS }, () => NbdClient.connect(attached.socket)));
        const workers = clients.map((client, k) =>
          work(client, ledger, k, new Random(random.below(2 ** 31)), MIXES[n % 2]),
        );
        await setTimeout(random.between(20, 900));
        // A busy server may need longer for the first sector that is written twice.
        while (!ledger.acknowledged.some((version) => version > 1)) await setTimeout(50);
        await Promise.all([attached.stop('SIGKILL'), ...workers]);
      }
      const attached = await attach(folder, [cache, backing]);
      await compare(attached.socket, ledger);
      await attached.result();
      expect((await runCli(['fsck', cache, backing])).status).toBe(0);
      expect(ledger.durable.some((version) => version > 1)).toBe(true);
    },
  );
});
