/**
 * Where the program's own files are. A checkout is the default; a bundle puts the module of its own kind here, see
 * `scripts/package/bundle.mjs`. Every layer may import this, and nothing else finds files beside the code.
 */
export { checkout as layout } from './checkout.js';
