/** `pcache attach`, `status` and `tune` as a user meets them: options, refusals, ends, the control socket. */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { AttachResult } from '../../src/nbd/attach.js';
import type { StatusJson } from '../../src/output/status-report.js';
import { attach, BACKING_BYTES, makeDevices, sparseFile, type Attached } from '../nbd/attached.js';
import { NbdClient } from '../nbd/client.js';
import { PCACHE, runCli } from '../support/cli.js';
import { makeImageFolder } from '../support/kernel.js';

// Most of them start several processes.
vi.setConfig({ testTimeout: 90_000 });

const folder = makeImageFolder();
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let cache: string;
let backing: string;
let attached: Attached | undefined;

beforeAll(async () => {
  ({ cache, backing } = await makeDevices(folder));
});
afterEach(async () => {
  await attached?.stop('SIGKILL');
  attached = undefined;
});

const pcache = (...args: string[]) => runCli(args, { cwd: folder, env: { TMPDIR: folder } });
const serve = async (...flags: string[]) => (attached = await attach(folder, [cache, backing, ...flags]));

describe('attach refuses', () => {
  it.each([
    [[], 'where to listen is missing; give --socket PATH, --port N or --device auto'],
    [['--socket', 's', '--port', '0'], '--socket and --port exclude one another: give one'],
    [['--socket', 's', '--read-only', '--drain'], '--drain cannot be used with --read-only: nothing is written'],
    [['--socket', 's', '--data-crc'], 'was formatted with data_crc off; give --no-data-crc, or neither'],
    [['--socket', 's', '--data-crc', '--read-only'], 'was formatted with data_crc off; give --no-data-crc, or neither'],
    [['--socket', 's', '--verify-reads'], 'reads cannot be verified because the cache has no CRCs of its data'],
    [['--socket', `${'s'.repeat(120)}`], 'too long for a socket; give a shorter path'],
    [
      ['--port', '0', '--address', '192.0.2.1'],
      '192.0.2.1: is not an address of this machine; give one with --address',
    ],
    [['--socket', 's', '--address', '::1'], '--address needs --port'],
    [['--port', '0', '--address', ''], '--address is empty; give an address, or 0.0.0.0 for every address'],
  ])('%j', async (flags, message) => {
    const { status, stdout, stderr } = await pcache('attach', cache, backing, ...flags);
    expect([status, stdout]).toEqual([16, '']);
    expect(stderr).toContain(message);
  });

  it('a cache over itself, and what is no cache', async () => {
    const same = await pcache('attach', cache, cache, '--socket', 's');
    expect(same).toMatchObject({ status: 16, stderr: expect.stringContaining('is the cache device itself') as string });
    const foreign = await pcache('attach', backing, cache, '--socket', 's');
    expect(foreign).toMatchObject({ status: 8, stderr: expect.stringContaining(`${backing}: `) as string });
  });

  it('devices that are attached already, naming by whom; so do fsck and writeback, but not fsck -n', async () => {
    const { child } = await serve();
    for (const command of ['attach', 'fsck', 'writeback']) {
      const flags = command === 'attach' ? ['--socket', 'other'] : [];
      const refused = await pcache(command, cache, backing, ...flags);
      expect(refused.status).toBe(8);
      expect(refused.stderr).toContain(`in use by pid ${child.pid} (node); stop that use first`);
    }
    const dry = await pcache('fsck', '-n', cache, backing);
    expect([dry.status, dry.stderr]).toEqual([
      0,
      expect.stringContaining(`in use by pid ${child.pid} (node); it may change while it is checked\n`),
    ]);
    const again = await pcache('attach', cache, backing, '--read-only', '--socket', 'other');
    expect([again.status, again.stderr]).toEqual([8, expect.stringContaining(`pid ${child.pid} `)]);
  });

  it('a socket path where something else is', async () => {
    const path = join(folder, 'not-a-socket');
    writeFileSync(path, 'mine');
    const { status, stderr } = await pcache('attach', cache, backing, '--socket', path);
    expect([status, stderr]).toEqual([8, `pcache: ${path}: exists and is not a socket; give another path\n`]);
    expect(readFileSync(path, 'utf8')).toBe('mine');
  });
});

describe('attach --exec', () => {
  it('runs the command with where to connect, ends with it and its status, and leaves nothing behind', async () => {
    const before = readdirSync(folder);
    const command = 'test -S "$PCACHE_SOCKET" && test "$PCACHE_URI" = "nbd+unix:///?socket=$PCACHE_SOCKET" && exit 7';
    expect((await pcache('attach', cache, backing, '--exec', command)).status).toBe(7);
    expect(readdirSync(folder)).toEqual(before);
  });

  it('with --json keeps what the command says off standard output', async () => {
    const { status, stdout, stderr } = await pcache('attach', cache, backing, '--exec', 'echo hello', '--json');
    expect(status).toBe(0);
    expect(stderr).toContain('hello\n');
    expect(JSON.parse(stdout)).toMatchObject({ command: { status: 0 }, dirty: { dirtyKeys: 0 }, readOnly: false });
  });

  it('ends the command when it is told to end', async () => {
    let told = false;
    const end = await runCli(['attach', cache, backing, '--exec', 'echo up >&2; exec sleep 60'], {
      env: { TMPDIR: folder },
      onStderr: (child, text) => {
        if (!told && /^up$/m.test(text)) told = child.kill('SIGTERM'); // a second one would kill it
      },
    });
    expect(end.status).toBe(143);
    expect(end.stdout).toMatch(/^dirty: /m);
  });
});

describe('attach', () => {
  it('writes a pid file while it serves, and says at the end what is dirty', async () => {
    const pidFile = join(folder, 'pid');
    const { child, uri, socket } = await serve('--pid-file', pidFile, '--gc-percent', '0');
    expect(uri).toBe(`nbd+unix:///?socket=${socket}`);
    expect(readFileSync(pidFile, 'utf8')).toBe(`${child.pid}\n`);
    const { status, stdout } = await attached!.stop('SIGINT');
    expect(status).toBe(0);
    expect((JSON.parse(stdout) as AttachResult).dirty).toEqual({ dirtyKeys: 0, dirtyBytes: 0 });
    expect(existsSync(pidFile)).toBe(false);
    expect(readdirSync(folder).filter((name) => name.startsWith('pc.sock'))).toEqual([]);
    expect((await pcache('info', cache)).stdout).toMatch(/^gc_percent: +0$/m);
  });

  it('keeps what was flushed when it is killed, and takes the place of the socket left behind', async () => {
    const { socket } = await serve();
    const client = await NbdClient.connect(socket);
    await client.write(8192, Buffer.alloc(4096, 0x77));
    await client.flush();
    await attached!.stop('SIGKILL');
    expect(existsSync(socket)).toBe(true);
    await serve();
    const again = await NbdClient.connect(socket);
    expect((await again.read(8192, 4096)).equals(Buffer.alloc(4096, 0x77))).toBe(true);
    again.close();
  });

  const isRoot = process.getuid?.() === 0;
  const why = isRoot ? '' : ' (skipped: only root can mount a small filesystem)';
  it.skipIf(!isRoot)(
    `tells of a backing device that is full, goes on, and says so at its end${why}`,
    async (context) => {
      const small = join(folder, 'small');
      mkdirSync(small);
      try {
        execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', small], { stdio: 'ignore' });
      } catch {
        context.skip('a tmpfs cannot be mounted here');
      }
      try {
        const full = sparseFile(join(small, 'backing'), BACKING_BYTES);
        attached = await attach(folder, [cache, full, '--force-backing']); // what earlier tests wrote is not there
        const client = await NbdClient.connect(attached.socket);
        const data = Buffer.alloc(4 * 1024 * 1024, 0x5a);
        await client.write(0, data);
        await client.flush();
        const status = async () => (await pcache('status', '--socket', attached!.socket, '--json')).stdout;
        await vi.waitFor(async () => expect(await status()).toContain('no space left'), {
          timeout: 20_000,
          interval: 200,
        });
        expect((await client.read(0, data.length)).equals(data)).toBe(true);
        const { oldestDirtyMs } = (JSON.parse(await status()) as StatusJson).cache!;
        expect(oldestDirtyMs).toBeGreaterThan(0);
        client.close();
        const { stdout, stderr } = await attached.stop();
        const problem = `${full}: no space left on its filesystem while writing`;
        expect(stderr).toContain(`write-back failed and will be retried: ${problem}`);
        const result = JSON.parse(stdout) as AttachResult;
        expect(result.writebackError).toContain(problem);
        expect(result.dirty!.dirtyBytes).toBeGreaterThan(0);
      } finally {
        execFileSync('umount', [small]);
        ({ cache, backing } = await makeDevices(folder));
      }
    },
  );

  it('with --drain leaves nothing dirty, whatever was written just before', async () => {
    const { socket } = await serve('--drain');
    const client = await NbdClient.connect(socket);
    for (let n = 0; n < 50; n++) await client.write(n * 65536, Buffer.alloc(65536, n + 1));
    client.close();
    expect((await attached!.result()).dirty).toEqual({ dirtyKeys: 0, dirtyBytes: 0 });
    expect(readFileSync(backing)[49 * 65536]).toBe(50);
  });

  it('listens on a TCP port of the loopback address', async () => {
    const child = spawn(process.execPath, [PCACHE, 'attach', cache, backing, '--port', '0'], { stdio: 'pipe' });
    const text = await new Promise<string>((resolve) =>
      child.stderr.once('data', (data: Buffer) => resolve(data.toString())),
    );
    const [, port] = /at nbd:\/\/127\.0\.0\.1:(\d+)$/m.exec(text)!;
    const client = await NbdClient.connect({ host: '127.0.0.1', port: Number(port) });
    expect(client.sizeBytes).toBe(BACKING_BYTES);
    client.close();
    child.kill('SIGTERM');
    await new Promise((resolve) => child.on('close', resolve));
  });
});

describe('status and tune', () => {
  it('tell and set, by the socket or the control socket', async () => {
    const { socket } = await serve();
    const client = await NbdClient.connect(socket);
    await client.write(1 << 20, Buffer.alloc(8192, 3));
    await client.read(1 << 20, 4096);
    await client.read(9 << 20, 4096);
    await client.flush();
    const { stdout } = await pcache('status', '--socket', socket, '--json');
    const status = JSON.parse(stdout) as StatusJson;
    expect(status).toMatchObject({ sizeBytes: BACKING_BYTES, readOnly: false, path: cache });
    expect(status.server).toMatchObject({ connections: 1, readRequests: 2, readBytes: 8192, writeBytes: 8192 });
    expect(status.cache!.engine).toMatchObject({ reads: 2, readHits: 1, writes: 1, flushes: 1 });
    for (const { count, p50Ns, p999Ns, maxNs } of Object.values(status.latency)) {
      expect([count, p50Ns > 1000, p999Ns]).toEqual([1, true, maxNs]);
    }
    expect((await pcache('tune', '--socket', `${socket}.control`, 'gc_percent=33')).stdout).toBe('gc_percent: 33\n');
    const text = (await pcache('status', '--socket', socket)).stdout;
    expect(text).toMatch(/^ {2}segments in use .*gc_percent 33$/m);
    expect(text).toMatch(/^ {2}hit ratio +50\.0%$/m);
    client.close();
  });

  it('--watch looks again until it is interrupted, as lines of JSON too', async () => {
    const { socket } = await serve();
    const looks = await runCli(['status', '--socket', socket, '--watch', '--json'], {
      onStart: (child) => {
        let lines = 0;
        child.stdout!.on('data', (text: Buffer | string) => {
          const before = lines;
          lines += text.toString().split('\n').length - 1;
          if (before < 2 && lines >= 2) child.kill('SIGINT');
        });
      },
    });
    expect(looks.status).toBe(130);
    const lines = looks.stdout.trimEnd().split('\n');
    expect(lines.length).toBeGreaterThan(1);
    const uptimes = lines.map((line) => (JSON.parse(line) as StatusJson).uptimeMs);
    expect(uptimes[1] - uptimes[0]).toBeGreaterThan(900);
  });

  it('give metrics to Prometheus, on request only', async () => {
    const texts: string[] = [];
    await runCli(['attach', cache, backing, '--metrics', '0', '--exec', 'sleep 2'], {
      env: { TMPDIR: folder },
      onStderr: (_, stderr) => {
        const url = /^pcache: metrics at (\S+)$/m.exec(stderr)?.[1];
        if (url && texts.length === 0) {
          texts.push('');
          void fetch(url).then(async (response) => {
            const head = await fetch(`${url}?name[]=pcache_size_bytes`, { method: 'HEAD' });
            texts.push(`${head.status} ${head.headers.get('content-type')} ${(await head.text()).length}`);
            texts[0] = await response.text();
          });
        }
      },
    });
    expect(texts[0]).toMatch(/^pcache_size_bytes 268435456$/m);
    expect(texts[0]).toMatch(/^pcache_dirty_oldest_seconds 0$/m);
    expect(texts[1]).toBe('200 text/plain; version=0.0.4; charset=utf-8 0');
    expect(texts[0]).toMatch(/^pcache_request_duration_seconds_count\{kind="write"\} 0$/m);
    expect(texts[0]).toMatch(/^pcache_request_duration_seconds_sum\{kind="write"\} 0$/m);
    const names = texts[0].split('\n').filter((line) => line.startsWith('# TYPE'));
    expect(new Set(names).size).toBe(names.length);
  });

  it('refuse in one line', async () => {
    const { socket } = await serve('--read-only');
    const tune = (setting: string) => pcache('tune', '--socket', socket, setting);
    expect(await tune('gc_percent=91')).toMatchObject({
      status: 8,
      stderr: expect.stringContaining('read-only') as string,
    });
    expect((await tune('mode=x')).status).toBe(16);
    const none = await pcache('status', '--socket', join(folder, 'nowhere'));
    expect([none.status, none.stderr]).toEqual([
      8,
      expect.stringMatching(/no cache is served there; give the --socket/),
    ]);
  });

  it('the control socket survives nonsense', async () => {
    const { socket } = await serve();
    const ask = (text: string) =>
      new Promise<string>((resolve) => {
        const control = connect(`${socket}.control`);
        let reply = '';
        control.setEncoding('utf8').on('data', (piece: string) => (reply += piece));
        control.on('close', () => resolve(reply));
        control.on('error', () => {});
        control.end(text);
      });
    expect(await ask('{}\n[]\nnull\n7\n{"command":"tune"}\n{"command":"tune","gcPercent":1.5}\n{"\n')).toMatch(
      /^(\{"error":\{"code":"USAGE","message":"[^"]+"\}\}\n){7}$/,
    );
    expect(await ask('x'.repeat(100_000))).toBe('');
    expect((await pcache('status', '--socket', socket)).status).toBe(0);
  });
});
