/**
 * The devices of a trace: a name (empty where the format names none) and a small number for each, and how many requests it has. A trace can have
 * thousands of them, so finding one costs a map's look-up at most, and nothing for the device of the record before.
 */

interface Device {
  readonly index: number;
  readonly name: string;
  count: number;
}

export class DeviceTable {
  readonly #devices: Device[] = [];
  readonly #byKey = new Map<number | string, Device>();
  #withRequests = 0;
  #latestNumber = -1;
  #latestNumberIndex = 0;
  #latestBytes = new Uint8Array(0);
  /** -1 as long as no device was found by its name. */
  #latestBytesIndex = -1;
  #wantedName: string | undefined;
  /** The number of the wanted device; -1 as long as it was not met. */
  wanted = -1;

  /** To be called before the first device is met. */
  want(name: string | undefined): void {
    this.#wantedName = name;
  }

  get hasWanted(): boolean {
    return this.#wantedName !== undefined;
  }

  get wantedName(): string | undefined {
    return this.#wantedName;
  }

  /** Names by number. */
  get names(): readonly string[] {
    return this.#devices.map(({ name }) => name);
  }

  /** How many have requests. */
  get withRequests(): number {
    return this.#withRequests;
  }

  /** @param key a whole number from 0 on. @param nameOf called when the device is new. @returns the device's number */
  indexOfNumber(key: number, nameOf: (key: number) => string = String): number {
    if (key === this.#latestNumber) return this.#latestNumberIndex;
    this.#latestNumber = key;
    this.#latestNumberIndex = (this.#byKey.get(key) ?? this.#add(key, nameOf(key))).index;
    return this.#latestNumberIndex;
  }

  /** @returns the number of the device whose name is `bytes[start, end)` */
  indexOfBytes(bytes: Uint8Array, start: number, end: number): number {
    if (this.#isLatest(bytes, start, end)) return this.#latestBytesIndex;
    const name = Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('utf8');
    this.#latestBytes = bytes.slice(start, end);
    this.#latestBytesIndex = (this.#byKey.get(name) ?? this.#add(name, name)).index;
    return this.#latestBytesIndex;
  }

  #isLatest(bytes: Uint8Array, start: number, end: number): boolean {
    const latest = this.#latestBytes;
    if (this.#latestBytesIndex < 0 || latest.length !== end - start) return false;
    for (let i = 0; i < latest.length; i++) if (latest[i] !== bytes[start + i]) return false;
    return true;
  }

  #add(key: number | string, name: string): Device {
    const device = { index: this.#devices.length, name, count: 0 };
    this.#devices.push(device);
    this.#byKey.set(key, device);
    if (name === this.#wantedName) this.wanted = device.index;
    return device;
  }

  count(index: number): void {
    const device = this.#devices[index];
    if (device.count++ === 0) this.#withRequests++;
  }

  /** Takes one back. */
  uncount(index: number): void {
    const device = this.#devices[index];
    if (--device.count === 0) this.#withRequests--;
  }

  /** Requests by name, of those that have any. */
  counts(): Map<string, number> {
    return new Map(this.#devices.filter(({ count }) => count > 0).map(({ name, count }) => [name, count]));
  }
}
