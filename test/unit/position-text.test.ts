/** A position in the log is written as `segment:offset` by one function, so that every report and message agrees. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { positionText } from '../../src/engine/media/position-text.js';

const SOURCES = fileURLToPath(new URL('../../src', import.meta.url));

it('a position is written as its segment, a colon and its byte offset', () => {
  expect(positionText({ segment: 3, offsetBytes: 5144 })).toBe('3:5144');
});

it('no file but position-text.ts writes a segment and an offset with a colon between', () => {
  const files = readdirSync(SOURCES, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
  const formats = files.filter((file) => /segment\}:\$\{/i.test(readFileSync(join(SOURCES, file), 'utf8')));
  expect(formats).toEqual([join('engine', 'media', 'position-text.ts')]);
});
