/**
 * The two kinds of error: an `assert` for a bug in our own state, a `PcacheError` for the environment. Bad media is
 * neither: it is a value, see `media/problem.ts`.
 */

/** Exit statuses of every command, after fsck(8). */
export const ExitStatus = {
  ok: 0,
  fixed: 1,
  problemsLeft: 4,
  operationalError: 8,
  usageError: 16,
  interrupted: 130,
} as const;

export type PcacheErrorCode =
  | 'USAGE'
  | 'NOT_FOUND'
  | 'NO_ACCESS'
  | 'NOT_A_DEVICE'
  | 'BUSY'
  | 'IO'
  | 'NO_SPACE'
  | 'TOO_SMALL'
  | 'TRUNCATED'
  | 'NOT_PCACHE'
  | 'FOREIGN_SIGNATURE'
  | 'ALREADY_PCACHE'
  | 'BAD_MEDIA'
  | 'DIRTY'
  | 'UNSUPPORTED'
  | 'NATIVE_MISSING'
  | 'CLOSED'
  | 'CACHE_FULL'
  | 'OUT_OF_RANGE'
  | 'MISALIGNED'
  | 'BAD_TRACE'
  | 'BAD_RESULT'
  | 'VERIFY_FAILED'
  | 'INTERRUPTED';

/**
 * An error of the environment: one line that names the thing and the remedy, with a stable code.
 * `exitStatus` is the exit status of a command that ends with it (16 for USAGE, 8 for the others, unless given).
 */
export class PcacheError extends Error {
  readonly code: PcacheErrorCode;
  readonly exitStatus: number;

  constructor(code: PcacheErrorCode, message: string, options?: ErrorOptions & { exitStatus?: number }) {
    super(message, options);
    this.name = 'PcacheError';
    this.code = code;
    this.exitStatus = options?.exitStatus ?? (code === 'USAGE' ? ExitStatus.usageError : ExitStatus.operationalError);
  }
}

/** A broken invariant of our own. Contents of media and input of the user never cause one. */
export class AssertionError extends Error {
  constructor(message: string) {
    super(`internal error: ${message}`);
    this.name = 'AssertionError';
  }
}

/** Stays on in production. `message` must be a constant: no string is built when the condition holds. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) internalError(message);
}

/** Throws the error of `assert`. The hot path calls it behind an `if`, which costs less than passing the condition. */
export function internalError(message: string): never {
  throw new AssertionError(message);
}

/** A `PcacheError` in transit between threads, where an error object loses its class. */
export interface ErrorNote {
  readonly code: PcacheErrorCode;
  readonly message: string;
}

/** @throws `error` itself unless it is a `PcacheError`: it is a bug and keeps its stack */
export function noteOf(error: unknown): ErrorNote {
  if (!(error instanceof PcacheError)) throw error;
  return { code: error.code, message: error.message };
}

export function errorOf({ code, message }: ErrorNote): PcacheError {
  return new PcacheError(code, message);
}

/** Turns an error of Node's file calls into a `PcacheError` that names `path`. */
export function fromSystemError(error: unknown, path: string, doing: string): PcacheError {
  if (error instanceof PcacheError) return error;
  const code = (error as NodeJS.ErrnoException)?.code ?? '';
  const options = { cause: error };
  switch (code) {
    case 'ENOENT':
      return new PcacheError('NOT_FOUND', `${path || "''"}: no such file; check the path`, options);
    case 'EACCES':
    case 'EPERM':
      return new PcacheError(
        'NO_ACCESS',
        `${path}: permission denied while ${doing}; check its owner and mode, or run as root`,
        options,
      );
    case 'EROFS':
      return new PcacheError('NO_ACCESS', `${path}: on a read-only filesystem; cannot be used for ${doing}`, options);
    case 'EISDIR':
      return new PcacheError('NOT_A_DEVICE', `${path}: is a directory; give a file or a block device`, options);
    case 'EBUSY':
      return new PcacheError(
        'BUSY',
        `${path}: in use by the kernel (mounted, or part of another device); stop that use first`,
        options,
      );
    case 'ENOSPC':
    case 'EDQUOT':
      return new PcacheError(
        'NO_SPACE',
        `${path}: no space left on its filesystem while ${doing}; free some space`,
        options,
      );
    case 'EFBIG':
      return new PcacheError(
        'NO_SPACE',
        `${path}: too large for its filesystem or for "ulimit -f" while ${doing}; raise the limit or make it smaller`,
        options,
      );
    case 'ENXIO':
    case 'ENODEV':
      return new PcacheError('NOT_A_DEVICE', `${path}: no such device is present while ${doing}`, options);
    default:
      return new PcacheError(
        'IO',
        `${path}: ${code || 'error'} while ${doing}: ${(error as Error)?.message ?? String(error)}`,
        options,
      );
  }
}
