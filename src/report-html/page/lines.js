// @ts-check
/* Line charts: something over time, over size, or over latency. */

/**
 * @typedef {object} LineSeries
 * @property {string} label
 * @property {string} colour name of a custom property
 * @property {'solid' | 'dashed' | 'dotted'} dash
 * @property {(number | null)[]} values
 *
 * @typedef {object} LineChart
 * @property {'lines'} kind
 * @property {string} id
 * @property {{ label: string, unit: string, scale: 'linear' | 'log10' | 'log2', values: number[] }} x
 * @property {{ label: string, unit: string, max?: number, scale?: 'log10' }} y
 * @property {'steps' | 'points' | 'plain'} style of steps each value holds until the next x
 * @property {LineSeries[]} series
 */

const DASHES = { solid: [], dashed: [7, 5], dotted: [2, 4] };

/** @param {HTMLElement} place @param {LineChart} chart */
function drawLines(place, chart) {
  const { x, y, series, style } = chart;
  const paths = uPlot.paths.linear?.();
  /** @type {uPlot.Options} */
  const options = {
    width: 0,
    height: innerWidth < 480 ? 200 : 230,
    // The label of the last mark on the x axis is centred on the edge.
    padding: [12, 36, 0, 0],
    scales: { x: xScaleOf(x, style), y: yScaleOf(y) },
    axes: [xAxisOf(x), axisOf(y.unit, 'y', y.scale ? { filter: powersOfTen } : {})],
    cursor: { y: false, drag: { setScale: false, x: false, y: false }, points: { size: 7 } },
    series: [
      {},
      ...series.map(({ label, colour, dash }) => ({
        label,
        paths,
        stroke: () => themeColour(colour),
        ...(style === 'points' ? {} : { fill: () => `${themeColour(colour)}1f` }),
        width: 1.75,
        dash: DASHES[dash],
        points: { show: style === 'points', size: 7, fill: () => themeColour(colour) },
        spanGaps: style === 'points',
      })),
    ],
  };
  /** @type {(plot: uPlot, left: number) => Tip | undefined} */
  const tipAt = (plot, left) => {
    const n = indexAt(plot, left, style, x.values);
    const head =
      style === 'steps' && n + 1 < x.values.length
        ? `${formatValue(x.values[n], x.unit)} – ${formatValue(x.values[n + 1], x.unit)}`
        : formatValue(x.values[n], x.unit);
    return { head, lines: series.map(({ label, values }) => `${label}: ${formatValue(values[n], y.unit)}`) };
  };
  const last = x.values.length - (style === 'steps' ? 2 : 1);
  /** @type {(number | null)[][]} */
  const columns = series.map(({ values }) => values);
  const data = style === 'steps' ? [edgesOf(x.values), ...columns.map(topsOf)] : [x.values, ...columns];
  return mountChart(place, options, /** @type {uPlot.AlignedData} */ (data), tipAt, (plot, dx) => {
    const { left = -1 } = plot.cursor;
    const now = left < 0 ? (dx > 0 ? -1 : last + 1) : indexAt(plot, left, style, x.values);
    const n = Math.max(0, Math.min(last, now + dx));
    const at = plot.valToPos(x.values[n], 'x');
    const next = style === 'steps' ? plot.valToPos(x.values[n + 1], 'x') : at;
    return { left: (at + next) / 2, top: plot.over.clientHeight / 3 };
  });
}

/**
 * Steps are drawn as lines over both edges of each, so that one between two gaps has a top and a fill as well.
 * @param {number[]} xs where each step begins, and where the last ends @returns {number[]}
 */
function edgesOf(xs) {
  return xs.slice(1).flatMap((end, n) => [xs[n], end]);
}

/** @param {(number | null)[]} values of the steps, and one more @returns {(number | null)[]} */
function topsOf(values) {
  return values.slice(0, -1).flatMap((value) => [value, value]);
}

/** Which value is meant by a place: of steps the one that begins before it, else the nearest. @param {uPlot} plot @param {number} left @param {string} style @param {number[]} xs */
function indexAt(plot, left, style, xs) {
  if (style !== 'steps') return plot.posToIdx(left);
  const value = plot.posToVal(left, 'x');
  let n = 0;
  while (n < xs.length - 2 && xs[n + 1] <= value) n++;
  return n;
}

/** A round number that nothing is above. @param {number | null} max */
function niceTop(max) {
  return max === null || !(max > 0) ? 1 : max * 1.08;
}

/** From 0, or on a logarithmic scale from one power of ten to another. @param {LineChart['y']} y @returns {uPlot.Scale} */
function yScaleOf({ max: most, scale }) {
  if (!scale) return { range: (_, __, max) => [0, most ?? niceTop(max)] };
  return {
    distr: 3,
    log: 10,
    range: (_, min, max) => {
      const bottom = Math.floor(Math.log10(Math.max(min ?? 1, 1)));
      return [10 ** bottom, 10 ** Math.max(bottom + 1, Math.ceil(Math.log10(Math.max(max ?? 1, 1))))];
    },
  };
}

/** Leaves the marks between the powers of ten without a label. @param {uPlot} _ @param {number[]} splits */
function powersOfTen(_, splits) {
  return splits.map((value) => (Number.isInteger(Math.log10(value)) ? value : null));
}

/** Time begins at 0; points keep off the edges. @param {LineChart['x']} x @param {string} style @returns {uPlot.Scale} */
function xScaleOf({ scale, values }, style) {
  const [first, last] = [values[0], values[values.length - 1]];
  if (scale === 'linear') return { time: false, range: [0, Math.max(last, 1)] };
  const margin = style === 'points' ? 1.2 : 1;
  return { time: false, distr: 3, log: scale === 'log2' ? 2 : 10, range: [first / margin, last * margin] };
}

/** A logarithmic scale is marked at its powers, or every few of them where there are many. @param {LineChart['x']} x @returns {uPlot.Axis} */
function xAxisOf({ unit, scale }) {
  if (scale === 'linear') return axisOf(unit, 'x');
  const base = scale === 'log2' ? 2 : 10;
  return axisOf(unit, 'x', {
    splits: (plot, _, min, max) => {
      const first = Math.ceil(Math.log(min) / Math.log(base) - 1e-9);
      const last = Math.floor(Math.log(max) / Math.log(base) + 1e-9);
      const stride = Math.max(1, Math.ceil(((last - first + 1) * 72) / plot.width));
      return Array.from({ length: Math.floor((last - first) / stride) + 1 }, (_, n) => base ** (first + n * stride));
    },
    filter: (_, splits) => splits,
  });
}
