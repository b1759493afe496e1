/**
 * Which exit status a check, a repair, or a command that refuses a damaged cache ends with (after fsck(8)): 4 wherever
 * something is left that keeps a cache from being clean, or dirty data may be lost or old.
 */
import { ExitStatus } from '../engine/errors.js';

/** Something is left: findings after a check or a repair, or the reason of a refusal. */
export const PROBLEMS_LEFT = ExitStatus.problemsLeft;

/** @returns 0 or 4 */
export function checkStatus({ clean }: { readonly clean: boolean }): number {
  return clean ? ExitStatus.ok : PROBLEMS_LEFT;
}

/**
 * @param complete whether everything that was found could be repaired, with nothing lost that was not accepted
 * @returns 0 when there was nothing to do, 1 when all is repaired, otherwise 4
 */
export function repairStatus({ complete, changed }: { readonly complete: boolean; readonly changed: boolean }): number {
  if (!complete) return PROBLEMS_LEFT;
  return changed ? ExitStatus.fixed : ExitStatus.ok;
}
