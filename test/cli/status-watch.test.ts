/** `pcache status --watch` on a terminal. */
import { rmSync } from 'node:fs';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, afterEach, expect, it, vi } from 'vitest';
import { attach, makeDevices, type Attached } from '../nbd/attached.js';
import { NbdClient } from '../nbd/client.js';
import { PCACHE } from '../support/cli.js';
import { describeWithClient } from '../support/clients.js';
import { makeImageFolder } from '../support/kernel.js';

vi.setConfig({ testTimeout: 90_000 });

const folder = makeImageFolder();
let attached: Attached | undefined;
afterEach(() => attached?.stop('SIGKILL'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Runs a program on a terminal of that size, presses keys after three clearings, and prints what it showed, and its status. */
const TERMINAL = `
import fcntl, os, pty, struct, sys, termios
rows, columns, keys, *command = sys.argv[1:]
go = os.pipe()
pid, terminal = pty.fork()
if pid == 0:
  os.read(go[0], 1)
  os.execv(command[0], command)
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('HHHH', int(rows), int(columns), 0, 0))
os.write(go[1], b'x')
out, pressed = b'', False
while True:
  try: out += os.read(terminal, 65536)
  except OSError: break
  if not pressed and out.count(b'\\x1b[H\\x1b[J') >= 3: pressed = os.write(terminal, keys.encode()) > 0
print(out.decode())
print('status', os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), end='')
`;

describeWithClient('status --watch on a terminal', 'python3', (python) => {
  const watch = async (rows: number, columns: number, keys: string) => {
    const { cache, backing } = await makeDevices(folder);
    attached = await attach(folder, [cache, backing]);
    const client = await NbdClient.connect(attached.socket);
    await client.write(0, Buffer.alloc(1 << 20, 1));
    client.close();
    const run = [process.execPath, PCACHE, 'status', '--socket', attached.socket, '--watch'];
    const { stdout } = await promisify(execFile)(python, ['-c', TERMINAL, String(rows), String(columns), keys, ...run]);
    const frames = stdout.split('\x1b[H\x1b[J').slice(1, 4);
    return { lines: frames.map((frame) => frame.split('\r\n').slice(0, rows)), stdout };
  };

  it('fits 80 by 24 characters, and q ends it with status 0', async () => {
    const { lines, stdout } = await watch(24, 80, 'q');
    expect(stdout).toMatch(/status 0$/);
    for (const frame of lines.slice(0, 2)) {
      expect(frame.length).toBeLessThanOrEqual(24);
      expect(frame.at(-1)).toBe('');
      expect(Math.max(...frame.map((line) => line.length))).toBeLessThanOrEqual(80);
      for (const name of ['cache', 'backing', 'reads', 'flush', 'hit ratio', 'dirty', 'stalled requests']) {
        expect(
          frame.some((line) => line.trimStart().startsWith(name)),
          name,
        ).toBe(true);
      }
    }
  });

  it('shows everything where there is room, and Ctrl-C ends it as an interrupt', async () => {
    const { lines, stdout } = await watch(60, 120, '\x03');
    expect(stdout).toMatch(/status 130$/);
    expect(lines[0].some((line) => line.includes('key_head'))).toBe(true);
  });
});
