/** Sections of a report, as the terminal shows them, as tables of the page. */
import { showQuantity } from '../output/report.js';
import type { ReportSection } from '../report-model/report-section.js';
import { html, type Html } from './html.js';

export function figures(sections: readonly ReportSection[]): Html {
  return html`${sections.map(
    (section) =>
      html`<section class="card wide" aria-label="${section.title}">
        <h2>${section.title}</h2>
        <div class="plain" tabindex="0" role="region" aria-label="${section.title}, table">
          <table>
            ${headOf(section)}
            <tbody>
              ${rowsOf(section)}
            </tbody>
          </table>
        </div>
      </section> `,
  )}`;
}

function headOf({ head }: ReportSection): Html | undefined {
  if (head === undefined) return undefined;
  const cells = head.map(
    (name) => html`<th scope="col">${name === '' ? html`<span class="unseen">more</span>` : name}</th>`,
  );
  return html`<thead>
    <tr>
      ${cells}
    </tr>
  </thead>`;
}

function rowsOf({ head, rows }: ReportSection): Html[] {
  return rows.flatMap(({ name, values }) => {
    // A series is drawn above; as text it would be a row of blocks.
    const texts = values.filter(({ kind }) => kind !== 'series').map(showQuantity);
    if (texts.length === 0) return [];
    const cells =
      head === undefined
        ? html`<td class="text">${texts.join(' · ')}</td>`
        : html`${head.slice(1).map((_, n) => html`<td>${texts[n] ?? ''}</td>`)}`;
    return [
      html`<tr>
        <th scope="row">${name.trim()}</th>
        ${cells}
      </tr> `,
    ];
  });
}
