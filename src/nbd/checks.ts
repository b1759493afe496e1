/** What is wrong with a request, judged by its header alone. Pure. */
import { BLOCK_MIN_BYTES, Command, CommandFlag, NbdError, PAYLOAD_MAX_BYTES } from './protocol.js';

export interface Exported {
  readonly sizeBytes: number;
  readonly isReadOnly: boolean;
  /** The client has negotiated `base:allocation`. */
  readonly hasAllocation?: boolean;
  /** Whether zeroing a range takes less time than writing it; never, if absent. */
  readonly zeroesFast?: (offsetBytes: number, lengthBytes: number) => boolean;
}

export interface Refusal {
  readonly error: number;
  readonly text: string;
}

/** Flags that mean something with a command; FUA is allowed with any, as the protocol has it. */
const FLAGS: readonly number[] = (() => {
  const flags: number[] = [];
  flags[Command.read] = CommandFlag.fua | CommandFlag.dontFragment;
  flags[Command.write] = CommandFlag.fua;
  flags[Command.flush] = CommandFlag.fua;
  flags[Command.trim] = CommandFlag.fua;
  flags[Command.cache] = CommandFlag.fua;
  flags[Command.blockStatus] = CommandFlag.fua | CommandFlag.requestOne;
  flags[Command.writeZeroes] = CommandFlag.fua | CommandFlag.noHole | CommandFlag.fastZero;
  return flags;
})();

const invalid = (text: string): Refusal => ({ error: NbdError.invalid, text });

/** @returns why the request is refused, or undefined when it is to be done. */
export function whyRefused(
  { sizeBytes, isReadOnly, hasAllocation, zeroesFast }: Exported,
  command: number,
  flags: number,
  offsetBytes: number,
  lengthBytes: number,
): Refusal | undefined {
  const allowed = FLAGS[command];
  if (command === Command.blockStatus && hasAllocation !== true) return invalid('no metadata context was negotiated');
  if (allowed === undefined) return invalid(`command ${command} is not known here`);
  if ((flags & ~allowed) !== 0) return invalid(`flags 0x${flags.toString(16)} do not go with command ${command}`);
  if (command === Command.flush) {
    return offsetBytes === 0 && lengthBytes === 0 ? undefined : invalid('a flush has no offset and no length');
  }
  const writes = command === Command.write || command === Command.writeZeroes;
  if ((writes || command === Command.trim) && isReadOnly)
    return { error: NbdError.notPermitted, text: 'the export is read-only' };
  if (lengthBytes === 0) return invalid('the length is 0');
  if (offsetBytes % BLOCK_MIN_BYTES !== 0 || lengthBytes % BLOCK_MIN_BYTES !== 0) {
    return invalid(`offset and length must be multiples of ${BLOCK_MIN_BYTES}`);
  }
  if (offsetBytes + lengthBytes > sizeBytes) {
    return { error: writes ? NbdError.noSpace : NbdError.invalid, text: `the export ends at byte ${sizeBytes}` };
  }
  if ((flags & CommandFlag.fastZero) !== 0 && zeroesFast?.(offsetBytes, lengthBytes) !== true) {
    return { error: NbdError.notSupported, text: 'these zeroes would be written like anything else' };
  }
  const carriesData = command === Command.read || command === Command.write;
  if (carriesData && lengthBytes > PAYLOAD_MAX_BYTES) return invalid(`at most ${PAYLOAD_MAX_BYTES} bytes at a time`);
  return undefined;
}
