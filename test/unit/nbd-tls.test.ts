/** What the server says of its TLS files before a client comes. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadTls } from '../../src/nbd/tls.js';

/** For "localhost", valid in 2020, signed with KEY. */
const EXPIRED_CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBkzCCATqgAwIBAgIUBDgPkwplGsZ2nq3WCoGDOSbOkzUwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAxMJbG9jYWxob3N0MB4XDTIwMDEwMTAwMDAwMFoXDTIxMDEwMTAw
MDAwMFowFDESMBAGA1UEAxMJbG9jYWxob3N0MFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAEgmzWjBjbQWnrUwkl9UZEdf6ij8jKxOwR8slxt1eyWikhBBomCKXBLV4v
MYe94/lrnM8+P8BdDgiPGMeEFwwiS6NqMGgwDAYDVR0TAQH/BAIwADAUBgNVHREE
DTALgglsb2NhbGhvc3QwEwYDVR0lBAwwCgYIKwYBBQUHAwEwDgYDVR0PAQH/BAQD
AgeAMB0GA1UdDgQWBBQDNxsLT+R43wTVI9MEW22nFLTopTAKBggqhkjOPQQDAgNH
ADBEAiAuOFJUr5mNYvQAo1yVnS9biB/YFu+IybueCfZL3hXy/AIgP2vnWkmJ/WDh
MxjccAizlgBQttu3WL41LyspDjIilcw=
-----END CERTIFICATE-----
`;
const KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgUpDLVSDDb6dXd0Gr
nmMKIrXKUvaMYUFoiMO4l/5LkYGhRANCAASCbNaMGNtBaetTCSX1RkR1/qKPyMrE
7BHyyXG3V7JaKSEEGiYIpcEtXi8xh73j+Wuczz4/wF0OCI8Yx4QXDCJL
-----END PRIVATE KEY-----
`;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pcache-tls-'));
  writeFileSync(join(folder, 'server-cert.pem'), EXPIRED_CERTIFICATE);
  writeFileSync(join(folder, 'server-key.pem'), KEY, { mode: 0o600 });
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function warnings(): string[] {
  const lines: string[] = [];
  loadTls({ certificates: folder, pskFile: undefined, verifyPeer: false }, (line) => lines.push(line));
  return lines;
}

describe('TLS files', () => {
  it('that clients will refuse for their dates are warned of at the start', () => {
    const path = join(folder, 'server-cert.pem');
    expect(warnings()).toEqual([`warning: ${path}: expired at Jan  1 00:00:00 2021 GMT; clients refuse it`]);
  });

  it('that every user can read are warned of, with their mode and the remedy', () => {
    const path = join(folder, 'server-key.pem');
    chmodSync(path, 0o644);
    expect(warnings()).toContain(
      `warning: ${path}: mode 0644: every user of this machine can read or change it; run: chmod 600 ${path}`,
    );
  });
});
