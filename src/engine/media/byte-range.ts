/** A range of the logical device. */
export interface ByteRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}
