/**
 * How much room is left for writes (`WritePressure`), from the thread that writes back to those that serve clients, in
 * shared memory. Each of them gets its share of what the backing device takes: those that write, in equal parts.
 */
import type { WritePressure } from '../engine/index.js';

/** A thread that has asked within this time writes. */
const WRITES_MS = 200;
const Field = { isPressed: 0, roomBytes: 1, zoneBytes: 2, writebackBytesPerMs: 3, asked: 4 } as const;

export class SharedPressure {
  /**
   * @param memory shared; `makePressureMemory` makes it
   * @param thread that of the one who asks; the one who publishes gives none
   * @param nowMs the same clock in all threads
   */
  constructor(
    private readonly memory: Float64Array,
    private readonly thread = -1,
    private readonly nowMs: () => number = () => Date.now(),
  ) {}

  publish(pressure: WritePressure | undefined): void {
    const { memory } = this;
    if (pressure !== undefined) {
      memory[Field.roomBytes] = pressure.roomBytes;
      memory[Field.zoneBytes] = pressure.zoneBytes;
      memory[Field.writebackBytesPerMs] = pressure.writebackBytesPerMs;
    }
    memory[Field.isPressed] = pressure === undefined ? 0 : 1;
  }

  /** This thread's share. It is asked for while the thread has writes to answer. */
  share(): WritePressure | undefined {
    const { memory } = this;
    const now = this.nowMs();
    memory[Field.asked + this.thread] = now;
    if (memory[Field.isPressed] === 0) return undefined;
    let writers = 0;
    for (let at = Field.asked as number; at < memory.length; at++) if (now - memory[at] < WRITES_MS) writers++;
    return {
      roomBytes: memory[Field.roomBytes],
      zoneBytes: memory[Field.zoneBytes],
      writebackBytesPerMs: memory[Field.writebackBytesPerMs] / Math.max(1, writers),
    };
  }
}

export function makePressureMemory(threads: number): Float64Array {
  return new Float64Array(new SharedArrayBuffer(8 * (Field.asked + threads)));
}
