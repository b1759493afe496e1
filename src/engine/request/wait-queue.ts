/** Stalled requests, first come first served. Each is a group and the index of the request in it. */
import type { EngineGroup } from './request-group.js';

export class WaitQueue {
  private readonly groups: EngineGroup[] = [];
  private readonly requests: number[] = [];

  get length(): number {
    return this.groups.length;
  }
  /** Group of the first request; the queue must not be empty. */
  get firstGroup(): EngineGroup {
    return this.groups[0];
  }
  /** Index of the first request in its group. */
  get firstRequest(): number {
    return this.requests[0];
  }

  push(group: EngineGroup, request: number): void {
    this.groups.push(group);
    this.requests.push(request);
  }

  /** Removes the first request. */
  shift(): void {
    this.groups.shift();
    this.requests.shift();
  }

  has(group: EngineGroup, request: number): boolean {
    return this.groups.some((other, n) => other === group && this.requests[n] === request);
  }

  /** Empties the queue, then calls `body` for each request that was in it; `body` may queue others. */
  drain(body: (group: EngineGroup, request: number) => void): void {
    const groups = this.groups.splice(0);
    const requests = this.requests.splice(0);
    groups.forEach((group, n) => body(group, requests[n]));
  }
}
