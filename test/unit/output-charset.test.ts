/** What a locale without UTF-8 is shown. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { asciiForm, isUtf8Locale } from '../../src/output/charset.js';
import { sparkline } from '../../src/output/units.js';

/** A page for browsers, which is always UTF-8, has characters of its own; `.d.ts` files print nothing. */
const sources = readdirSync('src', { recursive: true, encoding: 'utf8' }).filter(
  (path) => path.endsWith('.ts') && !path.startsWith('report-html/'),
);

/** Texts of the string literals and templates of a file. */
function literals(path: string): string[] {
  const text = readFileSync(join('src', path), 'utf8');
  if (!/[^\0-\x7f]/.test(text)) return [];
  const found: string[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isStringLiteralLike(node) || ts.isTemplateHead(node) || ts.isTemplateMiddleOrTemplateTail(node)) {
      found.push(node.text);
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(path, text, ts.ScriptTarget.Latest));
  return found;
}

describe('a locale without UTF-8', () => {
  it('has an ASCII form for every character that a message or report contains', () => {
    const texts = sources.flatMap(literals);
    expect(texts.filter((text) => /[^\0-\x7f]/.test(text)).length).toBeGreaterThan(10);
    expect(texts.filter((text) => /[^\0-\x7f]/.test(asciiForm(text)))).toEqual([]);
  });

  it('keeps the characters of file names, which the user typed', () => {
    expect(asciiForm('Größe.img: 12.3 µs → 5…')).toBe('Größe.img: 12.3 us -> 5...');
  });

  it('has a level for each level of a sparkline', () => {
    const levels = asciiForm(sparkline([0, 1, 2, 3, 4, 5, 6, 7]));
    expect(new Set(levels).size).toBe(8);
  });
});

it('the first of LC_ALL, LC_CTYPE and LANG that is set names the character set', () => {
  expect(isUtf8Locale({ LANG: 'de_DE.UTF-8' })).toBe(true);
  expect(isUtf8Locale({ LC_ALL: 'C.utf8', LANG: 'C' })).toBe(true);
  expect(isUtf8Locale({ LC_ALL: '', LC_CTYPE: 'C.UTF-8', LANG: 'C' })).toBe(true);
  expect(isUtf8Locale({ LC_ALL: 'C', LANG: 'de_DE.UTF-8' })).toBe(false);
  expect(isUtf8Locale({ LANG: 'de_DE.ISO-8859-1' })).toBe(false);
  expect(isUtf8Locale({})).toBe(false);
});
