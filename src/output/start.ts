/**
 * The first code of the program: refuses a Node.js that is too old, says the version, or runs a command. It imports
 * nothing of the command line before it must, so that the version costs no more than Node.js itself.
 */
import { layout } from '../layout/layout.js';
import type { BundledCommands } from './bundled-config.js';

const NODE_MIN = [20, 19];
const VERSION_WORDS = ['--version', '-v', '-V', 'version'];

/**
 * @param source `import.meta.url` of the script in `bin/`, from which oclif finds the commands; or what loads the
 *   commands of a bundle
 */
export async function start(source: string | (() => Promise<BundledCommands>), development = false): Promise<void> {
  const { node } = process.versions;
  const [major, minor] = node.split('.').map(Number);
  if (major < NODE_MIN[0] || (major === NODE_MIN[0] && minor < NODE_MIN[1])) {
    process.stderr.write(`pcache: needs Node.js ${NODE_MIN.join('.')} or later; this is ${node}\n`);
    process.exitCode = 8;
    return;
  }
  if (VERSION_WORDS.includes(process.argv[2])) {
    process.stdout.on('error', (error: NodeJS.ErrnoException) => {
      process.exitCode = error.code === 'EPIPE' ? 0 : 8;
    });
    process.stdout.write(`pcache/${layout.version()} ${process.platform}-${process.arch} node-v${node}\n`);
    return;
  }
  layout.useCompiledCode();
  const { main } = await import('./main.js');
  await main(typeof source === 'string' ? source : await source(), { development });
}
