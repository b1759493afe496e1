/**
 * The report of a replay as one HTML page that needs nothing else: styles, the chart library and the numbers are in
 * it, and its content security policy forbids it to ask for more. Every chart has its data as a table.
 */
import { createHash } from 'node:crypto';
import type { CurveResult } from '../curve/result.js';
import { formatBytes, formatCount, formatDuration } from '../output/units.js';
import { replayReport } from '../replay/replay-report.js';
import type { ReplayResult } from '../replay/replay-result.js';
import { pageAssets } from './assets.js';
import { hasData, type Chart } from './chart.js';
import { addressCharts, segmentChart, SEGMENT_STATES, timeCharts } from './charts.js';
import { clockNote } from './clock.js';
import { figures } from './figures.js';
import { Html, html, jsonForScript } from './html.js';
import { latencyChart, latencyTimeCharts } from './latency-charts.js';
import { savingsNote, savingsSection } from './savings.js';
import { sizeCharts } from './size-charts.js';
import { tableOf } from './tables.js';
import { curveTiles, replayTiles, type Tile } from './tiles.js';

/** What the page says of who made it; a file that has it may be overwritten by another report. */
export const GENERATOR_TAG = '<meta name="generator" content="pcache replay --report">';

interface Section {
  readonly title: string;
  /** Stands between the title and the charts. */
  readonly note?: string;
  readonly charts: readonly Chart[];
  /** Stands below the charts. */
  readonly after?: Html;
}

/** What is shown; the charts and figures are in sections. */
export interface Page {
  /** The heading. */
  readonly name: string;
  readonly subtitle: string;
  readonly warnings: readonly string[];
  readonly tiles: readonly Tile[];
  readonly sections: readonly Section[];
}

/** How a report came to be. */
export interface ReportOrigin {
  /** Version of the program. */
  readonly version: string;
  /** The command as it can be typed again. */
  readonly commandLine: string;
  readonly madeAt: Date;
}

/** The page of a replay, or of many sizes. @param origin stands at its end where it is known */
export function reportPage(result: ReplayResult | CurveResult, origin?: ReportOrigin): string {
  return renderPage('curve' in result ? pageOfCurve(result) : pageOfReplay(result), origin);
}

function pageOfReplay(result: ReplayResult): Page {
  const { devices, trace, timeline } = result;
  const [hitRatio, throughput, requests, writeback, gc, dirty] = timeCharts(result);
  const how = result.simulated ? 'simulated, ' : '';
  const sections = replayReport(result);
  return {
    name: trace.name,
    subtitle: `Recorded over ${formatDuration(trace.durationNs)}, ${how}through a cache of ${formatBytes(devices.cacheBytes)}: ${devices.mode}, data_crc ${devices.dataCrc ? 'on' : 'off'}, gc_percent ${devices.gcPercent}`,
    warnings: warningsOf(result),
    tiles: replayTiles(result),
    sections: [
      {
        title: 'Savings against no cache',
        note: savingsNote(result),
        charts: [],
        after: figures([savingsSection(result)]),
      },
      { title: 'Over time', note: clockNote(result), charts: [hitRatio, throughput, requests, dirty, writeback, gc] },
      {
        title: 'Latency',
        charts: [...latencyTimeCharts(result), latencyChart(result)],
        after: figures(sections.filter(isLatency)),
      },
      { title: 'Cache', charts: [segmentChart(result)] },
      { title: 'Workload', charts: addressCharts(result) },
      {
        title: 'All figures',
        charts: [],
        after: html`${figures(sections.filter((section) => !isLatency(section)))}
          <p class="note">The charts over time have steps of ${formatDuration(timeline.binNs)}.</p>`,
      },
    ],
  };
}

function pageOfCurve(result: CurveResult): Page {
  const { trace, cache } = result;
  return {
    name: trace.name,
    subtitle: `Recorded over ${formatDuration(trace.durationNs)}, simulated with ${formatCount(result.curve.length)} cache sizes: ${cache.mode}, data_crc ${cache.dataCrc ? 'on' : 'off'}, gc_percent ${cache.gcPercent}`,
    warnings: result.interrupted ? ['It was interrupted: the sizes that were not done by then are missing.'] : [],
    tiles: curveTiles(result),
    sections: [{ title: 'Cache size', charts: sizeCharts(result) }],
  };
}

const isLatency = ({ title }: { readonly title: string }) => title.toLowerCase().includes('latency');

function warningsOf({ interrupted, verify, writeback, requests }: ReplayResult): string[] {
  const warnings: string[] = [];
  if (interrupted) warnings.push('The replay was interrupted: this is what happened until then.');
  if (verify && verify.mismatchCount > 0) {
    warnings.push(`Verification found ${formatCount(verify.mismatchCount)} sectors that were not as they should be.`);
  }
  if (writeback.failures > 0) warnings.push(`Write-back failed ${formatCount(writeback.failures)} times.`);
  if (requests.waitedForRoom > 0) {
    warnings.push(
      `${formatCount(requests.waitedForRoom)} requests had to wait for a free segment: the cache was full.`,
    );
  }
  return warnings;
}

// ---- the page -------------------------------------------------------------------------------------------

export function renderPage({ name, subtitle, warnings, tiles, sections }: Page, origin?: ReportOrigin): string {
  const { styles, script } = pageAssets();
  const hash = createHash('sha256').update(script).digest('base64');
  const policy = `default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'`;
  const drawn = sections.flatMap(({ charts }) => charts).filter(hasData);
  return html`<!doctype html>
    <html lang="en" data-theme="auto">
      <head>
        <meta charset="utf-8" />
        ${new Html(GENERATOR_TAG)}
        <meta http-equiv="Content-Security-Policy" content="${policy}" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>${name} – pcache replay</title>
        ${new Html(`<style>${styles}</style>`)}
      </head>
      <body>
        <header>
          <div class="title">
            <p class="note">pcache replay</p>
            <h1>${name}</h1>
            <p class="muted">${subtitle}</p>
          </div>
          ${themeSwitch()}
        </header>
        <main>
          ${warnings.map((warning) => html`<p class="banner" role="note">${warning}</p> `)}
          <dl class="tiles">${tiles.map(tile)}</dl>
          ${sections.map(section)}
        </main>
        <footer>
          <p>Made by pcache${origin && madeBy(origin)}</p>
          <p>Everything in this page is in this file. Charts by uPlot (MIT licence, see the source of this page).</p>
          <noscript><p>The charts need JavaScript; the tables below each have the same numbers.</p></noscript>
        </footer>
        <script type="application/json" id="charts">
          ${jsonForScript(drawn)}
        </script>
        ${new Html(`<script>${script}</script>`)}
      </body>
    </html> `.text;
}

function madeBy({ version, commandLine, madeAt }: ReportOrigin): Html {
  return html` ${version} on <time datetime="${madeAt.toISOString()}">${dateText(madeAt)}</time> with
    <code>${commandLine}</code>`;
}

/** `2026-05-04 13:37 UTC` */
function dateText(date: Date): string {
  return `${date.toISOString().slice(0, 16).replace('T', ' ')} UTC`;
}

function themeSwitch(): Html {
  const choices = [
    ['auto', 'System'],
    ['light', 'Light'],
    ['dark', 'Dark'],
  ] as const;
  return html`<fieldset class="theme">
    <legend class="unseen">Theme</legend>
    ${choices.map(
      ([value, name]) =>
        html`<label
          ><input type="radio" name="theme" value="${value}" ${value === 'auto' ? html` checked` : undefined} /><span
            >${name}</span
          ></label
        > `,
    )}
  </fieldset>`;
}

function tile({ name, value, more }: Tile): Html {
  return html`<div class="tile">
    <dt>${name}</dt>
    <dd>
      <div class="value">${value}</div>
      <div class="more">${more}</div>
    </dd>
  </div> `;
}

function section({ title, note, charts, after }: Section): Html {
  return html`<h2 class="section">${title}</h2>
    ${note === undefined ? undefined : html`<p class="note">${note}</p>`}
    <div class="cards">${charts.map(card)}${after}</div> `;
}

function card(chart: Chart): Html {
  const { id, title, note } = chart;
  const shown = hasData(chart);
  const keys = chart.kind === 'map' ? 'Arrow keys move from cell to cell.' : 'Arrow keys move along the chart.';
  return html`<section class="card${chart.wide ? ' wide' : ''}" aria-labelledby="title-${id}">
    <h2 id="title-${id}">${title}</h2>
    <p class="note" id="note-${id}">${note}</p>
    ${
      shown
        ? html`${legend(chart)}
            <div
              class="plot ${chart.kind}"
              id="plot-${id}"
              tabindex="0"
              role="group"
              aria-roledescription="chart"
              aria-label="${title}. ${keys}"
              aria-describedby="note-${id}"
            ></div>
            <details>
              <summary>Data as a table<span class="unseen">: ${title}</span></summary>
              <div class="scroll" tabindex="0" role="region" aria-label="${title}, table">${tableOf(chart)}</div>
            </details>`
        : html`<p class="empty">${chart.empty ?? 'There is nothing to show: none of it happened.'}</p>`
    }
  </section> `;
}

function legend(chart: Chart): Html {
  if (chart.kind === 'lines') {
    const items = chart.series.map(
      ({ label, colour, dash }) =>
        html`<li><span class="swatch ${colour} ${dash}" aria-hidden="true"></span>${label}</li>`,
    );
    return html`<ul class="legend">
      ${items}
    </ul>`;
  }
  if (chart.counts) {
    return html`<ul class="legend">
      <li>1<span class="ramp" aria-hidden="true"></span>${formatCount(chart.top ?? 1)} ${chart.noun} (logarithmic)</li>
    </ul>`;
  }
  const used = Object.entries(SEGMENT_STATES).filter(([letter]) => chart.states?.some((row) => row.includes(letter)));
  const items = used.map(
    ([, { name, colour }]) => html`<li><span class="swatch box ${colour}" aria-hidden="true"></span>${name}</li>`,
  );
  return html`<ul class="legend">
    ${items}
  </ul>`;
}
