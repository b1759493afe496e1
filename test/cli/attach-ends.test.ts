/** How `pcache attach` takes names and gives them back, and how it ends: signals, pid files, sockets, failed drains. */
import { createHash } from 'node:crypto';
import { spawn } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { attach, makeDevices, type Attached } from '../nbd/attached.js';
import { NbdClient } from '../nbd/client.js';
import { PCACHE, runCli } from '../support/cli.js';
import { describeWithClient } from '../support/clients.js';
import { makeImageFolder } from '../support/kernel.js';
import { casesOf } from '../support/long.js';

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
const digest = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');

describe('a failed attach', () => {
  it('has changed neither device when a name or an address cannot be taken', async () => {
    // A cache that opening for writing changes: keys of a killed server, which recovery goes on from.
    const { socket } = await serve();
    const client = await NbdClient.connect(socket);
    await client.write(0, Buffer.alloc(1 << 20, 7));
    await client.flush();
    await attached!.stop('SIGKILL');
    unlinkSync(socket);
    unlinkSync(`${socket}.control`);
    const before = [digest(cache), digest(backing)];
    const busy = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => busy.once('listening', resolve));
    const { port } = busy.address() as { port: number };
    const notes = join(folder, 'notes');
    writeFileSync(notes, 'mine');
    const untakable = [
      ['--socket', join(folder, 'nowhere', 's')],
      ['--socket', 's', '--pid-file', notes],
      ['--port', String(port)],
      ['--socket', 's', '--control', notes],
      ['--socket', 's', '--metrics', String(port)],
      ['--socket', 's', '--pid-file', join(folder, 'nowhere', 'pid')],
    ];
    for (const flags of casesOf(untakable, 2)) {
      const { status, stderr } = await pcache('attach', cache, backing, '--gc-percent', '11', ...flags);
      expect([status, stderr.split('\n').length]).toEqual([8, 2]);
    }
    busy.close();
    expect([digest(cache), digest(backing)]).toEqual(before);
    expect(readFileSync(notes, 'utf8')).toBe('mine');
    expect(readdirSync(folder).filter((name) => name === 's' || name.startsWith('.'))).toEqual([]);
  });
});

describe('a pid file', () => {
  const pidFile = join(folder, 'pid');
  const refusal = async (path = pidFile) => {
    const { status, stderr } = await pcache('attach', cache, backing, '--exec', 'true', '--pid-file', path);
    return [status, stderr];
  };

  it('is not written through a symbolic link, into a FIFO or over another file', async () => {
    const victim = join(folder, 'victim');
    writeFileSync(victim, 'precious');
    symlinkSync(victim, pidFile);
    expect(await refusal()).toEqual([8, expect.stringContaining(`${pidFile}: exists and is not a regular file`)]);
    expect(await refusal(victim)).toEqual([8, expect.stringContaining('exists and is not a pid file')]);
    expect(await refusal('/dev/null')).toEqual([8, expect.stringContaining('exists and is not a regular file')]);
    expect(await refusal('/dev/fd/1')).toEqual([8, expect.stringMatching(/^pcache: \/dev\/fd\/1: [^\n]*\n$/)]);
    expect(readFileSync(victim, 'utf8')).toBe('precious');
    unlinkSync(pidFile);
  });

  it('of a running process is left to it', async () => {
    writeFileSync(pidFile, `${process.pid}\n`);
    expect(await refusal()).toEqual([8, expect.stringContaining(`is the pid file of process ${process.pid} (node)`)]);
    unlinkSync(pidFile);
  });

  it('of a process that has ended is taken over', async () => {
    const ended = spawn('true');
    await new Promise((resolve) => ended.once('close', resolve));
    writeFileSync(pidFile, `${ended.pid}\n`);
    const { child } = await serve('--pid-file', pidFile);
    expect(readFileSync(pidFile, 'utf8')).toBe(`${child.pid}\n`);
    await attached!.stop();
    expect(existsSync(pidFile)).toBe(false);
  });

  it('is left alone at the end when something else has taken its place', async () => {
    await serve('--pid-file', pidFile);
    unlinkSync(pidFile);
    mkdirSync(join(pidFile, 'deep'), { recursive: true });
    writeFileSync(join(pidFile, 'deep', 'data'), 'precious');
    expect((await attached!.stop()).status).toBe(0);
    expect(readFileSync(join(pidFile, 'deep', 'data'), 'utf8')).toBe('precious');
    rmSync(pidFile, { recursive: true });
  });
});

describe('a socket', () => {
  it('of another server at the same path is left alone at the end', async () => {
    const { socket } = await serve();
    unlinkSync(socket);
    const other = createServer().listen(socket);
    await new Promise((resolve) => other.once('listening', resolve));
    expect((await attached!.stop()).status).toBe(0);
    expect(lstatSync(socket).isSocket()).toBe(true);
    await new Promise((resolve) => other.close(resolve));
  });

  it('is made by an ordinary user in a folder of theirs, whoever owns the folder above', async (context) => {
    if (process.getuid?.() !== 0) context.skip('only root can become another user');
    const above = join(folder, 'above');
    const theirs = join(above, 'theirs');
    mkdirSync(theirs, { recursive: true, mode: 0o755 });
    const script = `
      const { listen } = await import(${JSON.stringify(new URL('../../dist/nbd/listen.js', import.meta.url).href)});
      process.setgid(65534); process.setuid(65534);
      const listener = await listen({ path: ${JSON.stringify(join(theirs, 's'))} });
      listener.close();
      process.stdout.write('listened');`;
    const { chownSync, chmodSync } = await import('node:fs');
    chmodSync(folder, 0o755);
    chownSync(theirs, 65534, 65534);
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'pipe'] });
    let text = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (piece: Buffer) => (text += piece.toString()));
    await new Promise((resolve) => child.once('close', resolve));
    expect(text).toBe('listened');
    expect(readdirSync(above)).toEqual(['theirs']);
  });
});

describe('a signal', () => {
  it.each(casesOf(['SIGHUP', 'SIGTERM', 'SIGINT', 'SIGQUIT', 'SIGUSR2', 'SIGALRM'] as const, 2))(
    '%s ends the server in order: status 0, acknowledged writes kept, nothing left behind',
    async (signal) => {
      const { socket } = await serve('--pid-file', join(folder, 'pid'));
      const client = await NbdClient.connect(socket);
      for (let n = 0; n < 20; n++) await client.write(n * 4096, Buffer.alloc(4096, n + signal.length));
      const { status, stdout } = await attached!.stop(signal);
      expect([status, stdout]).toEqual([0, expect.stringContaining('"connections": 1')]);
      expect(readdirSync(folder).filter((name) => /^(pid|pc\.sock)/.test(name))).toEqual([]);
      await serve();
      const again = await NbdClient.connect(socket);
      for (let n = 0; n < 20; n++) expect((await again.read(n * 4096, 4096))[5]).toBe(n + signal.length);
      again.close();
    },
  );

  it.each(['', '--inspect-port=0'])('SIGUSR1 opens no inspector, with NODE_OPTIONS=%j', async (options) => {
    const stderr: string[] = [];
    let told = false;
    const end = await runCli(['attach', cache, backing, '--exec', 'echo up >&2; sleep 1'], {
      env: { TMPDIR: folder, NODE_OPTIONS: options },
      onStderr: (child, text) => {
        stderr.push(text);
        if (!told && /^up$/m.test(text)) told = child.kill('SIGUSR1');
      },
    });
    expect([end.status, told]).toEqual([0, true]);
    expect(end.stderr).not.toContain('Debugger');
  });

  it('to a server with a command ends what the command has started, too', async () => {
    let told = false;
    const end = await runCli(['attach', cache, backing, '--exec', 'sleep 4711 & echo "pid $!" >&2; wait'], {
      env: { TMPDIR: folder },
      onStderr: (child, text) => {
        if (!told && /^pid \d+$/m.test(text)) told = child.kill('SIGTERM');
      },
    });
    expect(end.status).toBe(143);
    const pid = Number(/^pid (\d+)$/m.exec(end.stderr)![1]);
    expect(() => process.kill(pid, 0)).toThrow('ESRCH');
  });
});

describe('detach and drain', () => {
  it('write back and end a server from outside', async () => {
    const { socket } = await serve();
    const client = await NbdClient.connect(socket);
    await client.write(4 << 20, Buffer.alloc(65536, 0x44));
    client.close();
    expect(await pcache('drain', '--socket', socket)).toMatchObject({ status: 0, stdout: 'dirty: nothing\n' });
    expect(readFileSync(backing)[4 << 20]).toBe(0x44);
    expect(await pcache('detach', '--socket', socket)).toMatchObject({ status: 0, stderr: '' });
    expect(readdirSync(folder).filter((name) => name.startsWith('pc.sock'))).toEqual([]);
    expect((await attached!.stop()).status).toBe(0);
    expect((await pcache('detach', '--socket', socket)).status).toBe(8);
  });
});

describeWithClient('socket activation', 'systemd-socket-activate', (activate) => {
  it('serves on the socket that the service manager passes', async () => {
    const path = join(folder, 'activated');
    const run = [process.execPath, PCACHE, 'attach', cache, backing];
    const child = spawn(activate, ['-l', path, ...run], { stdio: ['ignore', 'pipe', 'pipe'] });
    let text = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (piece: Buffer) => (text += piece.toString()));
    await vi.waitFor(() => expect(existsSync(path)).toBe(true), { timeout: 20_000 });
    const client = await NbdClient.connect(path);
    await client.write(0, Buffer.alloc(4096, 9));
    expect((await client.read(0, 4096))[0]).toBe(9);
    client.close();
    child.kill('SIGTERM');
    expect(await new Promise((resolve) => child.once('close', resolve))).toBe(0);
    expect(text).toContain(`at nbd+unix:///?socket=${path}`);
  });
});
