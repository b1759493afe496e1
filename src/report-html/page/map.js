// @ts-check
/* Maps: a cell for each row and step of time, coloured by state or by how much. */

/**
 * @typedef {object} MapChart
 * @property {'map'} kind
 * @property {string} id
 * @property {{ unit: string, step: number, end: number }} x
 * @property {{ unit: string, step: number, label: string }} y
 * @property {string[]} [states] rows of letters
 * @property {Record<string, { name: string, colour: string }>} [letters]
 * @property {number[][]} [counts] rows of numbers
 * @property {number} [top] the largest number of this and of the maps beside it
 * @property {string} [noun] what is counted
 */

const NO_GRID = { grid: { show: false } };

/** @param {HTMLElement} place @param {MapChart} chart */
function drawMap(place, chart) {
  const { x, y } = chart;
  const rows = (chart.states ?? chart.counts ?? []).length;
  const columns = (chart.states?.[0] ?? chart.counts?.[0] ?? []).length;
  const yEnd = rows * y.step;
  /** @type {uPlot.Options} */
  const options = {
    width: 0,
    height: 300,
    padding: [12, 12, 0, 0],
    scales: { x: { time: false, range: [0, x.end] }, y: { range: [0, yEnd] } },
    axes: [axisOf(x.unit, 'x', NO_GRID), axisOf(y.unit, 'y', NO_GRID)],
    cursor: { drag: { setScale: false, x: false, y: false }, points: { show: false } },
    series: [{}, { paths: () => null, points: { show: false } }],
    hooks: { drawClear: [(plot) => paintCells(plot, chart, rows, columns)] },
  };
  /** @param {uPlot} plot @param {number} left @param {number} top */
  const cellAt = (plot, left, top) => ({
    column: Math.max(0, Math.min(columns - 1, Math.floor(plot.posToVal(left, 'x') / x.step))),
    row: Math.max(0, Math.min(rows - 1, Math.floor(plot.posToVal(top, 'y') / y.step))),
  });
  return mountChart(
    place,
    options,
    [
      [0, x.end],
      [null, null],
    ],
    (plot, left, top) => {
      const { row, column } = cellAt(plot, left, top);
      const from = formatValue(column * x.step, x.unit);
      const to = formatValue(Math.min((column + 1) * x.step, x.end), x.unit);
      return { head: `${from} – ${to}`, lines: [rowName(chart, row), cellText(chart, row, column)] };
    },
    (plot, dx, dy) => {
      const { left = -1, top = -1 } = plot.cursor;
      const cell = left < 0 ? { row: 0, column: 0 } : cellAt(plot, left, top);
      const column = left < 0 ? 0 : Math.max(0, Math.min(columns - 1, cell.column + dx));
      const row = left < 0 ? 0 : Math.max(0, Math.min(rows - 1, cell.row + dy));
      return {
        left: plot.valToPos(Math.min((column + 0.5) * x.step, x.end), 'x'),
        top: plot.valToPos((row + 0.5) * y.step, 'y'),
      };
    },
  );
}

/** @param {MapChart} chart @param {number} row */
function rowName({ y }, row) {
  const [from, to] = [row * y.step, (row + 1) * y.step];
  if (y.unit === 'bytes') return `${y.label} ${formatBytes(from)} – ${formatBytes(to)}`;
  return y.step === 1 ? `${y.label} ${from}` : `${y.label}s ${from} – ${to - 1}`;
}

/** @param {MapChart} chart @param {number} row @param {number} column */
function cellText({ states, letters, counts, noun }, row, column) {
  if (states && letters) return letters[states[row][column]].name;
  return `${formatNumber(counts?.[row][column] ?? 0)} ${noun}`;
}

/** @param {uPlot} plot @param {MapChart} chart @param {number} rows @param {number} columns */
function paintCells(plot, chart, rows, columns) {
  const { ctx, bbox } = plot;
  const colourOf = chart.states ? stateColours(chart) : countColours(chart.top ?? 1);
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  for (let row = 0; row < rows; row++) {
    const top = Math.round(plot.valToPos((row + 1) * chart.y.step, 'y', true));
    const bottom = Math.round(plot.valToPos(row * chart.y.step, 'y', true));
    for (let column = 0; column < columns; column++) {
      const left = Math.round(plot.valToPos(column * chart.x.step, 'x', true));
      const right = Math.round(plot.valToPos((column + 1) * chart.x.step, 'x', true));
      ctx.fillStyle = colourOf(chart.states ? chart.states[row][column] : (chart.counts?.[row][column] ?? 0));
      ctx.fillRect(left, top, right - left, bottom - top);
    }
  }
  ctx.restore();
}

/** @param {MapChart} chart @returns {(letter: string | number) => string} */
function stateColours({ letters = {} }) {
  const colours = new Map(Object.entries(letters).map(([letter, { colour }]) => [letter, themeColour(colour)]));
  return (letter) => colours.get(String(letter)) ?? '';
}

/** Logarithmic: a single request is seen beside thousands. @param {number} top @returns {(count: string | number) => string} */
function countColours(top) {
  const none = themeColour('heat-none');
  const stops = ['heat-low', 'heat-mid', 'heat-high'].map((name) => rgbOf(themeColour(name)));
  return (count) => {
    if (Number(count) === 0) return none;
    const share = top <= 1 ? 1 : Math.log(Number(count)) / Math.log(top);
    const from = share < 0.5 ? 0 : 1;
    const part = share * 2 - from;
    return `rgb(${stops[from].map((value, n) => Math.round(value + (stops[from + 1][n] - value) * part)).join(' ')})`;
  };
}

/** @param {string} hex `#rrggbb` */
function rgbOf(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}
