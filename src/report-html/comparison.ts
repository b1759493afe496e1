/** The page that compares saved results: their setups, what happened over time laid over one another, and every counter. */
import { diffCells, diffHead, resultLetter, showSetup, showValue } from '../output/diff-report.js';
import type { ReplayDiff } from '../replay/diff.js';
import type { SavedResult } from '../replay/saved-result.js';
import { text, type ReportSection } from '../report-model/report-section.js';
import type { LineChart, LineSeries } from './chart.js';
import { clockOf } from './clock.js';
import { figures } from './figures.js';
import { renderPage, type Page, type ReportOrigin } from './page.js';
import type { Tile } from './tiles.js';

const COLOURS = ['blue', 'orange', 'green', 'purple', 'grey'] as const;
const DASHES = ['solid', 'dashed'] as const;
/** A last bin that is shorter than this share of the others has rates by chance. */
const WHOLE_BIN_SHARE = 0.5;

/** @param results those that `diff` compares, in the same order */
export function comparisonPage(diff: ReplayDiff, results: readonly SavedResult[], origin?: ReportOrigin): string {
  const [charts, why] = overTime(results);
  const page: Page = {
    name: `Comparison of ${results.length} replays`,
    subtitle: 'Differences are against A.',
    warnings: diff.notes.map((note) => `${note[0].toUpperCase()}${note.slice(1)}.`),
    tiles: results.map(tileOf),
    sections: [
      { title: 'Setup', charts: [], after: figures([setupSection(diff)]) },
      { title: 'Over time', note: why, charts },
      { title: 'All figures', charts: [], after: figures(diff.sections.map((section) => tableOf(section, diff))) },
    ],
  };
  return renderPage(page, origin);
}

function tileOf(result: SavedResult, rank: number): Tile {
  const hits = showValue(result.numberAt('requests.hitRatioByBytes'), 'ratio');
  const cache = showValue(result.numberAt('devices.cacheBytes'), 'bytes');
  return {
    name: `${resultLetter(rank)}: ${result.path}`,
    value: hits,
    more: `of the bytes read came from a cache of ${cache}, ${result.plainAt('devices.mode') ?? 'mode unknown'}`,
  };
}

function setupSection({ results, setup }: ReplayDiff): ReportSection {
  const head = ['', ...results.map((_, rank) => resultLetter(rank))];
  const rows = setup.map(({ name, unit, values }) => ({
    name,
    values: values.map((value) => text(showSetup(value, unit))),
  }));
  if (rows.length === 0) return { title: 'The same in all', rows: [{ name: 'setup', values: [text('the same')] }] };
  return { title: 'Where it differs', head, rows };
}

function tableOf({ title, rows }: ReplayDiff['sections'][number], { results }: ReplayDiff): ReportSection {
  const head = ['', ...diffHead(results.length)];
  return { title, head, rows: rows.map((row) => ({ name: row.name, values: diffCells(row).map(text) })) };
}

// ---- charts over time -------------------------------------------------------------------------------------

type Column = readonly (number | null)[];

/** A result with its timeline cut into bins that all results share. */
class Overlaid {
  readonly bins: number;

  constructor(
    private readonly result: SavedResult,
    private readonly binNs: number,
    private readonly ownBinNs: number,
    private readonly endNs: number,
    ownBins: number,
  ) {
    this.bins = Math.ceil((ownBins * ownBinNs) / binNs);
  }

  /** Whole bins, and a last one that is long enough. */
  private isWhole(bin: number): boolean {
    return bin === 0 || this.endNs - bin * this.binNs >= this.binNs * WHOLE_BIN_SHARE;
  }

  private grouped(column: Column | undefined): Column[] {
    const each = this.binNs / this.ownBinNs;
    return Array.from({ length: this.bins }, (_, bin) => (column ?? []).slice(bin * each, (bin + 1) * each));
  }

  /** Sums of columns in each bin; null where a value is missing. */
  sums(...paths: readonly string[]): Column {
    const columns = paths.map((path) => this.grouped(this.result.columnAt(path)));
    return Array.from({ length: this.bins }, (_, bin) => {
      const parts = columns.flatMap((groups) => (groups[bin].length === 0 ? [null] : groups[bin]));
      return parts.reduce((sum, part) => (sum === null || part === null ? null : sum + part), 0);
    });
  }

  /** Sums of columns for each second. */
  rates(...paths: readonly string[]): Column {
    return this.sums(...paths).map((sum, bin) => {
      const seconds = Math.min(this.binNs, this.endNs - bin * this.binNs) / 1e9;
      return sum === null || !this.isWhole(bin) || seconds <= 0 ? null : sum / seconds;
    });
  }

  /** The last value in each bin. */
  levels(path: string): Column {
    return this.grouped(this.result.columnAt(path)).map((group) => group.at(-1) ?? null);
  }

  hitRatio(): Column {
    const [read, missed] = [this.sums('counts.readBytes'), this.sums('counts.readMissBytes')];
    return read.map((bytes, bin) => {
      const miss = missed[bin];
      return bytes === null || bytes === 0 || miss === null ? null : (100 * (bytes - miss)) / bytes;
    });
  }

  /** Mean over kinds of requests. */
  meanLatency(...kinds: readonly string[]): Column {
    const columns = kinds.map((kind) => ({
      counts: this.grouped(this.result.columnAt(`latency.${kind}.requests`)),
      means: this.grouped(this.result.columnAt(`latency.${kind}.meanNs`)),
    }));
    return Array.from({ length: this.bins }, (_, bin) => {
      let [requests, sumNs] = [0, 0];
      for (const { counts, means } of columns) {
        counts[bin].forEach((count, n) => {
          requests += count ?? 0;
          sumNs += (count ?? 0) * (means[bin][n] ?? 0);
        });
      }
      return requests === 0 ? null : sumNs / requests;
    });
  }
}

/** The charts, and what to say of them: which clock they follow, or why there are none. */
function overTime(results: readonly SavedResult[]): [readonly LineChart[], string] {
  const clocks = results.map((result) =>
    clockOf({ lockstep: result.valueAt('lockstep') === true, simulated: result.valueAt('simulated') === true }),
  );
  if (new Set(clocks).size > 1) {
    const each = clocks.map((clock, rank) => `${resultLetter(rank)} has ${clock}`).join(', ');
    return [[], `Not drawn, because the clocks differ: ${each}.`];
  }
  const timelines = results.map((result) => ({
    result,
    binNs: result.numberAt('timeline.binNs') ?? 0,
    endNs: result.numberAt('timeline.endNs') ?? 0,
    bins: result.columnAt('counts.reads')?.length ?? 0,
  }));
  const binNs = Math.max(...timelines.map((one) => one.binNs));
  const odd = timelines.findIndex(
    (one) => !(one.binNs > 0 && one.endNs > 0) || one.bins === 0 || !Number.isInteger(binNs / one.binNs),
  );
  if (odd >= 0)
    return [[], `Not drawn, because ${resultLetter(odd)} has no timeline; save it again with this version.`];
  const overlaid = timelines.map((one) => new Overlaid(one.result, binNs, one.binNs, one.endNs, one.bins));
  return [chartsOf(overlaid, binNs, clocks[0]), `All have ${clocks[0]}, with a line for each result.`];
}

function chartsOf(results: readonly Overlaid[], binNs: number, clock: string): LineChart[] {
  const bins = Math.max(...results.map((result) => result.bins));
  const edgesNs = Array.from({ length: bins + 1 }, (_, n) => n * binNs);
  const lines = (columnOf: (result: Overlaid) => Column): LineSeries[] =>
    results
      .map((result, rank): LineSeries => {
        const column = columnOf(result);
        return {
          label: resultLetter(rank),
          colour: COLOURS[rank % COLOURS.length],
          dash: DASHES[Math.floor(rank / COLOURS.length)],
          values: edgesNs.map((_, n) => column[Math.min(n, bins - 1)] ?? null),
        };
      })
      .filter(({ values }) => values.some((value) => value !== null));
  const common = {
    kind: 'lines',
    style: 'steps',
    x: { label: clock, unit: 'time', scale: 'linear', values: edgesNs },
  } as const;
  const latency = { label: 'latency', unit: 'time', scale: 'log10' } as const;
  const unknown = 'None of the results has latencies over time.';
  return [
    {
      ...{ ...common, id: 'hit-ratio', title: 'Read hit ratio by bytes' },
      note: 'Share of the bytes read that came from the cache. A gap means no reads.',
      y: { label: 'hit ratio', unit: 'percent', max: 100 },
      series: lines((result) => result.hitRatio()),
    },
    {
      ...{ ...common, id: 'dirty', title: 'Dirty data' },
      note: 'At the end of each step of time, overwritten versions included.',
      y: { label: 'dirty data', unit: 'bytes' },
      series: lines((result) => result.levels('levels.dirtyBytes')),
    },
    {
      ...{ ...common, id: 'throughput', title: 'Throughput' },
      note: 'Bytes read and written by the requests.',
      y: { label: 'throughput', unit: 'bytes/s' },
      series: lines((result) => result.rates('counts.readBytes', 'counts.writeBytes')),
    },
    {
      ...{ ...common, id: 'writeback', title: 'Written to the backing device' },
      note: 'By write-back, and past the cache.',
      y: { label: 'traffic', unit: 'bytes/s' },
      series: lines((result) => result.rates('counts.writebackBytes', 'counts.directWriteBytes')),
    },
    {
      ...{ ...common, id: 'latency-reads', title: 'Mean latency of reads' },
      note: 'Hits and misses, by the time at which they arrived.',
      empty: unknown,
      y: latency,
      series: lines((result) => result.meanLatency('readHit', 'readMiss')),
    },
    {
      ...{ ...common, id: 'latency-writes', title: 'Mean latency of writes' },
      note: 'By the time at which they arrived.',
      empty: unknown,
      y: latency,
      series: lines((result) => result.meanLatency('write')),
    },
  ];
}
