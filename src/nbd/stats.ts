/** Counters of the server since it began: requests as clients sent them, whatever the engine made of them. */
import { Histogram } from './histogram.js';
import { Command } from './protocol.js';

export const Kind = { readHit: 0, readMiss: 1, write: 2, flush: 3 } as const;
export const KIND_NAMES = ['readHit', 'readMiss', 'write', 'flush'] as const;

export class ServerStats {
  connections = 0;
  accepted = 0;
  refused = 0;
  /** Dropped because they broke the protocol. */
  protocolErrors = 0;
  /** Dropped because they did not finish negotiating in time. */
  handshakeTimeouts = 0;

  requests = 0;
  readRequests = 0;
  readBytes = 0;
  writeRequests = 0;
  writeBytes = 0;
  flushRequests = 0;
  fuaRequests = 0;
  trimRequests = 0;
  trimBytes = 0;
  zeroRequests = 0;
  zeroBytes = 0;
  cacheRequests = 0;
  cacheBytes = 0;
  /** Requests answered with an error. */
  failedRequests = 0;
  /** Groups handed to the engine; requests over this is how many share a fence. */
  groups = 0;

  /** From receiving a request to handing its reply to the socket, by `Kind`. */
  readonly latency = KIND_NAMES.map(() => new Histogram());

  /** Counts a request that is done in pieces. */
  countLong(command: number, lengthBytes: number): void {
    if (command === Command.writeZeroes) {
      this.zeroRequests++;
      this.zeroBytes += lengthBytes;
    } else if (command === Command.trim) {
      this.trimRequests++;
      this.trimBytes += lengthBytes;
    } else if (command === Command.cache) {
      this.cacheRequests++;
      this.cacheBytes += lengthBytes;
    } else {
      this.readRequests++;
      this.readBytes += lengthBytes;
    }
  }
}
