/** The messages of oclif's parser in the words of this program. Pure. */

/** What to say instead of what the parser says; `$1` and so on are parts of its own sentence. */
const REWORDED: readonly (readonly [pattern: RegExp, message: string])[] = [
  [/^--([\w-]+)=.* cannot also be provided when using --([\w-]+)$/s, '--$2 cannot be used with --$1'],
  [/^--([\w-]+) cannot also be provided when using --([\w-]+)$/, '--$2 cannot be used with --$1'],
  [/^All of the following must be provided when using --([\w-]+): (.*)$/, '--$1 needs $2'],
  [/^One of the following must be provided when using --([\w-]+): (.*)$/, '--$1 needs one of $2'],
  [/^Only the following can be provided when using --([\w-]+): (.*)$/, '--$1 can be used only with $2'],
  [/^(?:Exactly|At least) one of the following must be provided: (.*)$/, 'missing one of $1'],
  [/^Missing required flag (?:--)?([\w-]+)$/, 'missing flag --$1'],
  [/^Expected an integer but received: (.*)$/s, "'$1' is not a whole number"],
  [/^Expected an integer greater than or equal to (\S+) but received: (\S+)$/, '$2 is too small; the minimum is $1'],
  [/^Expected an integer less than or equal to (\S+) but received: (\S+)$/, '$2 is too large; the maximum is $1'],
  [/^Expected --([\w-]+)=(.*) to be one of: (.*)$/s, "--$1: '$2' is not valid; give one of $3"],
  [/^Expected (.*) to be one of: (.*)$/s, "'$1' is not valid; give one of $2"],
  [/^Flag --([\w-]+) expects one of these values: (.*)$/, '--$1 needs a value: one of $2'],
  [/^Flag --([\w-]+) expects a value$/, '--$1 needs a value'],
  [/^Flag --([\w-]+) can only be specified once$/, '--$1 can be given only once'],
];

/** A sentence of the parser, reworded; one that is not known stays, with a small first letter. */
export function reworded(sentence: string): string {
  const found = REWORDED.find(([pattern]) => pattern.test(sentence));
  if (found !== undefined) return sentence.replace(found[0], found[1]);
  return sentence.charAt(0).toLowerCase() + sentence.slice(1);
}
