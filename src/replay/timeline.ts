/**
 * Samples of something over a run whose length is not known before: at most `capacity` of them, evenly
 * spread. When it is full every second sample is dropped and the interval doubles.
 */
export interface TimelineSample {
  /** Requests done by then. */
  readonly requests: number;
  readonly value: number;
}

export class Timeline {
  private samples: TimelineSample[] = [];
  private interval = 1;
  private nextAt = 0;

  constructor(private readonly capacity = 64) {}

  /** Offers a sample; it is kept when one is due at this many requests. */
  offer(requests: number, value: number): void {
    if (requests < this.nextAt) return;
    this.samples.push({ requests, value });
    this.nextAt = requests + this.interval;
    if (this.samples.length < this.capacity) return;
    this.samples = this.samples.filter((_, n) => n % 2 === 0);
    this.interval *= 2;
    this.nextAt = this.samples[this.samples.length - 1].requests + this.interval;
  }

  /** The samples so far, and `last` as the final one. */
  finish(last: TimelineSample): readonly TimelineSample[] {
    const { samples } = this;
    if (samples.length > 0 && samples[samples.length - 1].requests === last.requests) samples.pop();
    return [...samples, last];
  }
}
