/** The logical device, cache over backing device, for reading without the kernel. */
import { PcacheError } from '../engine/errors.js';
import { LogicalReader } from '../engine/inspect/logical-reader.js';
import { loadForInspection, openForInspection, type InspectedDevices } from '../engine/inspect/open.js';

/** What {@link openLogicalDevice} opens. */
export interface LogicalDeviceOptions {
  /** Cache device, image file, or a file that `pcache pack --data` wrote. */
  readonly cachePath: string;
  /** Backing device of the cache. Without it only cached ranges can be read. */
  readonly backingPath?: string;
}

/**
 * The logical device of a cache, read-only. It does not change either device, and payload is not checked against its
 * CRC. Close it with {@link LogicalDevice.close} or `using`.
 */
export class LogicalDevice implements Disposable {
  private isClosed = false;

  /** @internal Use {@link openLogicalDevice}. */
  constructor(
    private readonly devices: InspectedDevices,
    private readonly reader: LogicalReader,
  ) {}

  /** Size in bytes: the backing device's, or without one as far as the keys reach. */
  get sizeBytes(): number {
    return this.reader.sizeBytes;
  }

  /**
   * Reads `lengthBytes` from `offsetBytes` on. Any byte range is allowed.
   * @throws {@link PcacheError} OUT_OF_RANGE beyond the end, or without a backing device where nothing is cached; IO; CLOSED
   */
  read(offsetBytes: number, lengthBytes: number): Uint8Array {
    const target = new Uint8Array(lengthBytes);
    this.readInto(offsetBytes, target);
    return target;
  }

  /**
   * Fills `target` from `offsetBytes` on.
   * @throws {@link PcacheError} as {@link LogicalDevice.read}
   */
  readInto(offsetBytes: number, target: Uint8Array): void {
    if (this.isClosed) throw new PcacheError('CLOSED', `${this.devices.pmem.path}: the logical device is closed`);
    this.reader.read(offsetBytes, target, 0, target.length);
  }

  /** Closes both devices. May be called again. */
  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.devices.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * Opens the logical device of a cache for reading. Reads the whole log first.
 * @throws {@link PcacheError} NOT_FOUND, NO_ACCESS, BUSY, NOT_PCACHE, BAD_MEDIA, UNSUPPORTED, IO
 */
export function openLogicalDevice({ cachePath, backingPath }: LogicalDeviceOptions): LogicalDevice {
  const devices = openForInspection({ cachePath, backingPath, native: true });
  try {
    return new LogicalDevice(devices, new LogicalReader(devices.pmem, loadForInspection(devices), devices.backing));
  } catch (error) {
    devices.close();
    throw error;
  }
}
