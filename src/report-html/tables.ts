/** The data of each chart as a table, for those who do not see the chart: everything that is drawn is in it. */
import type { Chart, LineChart, MapChart } from './chart.js';
import { show } from './chart.js';
import { html, type Html } from './html.js';

export function tableOf(chart: Chart): Html {
  if (chart.kind === 'lines') return linesTable(chart);
  return chart.states ? stateTable(chart) : countTable(chart);
}

function table(caption: string, head: readonly string[], rows: readonly Html[]): Html {
  return html`<table>
    <caption>
      ${caption}
    </caption>
    <thead>
      <tr>
        ${head.map((name) => html`<th scope="col">${name}</th>`)}
      </tr>
    </thead>
    <tbody>
      ${rows}
    </tbody>
  </table>`;
}

function linesTable({ title, x, y, style, series }: LineChart): Html {
  const length = style === 'steps' ? x.values.length - 1 : x.values.length;
  const rows = Array.from({ length }, (_, n) => {
    const cells = series.map(({ values }) => html`<td>${show(values[n], y.unit)}</td>`);
    return html`<tr>
      <th scope="row">${show(x.values[n], x.unit)}</th>
      ${cells}
    </tr> `;
  });
  return table(title, [style === 'steps' ? `${x.label} from` : x.label, ...series.map(({ label }) => label)], rows);
}

function rowName({ y }: MapChart, row: number, rows: number): string {
  const [from, to] = [row * y.step, (row + 1) * y.step];
  if (y.unit === 'bytes') return `${show(from, 'bytes')} – ${show(to, 'bytes')}`;
  return y.step === 1 ? `${from}` : `${from} – ${Math.min(to, rows * y.step) - 1}`;
}

/** A row of states is told as what it was until when: that is shorter than a cell for each step, and says as much. */
function stateTable(chart: MapChart): Html {
  const { states = [], letters = {}, x, y, title } = chart;
  const until = (column: number) => show(Math.min(column * x.step, x.end), 'time');
  const rows = states.map((row, n) => {
    const runs = [...row.matchAll(/(.)\1*/g)].map(({ 0: run, 1: letter, index }) => {
      const when = run.length === row.length ? 'all the time' : `until ${until(index + run.length)}`;
      return `${letters[letter].name} ${when}`;
    });
    return html`<tr>
      <th scope="row">${rowName(chart, n, states.length)}</th>
      <td class="runs">${runs.join(', ')}</td>
    </tr> `;
  });
  return table(title, [y.label, 'states'], rows);
}

function countTable(chart: MapChart): Html {
  const { counts = [], x, y, title, noun } = chart;
  const columns = counts[0]?.length ?? 0;
  const head = Array.from({ length: columns }, (_, n) => `from ${show(n * x.step, 'time')}`);
  const rows = counts.map((row, n) => {
    const cells = row.map((count) => html`<td>${show(count, 'count')}</td>`);
    return html`<tr>
      <th scope="row">${rowName(chart, n, counts.length)}</th>
      ${cells}
    </tr> `;
  });
  return table(`${title}: ${noun ?? ''} by ${y.label} and time`, [y.label, ...head], rows);
}
