/**
 * Names for the devices of a trace in a format that is particular about them: no two devices get the same.
 */
import { deviceName, parseDeviceName } from './record.js';

/** The kernel's block-extended major, which belongs to no particular driver. */
const EXTENDED_MAJOR = 259;
const MINOR_BITS = 20;

export class DeviceNames {
  readonly #names: string[] = [];
  readonly #taken = new Set<string>();

  /** @param make what a device would like to be called; `attempt` grows until the name is free */
  constructor(private readonly make: (name: string, index: number, attempt: number) => string) {}

  /** @param index the device's number. @param names the names of all devices in the trace */
  of(index: number, names: readonly string[]): string {
    while (this.#names.length <= index) this.#add(names[this.#names.length]);
    return this.#names[index];
  }

  #add(original: string): void {
    const index = this.#names.length;
    let attempt = 0;
    let name = this.make(original, index, attempt);
    while (this.#taken.has(name)) name = this.make(original, index, ++attempt);
    this.#taken.add(name);
    this.#names.push(name);
  }
}

/** `MAJOR,MINOR`. */
export function kernelNames(): DeviceNames {
  return new DeviceNames((name, index, attempt) => {
    const number = attempt === 0 ? parseDeviceName(name) : undefined;
    return deviceName(number ?? EXTENDED_MAJOR * 2 ** MINOR_BITS + index + attempt);
  });
}

/** Numbers. */
export function numberNames(): DeviceNames {
  return new DeviceNames((name, index, attempt) => {
    const keeps = attempt === 0 && /^\d{1,15}$/.test(name);
    return String(keeps ? Number(name) : index + attempt);
  });
}

/** Files in the working directory, unless the trace itself names files. */
export function fileNames(): DeviceNames {
  return new DeviceNames((name, _, attempt) => withSuffix(name.replace(/\s/g, '_') || 'trace', attempt));
}

/** `HOST,DISK`. */
export function hostNames(): DeviceNames {
  return new DeviceNames((name, _, attempt) => {
    const parts = /^([^,]*)_(\d+)$/.exec(name);
    if (attempt === 0 && parts !== null) return `${parts[1]},${parts[2]}`;
    return `${withSuffix(name.replace(/[,\s]/g, '.') || 'trace', attempt)},0`;
  });
}

/** As they are, in quotes where a CSV needs them. */
export function csvNames(): DeviceNames {
  return new DeviceNames((name, _, attempt) => {
    const plain = withSuffix(name.replace(/["\r\n]/g, '_'), attempt);
    return plain.includes(',') ? `"${plain}"` : plain;
  });
}

function withSuffix(name: string, attempt: number): string {
  return attempt === 0 ? name : `${name}.${attempt}`;
}
