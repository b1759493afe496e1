/**
 * Which clock the charts over time show. Three clocks can be meant, and a page names the one that it shows: trace time
 * (when requests were recorded), simulated time (of the modelled devices), replay time (measured on this machine).
 */
import { formatDuration } from '../output/units.js';
import type { ReplayResult } from '../replay/replay-result.js';

export type ClockName = 'replay time' | 'trace time' | 'simulated time';

export const TRACE_TIME: ClockName = 'trace time';

export function clockOf({ lockstep, simulated }: Pick<ReplayResult, 'lockstep' | 'simulated'>): ClockName {
  if (lockstep) return TRACE_TIME;
  return simulated ? 'simulated time' : 'replay time';
}

/** What the clock of a result means, for the head of its charts over time. */
export function clockNote(result: ReplayResult): string {
  const { trace, timeline, elapsedNs, simulated, maxLagNs } = result;
  const [ran, shownNs] = [formatDuration(elapsedNs), formatDuration(timeline.endNs)];
  const recorded = `the trace was recorded over ${formatDuration(trace.durationNs)}`;
  switch (clockOf(result)) {
    case 'trace time':
      return `Trace time: when requests were recorded, ${shownNs} in all. It says nothing about the speed of the cache; the ${simulated ? 'simulation' : 'replay'} itself took ${ran}.`;
    case 'simulated time':
      return `Simulated time: the modelled devices needed ${shownNs} for these requests; ${recorded}. The simulation itself took ${ran}.`;
    case 'replay time':
      return maxLagNs === null
        ? `Replay time: measured on this machine, at full speed. The replay took ${ran}; ${recorded}.`
        : `Replay time: measured on this machine, with the requests at a pace. The replay took ${ran}; ${recorded}.`;
  }
}
