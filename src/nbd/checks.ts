/** What is wrong with a request, judged by its header alone. Pure. */
import { BLOCK_MIN_BYTES, Command, CommandFlag, NbdError, PAYLOAD_MAX_BYTES } from './protocol.js';

export interface Exported {
  readonly sizeBytes: number;
  readonly isReadOnly: boolean;
  /** The client has negotiated `base:allocation`. */
  readonly hasAllocation?: boolean;
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
  flags[Command.cache] = CommandFlag.fua;
  flags[Command.blockStatus] = CommandFlag.fua | CommandFlag.requestOne;
  flags[Command.writeZeroes] = CommandFlag.fua | CommandFlag.noHole | CommandFlag.fastZero;
  return flags;
})();

const invalid = (text: string): Refusal => ({ error: NbdError.invalid, text });

/** @returns why the request is refused, or undefined when it is to be done. */
export function whyRefused(
  { sizeBytes, isReadOnly, hasAllocation }: Exported,
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
  const changes = command === Command.write || command === Command.writeZeroes;
  if (changes && isReadOnly) return { error: NbdError.notPermitted, text: 'the export is read-only' };
  if (lengthBytes === 0) return invalid('the length is 0');
  if (offsetBytes % BLOCK_MIN_BYTES !== 0 || lengthBytes % BLOCK_MIN_BYTES !== 0) {
    return invalid(`offset and length must be multiples of ${BLOCK_MIN_BYTES}`);
  }
  if (offsetBytes + lengthBytes > sizeBytes) {
    return { error: changes ? NbdError.noSpace : NbdError.invalid, text: `the export ends at byte ${sizeBytes}` };
  }
  if ((flags & CommandFlag.fastZero) !== 0) {
    return { error: NbdError.notSupported, text: 'zeroes are written like anything else' };
  }
  const carriesData = command === Command.read || command === Command.write;
  if (carriesData && lengthBytes > PAYLOAD_MAX_BYTES) return invalid(`at most ${PAYLOAD_MAX_BYTES} bytes at a time`);
  return undefined;
}
