// @ts-check
/* Numbers for people, in the page: axes and tooltips. The tables come ready from whoever wrote the page. */

const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** @param {number} value @param {number} [digits] */
function formatNumber(value, digits = 1) {
  return value.toLocaleString('en-US', { maximumFractionDigits: digits });
}

/** @param {number} bytes */
function formatBytes(bytes) {
  let unit = 0;
  while (unit < BYTE_UNITS.length - 1 && Math.abs(bytes) >= 1024 ** (unit + 1)) unit++;
  return `${formatNumber(bytes / 1024 ** unit)} ${BYTE_UNITS[unit]}`;
}

/** A duration or a point in time. @param {number} ns */
function formatTime(ns) {
  const size = Math.abs(ns);
  if (size === 0) return '0';
  if (size < 1e3) return `${formatNumber(ns)} ns`;
  if (size < 1e6) return `${formatNumber(ns / 1e3, 2)} µs`;
  if (size < 1e9) return `${formatNumber(ns / 1e6, 2)} ms`;
  if (size < 120e9) return `${formatNumber(ns / 1e9, 2)} s`;
  const seconds = Math.round(ns / 1e9);
  /** @param {number} part */
  const two = (part) => String(part).padStart(2, '0');
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m ${two(seconds % 60)}s`;
  return `${Math.floor(seconds / 3600)}h ${two(Math.floor((seconds % 3600) / 60))}m`;
}

/** A value of a chart in its unit. @param {number | null | undefined} value @param {string} unit */
function formatValue(value, unit) {
  if (value === null || value === undefined || Number.isNaN(value)) return '–';
  switch (unit) {
    case 'time':
      return formatTime(value);
    case 'bytes':
      return formatBytes(value);
    case 'bytes/s':
      return `${formatBytes(value)}/s`;
    case 'percent':
      return `${formatNumber(value)} %`;
    case 'times':
      return `${formatNumber(value, 2)} ×`;
    case 'per-second':
      return `${formatNumber(value, value < 10 ? 1 : 0)}/s`;
    default:
      return formatNumber(value);
  }
}

/** The value of a custom property of the theme that is on. @param {string} name */
function themeColour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
