/**
 * Characters beyond ASCII, which a terminal shows only in a locale with UTF-8. What is printed for people goes through
 * `shown`; JSON, CSV and data never do. Replacements of one character keep tables and charts aligned; the few longer
 * ones are made before a table is laid out.
 */

const ASCII_FORMS = new Map<string, string>([
  ['µ', 'u'],
  ['–', '-'],
  ['−', '-'],
  ['…', '...'],
  ['→', '->'],
  ['±', '+/-'],
  ['×', 'x'],
  ['§', 'section '],
  ['·', '.'],
  ['●', '*'],
  ['┤', '+'],
  ['│', '|'],
  ['└', '+'],
  ['─', '-'],
  ...Array.from('▁▂▃▄▅▆▇█', (level, index): [string, string] => [level, '_.:-=+*#'[index]]),
]);

/** The text with every character of ours in its ASCII form; other characters, as of file names, stay. */
export function asciiForm(text: string): string {
  return text.replace(/[^\0-\x7f]/g, (character) => ASCII_FORMS.get(character) ?? character);
}

/** Is the codeset of the locale UTF-8? The first of LC_ALL, LC_CTYPE and LANG that is set decides; without one it is C. */
export function isUtf8Locale(environment: NodeJS.ProcessEnv): boolean {
  const names = [environment['LC_ALL'], environment['LC_CTYPE'], environment['LANG']];
  return /utf-?8/i.test(names.find((name) => name !== undefined && name !== '') ?? 'C');
}

/** Whether this process may print characters beyond ASCII. */
export const SHOWS_UTF8 = isUtf8Locale(process.env);

/** The text as this process may print it. */
export function shown(text: string): string {
  return SHOWS_UTF8 ? text : asciiForm(text);
}
