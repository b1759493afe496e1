/* What the tests of the report ask of the page: put into it before it loads, as `probe`. */
globalThis.probe = {
  /** How many different colours each chart has between its axes: an empty one has its grid's, an empty map has one. */
  colours: () =>
    [...document.querySelectorAll('.plot')].map((plot) => {
      const canvas = plot.querySelector('canvas');
      const [all, inner] = [canvas.getBoundingClientRect(), plot.querySelector('.u-over').getBoundingClientRect()];
      const { data } = canvas
        .getContext('2d')
        .getImageData(inner.x - all.x + 1, inner.y - all.y + 1, inner.width - 2, inner.height - 2);
      return { isMap: plot.classList.contains('map'), colours: new Set(new Uint32Array(data.buffer)).size };
    }),

  /** How wide the page is, and how many columns its cards stand in. */
  width: () => document.documentElement.scrollWidth,
  columns: () =>
    new Set([...document.querySelectorAll('.card')].map((card) => Math.round(card.getBoundingClientRect().left))).size,

  openTables: () => {
    for (const details of document.querySelectorAll('details')) details.open = true;
  },

  background: () => getComputedStyle(document.body).backgroundColor,
  image: (id) => document.querySelector(`#plot-${id} canvas`).toDataURL(),

  /** The least contrast of any text with what is behind it, after WCAG 2. */
  leastContrast: () => {
    const numbers = (colour) => (colour.match(/[\d.]+/g) ?? []).map(Number);
    const luminance = (colour) => {
      const [r, g, b] = numbers(colour).map((value) => {
        const part = value / 255;
        return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
      });
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const backgroundOf = (element) => {
      for (let at = element; at !== null; at = at.parentElement) {
        const colour = getComputedStyle(at).backgroundColor;
        if (numbers(colour)[3] !== 0) return colour;
      }
      return 'rgb(255, 255, 255)';
    };
    let least = { ratio: Infinity, text: '' };
    for (const element of document.querySelectorAll('h1, h2, p, li, dt, dd div, thead th, summary, label span')) {
      const [a, b] = [luminance(getComputedStyle(element).color), luminance(backgroundOf(element))];
      const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      if (ratio < least.ratio) least = { ratio, text: element.textContent };
    }
    return least;
  },
};
