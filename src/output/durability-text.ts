/** How the durability of stores to a cache device is named. */
import type { Durability } from '../engine/device/pmem.js';

/** One clause. */
export const DURABILITY_TEXTS: Readonly<Record<Durability, string>> = {
  'dax': 'DAX file, MAP_SYNC accepted: cache-line write-back and store fence',
  'device-dax': 'device DAX: cache-line write-back and store fence',
  'page-cache': 'page cache: stores and fdatasync',
  'volatile': 'volatile: memory only, lost at power-off',
};

const NAMES: Readonly<Record<string, string>> = {
  'dax': 'MAP_SYNC',
  'device-dax': 'device DAX',
  'page-cache': 'fdatasync',
  'volatile': 'volatile',
} satisfies Record<Durability, string>;

/** One or two words; `durability` may also be a word of its own, such as "read-only". */
export function durabilityName(durability: string): string {
  return NAMES[durability] ?? durability;
}
