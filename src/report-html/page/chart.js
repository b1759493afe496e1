// @ts-check
/* What all charts share: size, axes, the tooltip, and the cursor by keyboard. */

/**
 * @typedef {object} Tip what the tooltip says: a heading, and lines below it
 * @property {string} head
 * @property {string[]} lines
 */

const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';
const POWERS_OF_TWO = Array.from({ length: 60 }, (_, n) => 2 ** (n - 8));
/** Round times, ns: decimal up to seconds, then as on a clock. */
const ROUND_TIMES = [
  ...Array.from({ length: 10 }, (_, n) => [1, 2, 5].map((digit) => digit * 10 ** n)).flat(),
  ...[10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200].map((seconds) => seconds * 1e9),
  ...Array.from({ length: 12 }, (_, n) => 86400e9 * 2 ** n),
];

/**
 * An axis in a unit.
 * @param {string} unit
 * @param {string} scale
 * @param {Partial<uPlot.Axis>} [more]
 * @returns {uPlot.Axis}
 */
function axisOf(unit, scale, more = {}) {
  const steps = unit === 'time' ? ROUND_TIMES : unit.startsWith('bytes') ? POWERS_OF_TWO : undefined;
  return {
    scale,
    font: FONT,
    stroke: () => themeColour('muted'),
    grid: { stroke: () => themeColour('grid'), width: 1 },
    ticks: { stroke: () => themeColour('grid'), width: 1, size: 5 },
    values: (_, splits) => splits.map((value) => (value === null ? '' : value === 0 ? '0' : formatValue(value, unit))),
    ...(steps ? { incrs: steps } : {}),
    ...(scale === 'x' ? { space: 84, size: 34 } : { size: widthOfLabels, space: 40 }),
    ...more,
  };
}

/** Room for the labels of a vertical axis. @param {uPlot} plot @param {string[] | null} values */
function widthOfLabels(plot, values) {
  const longest = (values ?? []).reduce((most, text) => (text && text.length > most.length ? text : most), '');
  const ratio = devicePixelRatio || 1;
  plot.ctx.save();
  plot.ctx.font = FONT.replace('12px', `${12 * ratio}px`);
  const width = plot.ctx.measureText(longest).width / ratio;
  plot.ctx.restore();
  return Math.ceil(width) + 18;
}

/**
 * Puts a chart into its place, keeps it as wide as that is, and gives it a tooltip, by pointer, touch and arrow keys.
 * @param {HTMLElement} place
 * @param {uPlot.Options} options without width
 * @param {uPlot.AlignedData} data
 * @param {(plot: uPlot, left: number, top: number) => Tip | undefined} tipAt what to say of a place in the plot
 * @param {(plot: uPlot, dx: number, dy: number) => { left: number, top: number }} move where the cursor goes by a key
 */
function mountChart(place, options, data, tipAt, move) {
  const tip = document.createElement('div');
  tip.className = 'tip';
  tip.hidden = true;
  const spoken = document.createElement('div');
  spoken.className = 'unseen';
  spoken.setAttribute('aria-live', 'polite');
  let byKey = false;

  /** @param {uPlot} plot */
  const showTip = (plot) => {
    const { left = -1, top = -1 } = plot.cursor;
    const said = left < 0 || top < 0 ? undefined : tipAt(plot, left, top);
    tip.hidden = said === undefined;
    if (said === undefined) return;
    const head = document.createElement('b');
    head.textContent = said.head;
    tip.replaceChildren(head);
    for (const line of said.lines) {
      const element = document.createElement('div');
      element.textContent = line;
      tip.append(element);
    }
    if (byKey) spoken.textContent = [said.head, ...said.lines].join(', ');
    placeTip(tip, place, plot.over, left, top);
  };

  const plot = new uPlot(
    {
      ...options,
      width: Math.max(place.clientWidth, 200),
      legend: { show: false },
      hooks: { ...options.hooks, setCursor: [showTip] },
    },
    data,
    place,
  );
  place.append(tip, spoken);
  new ResizeObserver(() => {
    if (place.clientWidth > 0 && place.clientWidth !== plot.width) {
      plot.setSize({ width: place.clientWidth, height: options.height });
    }
  }).observe(place);

  place.addEventListener('keydown', (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    byKey = true;
    if (step) {
      event.preventDefault();
      plot.setCursor(move(plot, step[0], step[1]));
    } else if (event.key === 'Escape') {
      plot.setCursor({ left: -10, top: -10 });
    }
    byKey = false;
  });
  place.addEventListener('blur', () => plot.setCursor({ left: -10, top: -10 }));
  return plot;
}

/**
 * Beside the cursor, on the side where there is room, and never beyond the chart's place.
 * @param {HTMLElement} tip @param {HTMLElement} place @param {HTMLElement} over @param {number} left @param {number} top
 */
function placeTip(tip, place, over, left, top) {
  const [box, plot] = [place.getBoundingClientRect(), over.getBoundingClientRect()];
  const x = plot.left - box.left + left;
  const y = plot.top - box.top + top;
  const { offsetWidth: width, offsetHeight: height } = tip;
  const wanted = x + 14 + width <= box.width ? x + 14 : x - 14 - width;
  tip.style.left = `${Math.max(0, Math.min(wanted, box.width - width))}px`;
  tip.style.top = `${Math.max(0, Math.min(y - height / 2, box.height - height))}px`;
}
