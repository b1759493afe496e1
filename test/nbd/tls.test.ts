/** TLS by certificates and by keys, with libnbd's clients: let in, kept out, and never spoken to in the clear. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Command, Option, OptionReply } from '../../src/nbd/protocol.js';
import type { AttachStatus } from '../../src/nbd/status.js';
import { runCli } from '../support/cli.js';
import { describeWithClient } from '../support/clients.js';
import { makeImageFolder } from '../support/kernel.js';
import { attach, BACKING_BYTES, client, makeDevices, type Attached } from './attached.js';
import { CLIENT_FLAGS, GO, NbdClient, optionBytes, requestBytes } from './client.js';

const folder = makeImageFolder();
const certificates = join(folder, 'pki');
const keys = join(folder, 'keys.psk');
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let cache: string;
let backing: string;
let attached: Attached | undefined;

beforeAll(async () => {
  ({ cache, backing } = await makeDevices(folder));
  writeFileSync(keys, `# keys\nalice:${'0123456789abcdef'.repeat(4)}\nbob:${'fedcba9876543210'.repeat(4)}\n`);
});
afterEach(async () => {
  await attached?.stop('SIGKILL');
  attached = undefined;
});

/** An authority, a server's certificate for "localhost" and a client's, as other NBD programs name them. */
function makeCertificates(openssl: string): void {
  mkdirSync(certificates);
  const run = (...args: string[]) => execFileSync(openssl, args, { cwd: certificates, stdio: 'pipe' });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
  run('req', '-x509', ...key, '-keyout', 'ca-key.pem', '-out', 'ca-cert.pem', '-subj', '/CN=test authority');
  for (const name of ['server', 'client']) {
    const extensions = join(certificates, `${name}.ext`);
    writeFileSync(extensions, 'subjectAltName=DNS:localhost\n');
    run('req', ...key.slice(0, 5), '-keyout', `${name}-key.pem`, '-out', `${name}.csr`, '-subj', '/CN=localhost');
    const signed = [
      '-CA',
      'ca-cert.pem',
      '-CAkey',
      'ca-key.pem',
      '-CAcreateserial',
      '-days',
      '2',
      '-extfile',
      extensions,
    ];
    run('x509', '-req', '-in', `${name}.csr`, ...signed, '-out', `${name}-cert.pem`);
  }
}

const serve = async (...flags: string[]) => (attached = await attach(folder, [cache, backing, ...flags]));

describeWithClient('TLS with certificates', 'openssl', (openssl) => {
  beforeAll(() => makeCertificates(openssl));

  describeWithClient('libnbd', 'nbdcopy', (nbdcopy) => {
    it('carries data both ways, for clients that are to be verified too', { timeout: 60_000 }, async () => {
      await serve('--tls-certificates', certificates, '--tls-verify-peer');
      const uri = `nbds+unix://localhost/?socket=${attached!.socket}&tls-certificates=${certificates}`;
      const image = join(folder, 'image');
      const bytes = Buffer.alloc(BACKING_BYTES);
      for (let at = 0; at < 24 << 20; at += 4) bytes.writeUInt32LE(at * 31, at);
      writeFileSync(image, bytes);
      await client(nbdcopy, image, uri);
      const back = join(folder, 'back');
      await client(nbdcopy, uri, back);
      execFileSync('cmp', [image, back]);
      expect(await attached!.result()).toMatchObject({ failedRequests: 0 });
    });

    it('keeps out a client without a certificate, when it is to have one', async () => {
      await serve('--tls-certificates', certificates, '--tls-verify-peer');
      const bare = join(folder, 'bare');
      mkdirSync(bare);
      writeFileSync(join(bare, 'ca-cert.pem'), execFileSync('cat', [join(certificates, 'ca-cert.pem')]));
      const uri = `nbds+unix://localhost/?socket=${attached!.socket}&tls-certificates=${bare}`;
      await expect(client('nbdinfo', '--size', uri)).rejects.toThrow();
      for (let tries = 0; (await status()).server.connections > 0; tries++) expect(tries).toBeLessThan(20);
    });
  });
});

async function status(): Promise<AttachStatus> {
  return JSON.parse((await runCli(['status', '--socket', attached!.socket, '--json'])).stdout) as AttachStatus;
}

describeWithClient('TLS with keys', 'nbdinfo', (nbdinfo) => {
  it('lets in who has one, and nobody else', async () => {
    await serve('--tls-psk', keys);
    expect(attached!.uri).toMatch(/^nbds\+unix:/);
    const uri = (user: string, file: string) => `nbds+unix://${user}@/?socket=${attached!.socket}&tls-psk-file=${file}`;
    const info = JSON.parse(await client(nbdinfo, '--json', uri('bob', keys))) as { exports: unknown[] };
    expect(info).toMatchObject({ TLS: true, exports: [{ 'export-size': BACKING_BYTES }] });
    const wrong = join(folder, 'wrong.psk');
    writeFileSync(wrong, `bob:${'00'.repeat(32)}\neve:${'00'.repeat(32)}\n`);
    await expect(client(nbdinfo, '--size', uri('bob', wrong))).rejects.toThrow();
    await expect(client(nbdinfo, '--size', uri('eve', wrong))).rejects.toThrow();
    expect((await client(nbdinfo, '--size', uri('alice', keys))).trim()).toBe(String(BACKING_BYTES));
    for (let tries = 0; (await status()).server.connections > 0; tries++) expect(tries).toBeLessThan(20);
  });
});

describe('a server with TLS', () => {
  it('tells a client in the clear nothing, and takes nothing from it', async () => {
    const { socket } = await serve('--tls-psk', keys);
    await expect(NbdClient.connect(socket)).rejects.toThrow('option refused: this server speaks TLS only');
    const raw = connect(socket);
    raw.on('error', () => {});
    // What follows STARTTLS in the clear must not count as sent within TLS.
    raw.write(Buffer.concat([CLIENT_FLAGS, optionBytes(Option.startTls), GO, requestBytes(Command.read, 0, 512)]));
    let bytes = Buffer.alloc(0);
    raw.on('data', (piece: Buffer) => (bytes = Buffer.concat([bytes, piece])));
    await new Promise((resolve) => raw.on('close', resolve));
    expect(bytes.length).toBeLessThanOrEqual(18 + 20);
    if (bytes.length > 18) expect(bytes.readUInt32BE(18 + 12)).toBe(OptionReply.ack);
    expect((await status()).server).toMatchObject({ requests: 0, protocolErrors: 1 });
  });

  it.each([
    [['--tls-psk', 'nowhere'], 8, 'nowhere: no such file; check the path'],
    [['--tls-certificates', '/'], 8, '/server-cert.pem: no such file; check the path'],
    [['--tls-psk', 'x', '--tls-certificates', 'y'], 16, 'exclude one another: give one'],
    [['--tls-verify-peer'], 16, 'give --tls-certificates too'],
  ])('refuses %j', async (flags, code, message) => {
    const { status: exit, stderr } = await runCli(['attach', cache, backing, '--socket', join(folder, 's'), ...flags]);
    expect([exit, stderr]).toEqual([code, expect.stringContaining(message)]);
  });

  it.each(['bob', 'bob:123', 'bob:00', ''])('refuses the key file %j', async (line) => {
    const file = join(folder, 'bad.psk');
    writeFileSync(file, `${line}\n`);
    const run = await runCli(['attach', cache, backing, '--socket', join(folder, 's'), '--tls-psk', file]);
    expect([run.status, run.stderr]).toEqual([16, expect.stringContaining(`${file}: `)]);
  });
});
