/** A range of a device. */
export interface ByteRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** Adds a range to a list in ascending order; one that adjoins the last is joined with it. */
export function appendRange(ranges: ByteRange[], { offsetBytes, lengthBytes }: ByteRange): void {
  const last = ranges.at(-1);
  if (last !== undefined && last.offsetBytes + last.lengthBytes === offsetBytes) {
    ranges[ranges.length - 1] = { offsetBytes: last.offsetBytes, lengthBytes: last.lengthBytes + lengthBytes };
  } else {
    ranges.push({ offsetBytes, lengthBytes });
  }
}
