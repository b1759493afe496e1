/** A backing device that does not answer while it is compared with the cache. */
import { describe, expect, it } from 'vitest';
import { attach, GUARD_MAX_MS, type AttachObserver, type AttachOptions } from '../../src/nbd/attach.js';
import { temporaryFolder } from '../support/cli-images.js';
import { makeDevices } from './attached.js';

const folder = temporaryFolder('silent-backing');

/** Attaches a new cache, serves nobody, and ends when `serving` or `stopsAtOnce` ends it. */
async function attachSilent({ stopsAtOnce }: { stopsAtOnce: boolean }) {
  const { cache, backing } = await makeDevices(folder);
  const told: string[] = [];
  let served = false;
  let isAbandoned = false;
  let stop = (): void => undefined;
  const options: AttachOptions = {
    cachePath: cache,
    backingPath: backing,
    socketPath: `${folder}/socket`,
    listenFd: undefined,
    host: '127.0.0.1',
    port: undefined,
    readOnly: false,
    dataCrc: undefined,
    gcPercent: undefined,
    verifyReads: false,
    jobs: 1,
    tls: { certificates: undefined, pskFile: undefined, verifyPeer: false },
    exec: undefined,
    device: undefined,
    recover: false,
    name: undefined,
    pidFile: undefined,
    controlPath: undefined,
    metricsPort: undefined,
    metricsHost: '127.0.0.1',
    exportName: undefined,
    clientsMax: 1,
    handshakeMaxMs: 1000,
    drain: false,
    serviceManager: undefined,
    json: true,
    native: true,
    admit: () => undefined,
    record: { begin: () => undefined, end: () => Promise.resolve() },
    guard: () => new Promise(() => undefined),
  };
  const observer: AttachObserver = {
    serving: () => {
      served = true;
      stop();
    },
    begins: () => undefined,
    drains: () => undefined,
    tell: (text) => void told.push(text),
    closed: () => undefined,
    onInterrupt: (end) => {
      stop = end;
      if (stopsAtOnce) setTimeout(end, 50);
    },
    signalGroup: () => undefined,
    abandons: () => (isAbandoned = true),
  };
  const ended = attach(options, observer);
  await ended.catch(() => undefined);
  return { ended, told, served, isAbandoned, backing };
}

describe('a backing device that does not answer', () => {
  it('is not compared after ten seconds, which is said, and the cache is served', { timeout: 60_000 }, async () => {
    const { ended, told, served, backing } = await attachSilent({ stopsAtOnce: false });
    await ended;
    expect([served, told]).toEqual([
      true,
      [`${backing}: no answer for ${GUARD_MAX_MS / 1000} s; not compared with the cache`],
    ]);
  });

  it('does not keep a signal from ending the start', async () => {
    const { ended, served, isAbandoned } = await attachSilent({ stopsAtOnce: true });
    await expect(ended).rejects.toMatchObject({ code: 'INTERRUPTED' });
    expect([served, isAbandoned]).toEqual([false, true]);
  });
});
