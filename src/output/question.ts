/** Questions on a terminal: asked on standard error, answered by a line on standard input. */
import { createInterface } from 'node:readline/promises';
import { shown } from './charset.js';

export type Choice = 'yes' | 'no' | 'all' | 'quit';

const CHOICES: Readonly<Record<string, Choice>> = { y: 'yes', n: 'no', a: 'all', q: 'quit' };
/** Maximum number of invalid answers. */
const TRIES_MAX = 100;

/** Asks until there is an answer; the end of the input is `quit`, and an empty line `no`. */
export async function askChoice(
  question: string,
  input: NodeJS.ReadableStream,
  output: NodeJS.WritableStream = process.stderr,
): Promise<Choice> {
  const lines = createInterface({ input, output, terminal: false });
  const ended = new Promise<undefined>((resolve) => lines.once('close', () => resolve(undefined)));
  try {
    for (let tries = 0; tries < TRIES_MAX; tries++) {
      const answer = await Promise.race([lines.question(shown(`${question} (yes, no, all, quit) `)), ended]);
      if (answer === undefined) return 'quit';
      const word = answer.trim().toLowerCase();
      const choice = word === '' ? 'no' : CHOICES[word.charAt(0)];
      if (choice !== undefined) return choice;
    }
    return 'quit';
  } finally {
    lines.close();
  }
}
