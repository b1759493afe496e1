/**
 * Says in a few words what a file that is no trace seems to be, from its first bytes, so that the error
 * can name the remedy. Guesses: nothing but the wording of an error depends on them.
 */
import { MAGIC_LETTERS } from './record.js';

function isText(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0x09 || byte === 0x0a || byte === 0x0d || (byte >= 0x20 && byte < 0x7f));
}

/** The version of a recording whose records are of another version than ours. */
function otherVersion(bytes: Uint8Array): number | undefined {
  if (bytes.length < 4) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (const littleEndian of [true, false]) {
    const magic = view.getUint32(0, littleEndian);
    if ((magic & 0xffffff00) === MAGIC_LETTERS) return magic & 0xff;
  }
  return undefined;
}

/** @param bytes the first bytes of the file, at least one. */
export function describeForeign(bytes: Uint8Array): string {
  const version = otherVersion(bytes);
  if (version !== undefined)
    return `blktrace records of version ${version}, only versions 7 and 8 are read; record with blktrace 1.2 or newer`;
  const head = bytes.subarray(0, 64);
  if (isText(head)) {
    const text = Buffer.from(head).toString('latin1');
    return `text: "${text
      .split(/[\r\n]/)[0]
      .slice(0, 32)
      .replaceAll('\t', ' ')}"`;
  }
  if (bytes.every((byte) => byte === 0)) return 'zeros';
  return `bytes ${Buffer.from(bytes.subarray(0, 8)).toString('hex')}`;
}
