/**
 * Checks a cache and prints every finding. Exits 0 when it is clean, 4 when it is not, like `pcache fsck`.
 *
 *     node check-cache.js CACHE BACKING
 */
import { argv, exit } from 'node:process';
import { checkCache, PcacheError } from 'pcache';

const [cachePath, backingPath] = argv.slice(2);

try {
  const { clean, findings, examined, notChecked } = checkCache({ cachePath, backingPath });
  for (const { code, severity, where, detail } of findings) console.log(`${code} ${severity} ${where}: ${detail}`);
  for (const part of notChecked) console.log(`not checked: ${part}`);
  console.log(`${examined.ksets} ksets with ${examined.keys} keys: ${clean ? 'clean' : 'not clean'}`);
  exit(clean ? 0 : 4);
} catch (error) {
  if (!(error instanceof PcacheError)) throw error;
  console.error(error.message);
  exit(error.exitStatus);
}
