/** `pcache attach` as a service: what it tells a service manager, the sockets that it takes from it, and --background. */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { makeDevices } from '../nbd/attached.js';
import { NbdClient } from '../nbd/client.js';
import { PCACHE, runCli } from '../support/cli.js';
import { describeWithClient } from '../support/clients.js';
import { makeImageFolder } from '../support/kernel.js';

vi.setConfig({ testTimeout: 90_000 });

const folder = makeImageFolder();
let cache: string;
let backing: string;
beforeAll(async () => {
  ({ cache, backing } = await makeDevices(folder));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A service manager's datagram socket: prints each message on a line. */
const MANAGER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1].replace('@', '\\0', 1) if sys.argv[1][0] == '@' else sys.argv[1])
print('bound', flush=True)
while True: print(s.recv(4096).decode().rstrip('\\n').replace('\\n', '|'), flush=True)
`;

/** Becomes a program to which that many listening TCP sockets were passed. */
const ACTIVATE = `
import os, socket, sys
for n in range(int(sys.argv[1])):
  s = socket.create_server(('127.0.0.1', 0))
  print('port', s.getsockname()[1], file=sys.stderr, flush=True)
  os.dup2(s.detach(), 3 + n)
  os.set_inheritable(3 + n, True)
os.environ.update(LISTEN_FDS=sys.argv[1], LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
`;

function started(child: ChildProcess, pattern: RegExp): Promise<{ text: () => string; match: RegExpExecArray }> {
  let text = '';
  return new Promise((resolve, reject) => {
    for (const stream of [child.stdout!, child.stderr!]) {
      stream.on('data', (piece: Buffer) => {
        text += piece.toString();
        const match = pattern.exec(text);
        if (match) resolve({ text: () => text, match });
      });
    }
    child.on('close', () => reject(new Error(`ended: ${text}`)));
  });
}

describe('attach --background', () => {
  const socket = join(folder, 'bg.sock');
  const pidFile = join(folder, 'bg.pid');
  const log = join(folder, 'bg.log');
  const start = (...flags: string[]) =>
    runCli(['attach', cache, backing, '--background', '--pid-file', pidFile, '--log-file', log, ...flags]);

  it('returns when the cache is served; what the server says later is in the log file', async () => {
    const { status, stdout, stderr } = await start('--socket', socket);
    expect([status, stderr]).toEqual([0, `pcache: serving 256 MiB (volatile) at nbd+unix:///?socket=${socket}\n`]);
    const pid = Number(readFileSync(pidFile, 'utf8'));
    expect(stdout).toBe(`serving in the background as process ${pid}\n`);
    const client = await NbdClient.connect(socket);
    await client.write(0, Buffer.alloc(4096, 1));
    client.close();

    const second = await start('--socket', `${socket}2`, '--json');
    expect([second.status, second.stderr]).toEqual([8, expect.stringContaining(`in use by pid ${pid} (node)`)]);
    expect(JSON.parse(second.stdout)).toMatchObject({ error: { code: 'BUSY' } });

    expect((await runCli(['detach', '--socket', socket])).status).toBe(0);
    expect([existsSync(pidFile), existsSync(socket)]).toEqual([false, false]);
    expect(readFileSync(log, 'utf8')).toMatch(/^written: +4 KiB$/m);
  });

  it('refuses a device of the cache as its log file, and a log file that cannot be written', async () => {
    const refused = await runCli(['attach', cache, backing, '--socket', socket, '--background', '--log-file', backing]);
    expect([refused.status, refused.stderr]).toEqual([16, expect.stringContaining('give another --log-file')]);
    const missing = join(folder, 'none', 'log');
    const failed = await runCli(['attach', cache, backing, '--socket', socket, '--background', '--log-file', missing]);
    expect([failed.status, failed.stderr]).toEqual([8, expect.stringContaining(`${missing}: no such file`)]);
  });
});

describeWithClient('a service manager', 'python3', (python) => {
  it.each([
    ['an abstract socket', '@pcache-test-' + process.pid],
    ['a socket in a folder', join(folder, 'notify')],
  ])('at %s hears of the start, the watchdog, the stop and the write-back', async (_, address) => {
    const manager = spawn(python, ['-c', MANAGER, address], { stdio: ['ignore', 'pipe', 'pipe'] });
    const { text } = await started(manager, /bound\n/);
    const end = await runCli(['attach', cache, backing, '--exec', 'sleep 1', '--drain'], {
      env: { TMPDIR: folder, NOTIFY_SOCKET: address, WATCHDOG_USEC: '300000' },
    });
    expect([end.status, end.stderr]).toEqual([0, expect.not.stringContaining('service manager')]);
    await vi.waitFor(() => expect(text()).toContain('EXTEND_TIMEOUT_USEC'));
    manager.kill('SIGKILL');
    const messages = text().trimEnd().split('\n').slice(1);
    const told = messages.filter((message, n) => message !== messages[n - 1]);
    expect(told.slice(0, 3)).toEqual([
      'STATUS=opening the cache',
      expect.stringMatching(/^READY=1\|STATUS=serving at nbd\+unix:\S+, clients: 0$/),
      'WATCHDOG=1',
    ]);
    const stop = told.indexOf('STOPPING=1|STATUS=closing');
    expect(told.slice(stop, stop + 3)).toEqual([told[stop], 'STATUS=writing back', 'EXTEND_TIMEOUT_USEC=30000000']);
    expect(messages.filter((message) => message === 'WATCHDOG=1').length).toBeGreaterThanOrEqual(4);
  });

  it('that cannot be told is named in one line, and the cache is served', async () => {
    const address = join(folder, 'nobody');
    const { status, stderr } = await runCli(['attach', cache, backing, '--exec', 'true'], {
      env: { TMPDIR: folder, NOTIFY_SOCKET: address },
    });
    expect(status).toBe(0);
    expect(stderr.match(/service manager at .* cannot be told: sendto: No such file or directory$/gm)).toHaveLength(1);
  });

  it('passes a TCP socket, on which clients are served', async () => {
    const child = spawn(python, ['-c', ACTIVATE, '1', process.execPath, PCACHE, 'attach', cache, backing]);
    const { match } = await started(child, /port (\d+)\n[^]*serving .* at (nbd:\S+)\n/);
    expect(match[2]).toBe(`nbd://127.0.0.1:${match[1]}`);
    const client = await NbdClient.connect({ host: '127.0.0.1', port: Number(match[1]) });
    expect((await client.read(0, 4096)).length).toBe(4096);
    client.close();
    child.kill('SIGTERM');
    expect(await new Promise((resolve) => child.once('close', resolve))).toBe(0);
  });

  it('that passes two sockets is refused: clients of the second would wait for ever', async () => {
    const child = spawn(python, ['-c', ACTIVATE, '2', process.execPath, PCACHE, 'attach', cache, backing]);
    await started(child, /the service manager passes 2 sockets \(LISTEN_FDS\); pass one\n/);
    expect(await new Promise((resolve) => child.once('close', resolve))).toBe(16);
  });
});
