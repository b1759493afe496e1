// @ts-check
/* Starts the page: draws each chart into its place, and switches the theme. */

const THEME_KEY = 'pcache-report-theme';

/** @type {(LineChart | MapChart)[]} */
const charts = JSON.parse(document.getElementById('charts')?.textContent ?? '[]');
/** @type {uPlot[]} */
const plots = [];
for (const chart of charts) {
  const place = document.getElementById(`plot-${chart.id}`);
  if (place) plots.push(chart.kind === 'lines' ? drawLines(place, chart) : drawMap(place, chart));
}

const redraw = () => {
  for (const plot of plots) plot.redraw(false);
};

/** A choice that is remembered where the browser allows it. @param {string} theme */
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem(THEME_KEY, theme);
  } catch {
    // then it holds until the page is closed
  }
  redraw();
}

function rememberedTheme() {
  try {
    return localStorage.getItem(THEME_KEY);
  } catch {
    return null;
  }
}

for (const input of document.querySelectorAll('fieldset.theme input')) {
  if (!(input instanceof HTMLInputElement)) continue;
  input.addEventListener('change', () => setTheme(input.value));
  if (input.value === rememberedTheme()) {
    input.checked = true;
    setTheme(input.value);
  }
}
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
