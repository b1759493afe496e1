/**
 * TLS as the command line asks for it: certificates from a folder with the names that other NBD servers use, or
 * pre-shared keys from a file of `user:hexadecimal` lines, as psktool writes it.
 */
import { X509Certificate } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createSecureContext, createServer, type Server, type TlsOptions } from 'node:tls';
import { fromSystemError, PcacheError } from '../engine/errors.js';

/** Keys agreed on beforehand are for TLS 1.2 in Node; forward secrecy first. */
const PSK_CIPHERS = [
  'ECDHE-PSK-CHACHA20-POLY1305',
  'DHE-PSK-AES256-GCM-SHA384',
  'DHE-PSK-CHACHA20-POLY1305',
  'DHE-PSK-AES128-GCM-SHA256',
].join(':');
/** Below this a key is a mistake. */
const PSK_MIN_BYTES = 16;

export interface TlsRequest {
  readonly certificates: string | undefined;
  readonly pskFile: string | undefined;
  /** Clients have to show a certificate that ca-cert.pem has signed. */
  readonly verifyPeer: boolean;
}

/** Makes what takes one client's raw socket and gives its secure one. */
export type TlsFactory = () => Server;

/**
 * @param warn receives warnings about files that others can read.
 * @returns undefined when TLS is not asked for. @throws PcacheError for files that are missing or wrong
 */
export function loadTls(
  { certificates, pskFile, verifyPeer }: TlsRequest,
  warn: (text: string) => void,
): TlsFactory | undefined {
  if (certificates !== undefined && pskFile !== undefined) {
    throw new PcacheError('USAGE', '--tls-certificates and --tls-psk exclude one another: give one');
  }
  if (verifyPeer && certificates === undefined) {
    throw new PcacheError('USAGE', '--tls-verify-peer is for certificates; give --tls-certificates too');
  }
  if (certificates !== undefined) return withCertificates(certificates, verifyPeer, warn);
  return pskFile === undefined ? undefined : withKeys(pskFile, warn);
}

function read(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw fromSystemError(error, path, 'reading it for TLS');
  }
}

/** Reads a secret, and warns when others than its owner's group can read or change it. */
function readSecret(path: string, warn: (text: string) => void): Buffer {
  const secret = read(path);
  const mode = statSync(path).mode & 0o777;
  if ((mode & 0o006) !== 0) {
    const octal = mode.toString(8).padStart(4, '0');
    warn(`warning: ${path}: mode ${octal}: every user of this machine can read or change it; run: chmod 600 ${path}`);
  }
  return secret;
}

const CERTIFICATE = /-----BEGIN (?:TRUSTED )?CERTIFICATE-----[\s\S]+?-----END (?:TRUSTED )?CERTIFICATE-----/g;

/** OpenSSL takes a file without a certificate for an authority that has signed nothing, and refuses every client. */
function readAuthority(path: string): Buffer {
  const text = read(path);
  const certificates = text.toString('latin1').match(CERTIFICATE) ?? [];
  if (certificates.length === 0) throw new PcacheError('USAGE', `${path}: holds no certificate in PEM form`);
  for (const certificate of certificates) {
    try {
      new X509Certificate(certificate);
    } catch (error) {
      throw new PcacheError('USAGE', `${path}: a certificate in it is damaged: ${(error as Error).message}`, {
        cause: error,
      });
    }
  }
  return text;
}

/** Warns about a certificate that every client which looks at its dates refuses. */
function warnOutsideItsTime(path: string, pem: Buffer, warn: (text: string) => void): void {
  const { validFrom, validTo } = new X509Certificate(pem);
  if (Date.now() > Date.parse(validTo)) warn(`warning: ${path}: expired at ${validTo}; clients refuse it`);
  else if (Date.now() < Date.parse(validFrom))
    warn(`warning: ${path}: not valid before ${validFrom}; clients refuse it`);
}

function withCertificates(folder: string, verifyPeer: boolean, warn: (text: string) => void): TlsFactory {
  const authority = join(folder, 'ca-cert.pem');
  const certificatePath = join(folder, 'server-cert.pem');
  const certificate = read(certificatePath);
  const options: TlsOptions = {
    cert: certificate,
    key: readSecret(join(folder, 'server-key.pem'), warn),
    ...(verifyPeer || existsSync(authority) ? { ca: readAuthority(authority) } : {}),
    minVersion: 'TLSv1.2',
    requestCert: verifyPeer,
    rejectUnauthorized: verifyPeer,
  };
  const factory = checked(options, folder);
  warnOutsideItsTime(certificatePath, certificate, warn);
  return factory;
}

function withKeys(path: string, warn: (text: string) => void): TlsFactory {
  const keys = new Map<string, Buffer>();
  for (const line of readSecret(path, warn).toString('utf8').split('\n')) {
    if (line === '' || line.startsWith('#')) continue;
    const [, user, key] = /^([^:]+):([0-9a-f]+)\s*$/i.exec(line) ?? [];
    if (key === undefined || key.length % 2 !== 0 || key.length < 2 * PSK_MIN_BYTES) {
      throw new PcacheError(
        'USAGE',
        `${path}: a line is not user:KEY with at least ${PSK_MIN_BYTES} bytes in hexadecimal`,
      );
    }
    keys.set(user, Buffer.from(key, 'hex'));
  }
  if (keys.size === 0) throw new PcacheError('USAGE', `${path}: holds no key; make one with psktool`);
  const options: TlsOptions = {
    ciphers: PSK_CIPHERS,
    dhparam: 'auto',
    minVersion: 'TLSv1.2',
    maxVersion: 'TLSv1.2',
    pskCallback: (_, identity) => keys.get(identity) ?? null,
  };
  return checked(options, path);
}

/** Finds out now what OpenSSL would refuse when the first client comes. */
function checked(options: TlsOptions, path: string): TlsFactory {
  try {
    createSecureContext(options);
  } catch (error) {
    throw new PcacheError('USAGE', `${path}: TLS does not take it: ${(error as Error).message}`, { cause: error });
  }
  return () => createServer(options);
}
