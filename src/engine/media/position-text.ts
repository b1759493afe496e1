import type { Position } from './codecs.js';

/** A position in the log as `segment:offset`, logical segment and byte offset in its data, as the kernel writes it. */
export function positionText({ segment, offsetBytes }: Position): string {
  return `${segment}:${offsetBytes}`;
}
