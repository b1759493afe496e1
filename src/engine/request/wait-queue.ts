/** Requests that wait for a free segment, first come first served: pairs of a group and an index in it. */
import type { EngineGroup } from './request-group.js';

export class WaitQueue {
  private readonly groups: EngineGroup[] = [];
  private readonly requests: number[] = [];

  get length(): number {
    return this.groups.length;
  }
  /** The first in line; there must be one. */
  get firstGroup(): EngineGroup {
    return this.groups[0];
  }
  get firstRequest(): number {
    return this.requests[0];
  }

  push(group: EngineGroup, request: number): void {
    this.groups.push(group);
    this.requests.push(request);
  }

  /** Takes the first out of the line. */
  shift(): void {
    this.groups.shift();
    this.requests.shift();
  }

  has(group: EngineGroup, request: number): boolean {
    return this.groups.some((other, n) => other === group && this.requests[n] === request);
  }

  /** Empties the queue, then calls `body` for each that was in it: what it does may queue others. */
  drain(body: (group: EngineGroup, request: number) => void): void {
    const groups = this.groups.splice(0);
    const requests = this.requests.splice(0);
    groups.forEach((group, n) => body(group, requests[n]));
  }
}
