/**
 * The report in a real browser: it loads without complaint and without asking the network for anything, its charts are
 * drawn, its tooltips follow the pointer and the arrow keys, its tables open, and it fits a phone, in both themes.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium, type Browser, type Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { runCli } from '../support/cli.js';
import { describeWithClient } from '../support/clients.js';

const TRACE = fileURLToPath(new URL('../../fixtures/traces/pgbench.blktrace', import.meta.url));
const PROBE = fileURLToPath(new URL('probe.js', import.meta.url));
const CHARTS_OF_A_REPLAY = 12;
const CHARTS_OF_A_CURVE = 4;
const CHARTS_OF_A_COMPARISON = 6;

vi.setConfig({ testTimeout: 90_000 });

const CHARTS = { replay: CHARTS_OF_A_REPLAY, curve: CHARTS_OF_A_CURVE, comparison: CHARTS_OF_A_COMPARISON };

type Theme = 'light' | 'dark';

describeWithClient('the report in Chromium', 'chromium', (executablePath) => {
  let folder: string;
  let browser: Browser;
  let files: { readonly replay: string; readonly curve: string; readonly comparison: string };

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'pcache-report-test-'));
    const at = (name: string) => join(folder, name);
    files = { replay: at('replay.html'), curve: at('curve.html'), comparison: at('comparison.html') };
    const replay = ['--cache-size', '512MiB', '--loop', '3', '--gc-percent', '30', '--report', files.replay];
    const saved = at('result_of_a_replay_whose_name_is_longer_than_a_phone_is_wide.json');
    await runCli(['replay', TRACE, ...replay, '--json'], { stdoutTo: saved });
    const comparison = [saved, saved, '--diff', '--report', files.comparison];
    for (const args of [comparison, [TRACE, '--sizes', '512MiB,1GiB', '--report', files.curve]]) {
      const run = await runCli(['replay', ...args]);
      expect(run.stderr).toBe('');
      expect(run.status).toBe(0);
    }
    // In CI it runs as root, where Chromium has no sandbox.
    browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-dev-shm-usage'] });
  }, 120_000);
  afterAll(async () => {
    await browser?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  /** Opens a report; whatever it complains of, or asks for beside itself, goes into the list. */
  async function open(file: string, theme: Theme = 'light', width = 1280): Promise<[Page, string[]]> {
    const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme: theme });
    await page.addInitScript({ path: PROBE });
    const troubles: string[] = [];
    page.on('console', (message) => troubles.push(`${message.type()}: ${message.text()}`));
    page.on('pageerror', (error) => troubles.push(error.message));
    page.on('request', (request) => {
      if (request.url() !== `file://${file}`) troubles.push(`request of ${request.url()}`);
    });
    await page.goto(`file://${file}`);
    await page.waitForTimeout(100); // uPlot draws in a microtask after its size is known
    return [page, troubles];
  }

  /** Asks the page something: see `probe.js`. */
  const probe = <Answer>(page: Page, call: string) => page.evaluate<Answer>(`probe.${call}`);

  it.each([
    ['replay', 'light', 1280],
    ['replay', 'dark', 1280],
    ['replay', 'light', 360],
    ['replay', 'dark', 360],
    ['curve', 'light', 1280],
    ['curve', 'dark', 360],
    ['comparison', 'light', 1280],
    ['comparison', 'dark', 360],
  ] as const)('%s, %s, %i pixels wide: draws everything, asks for nothing, fits', async (name, theme, width) => {
    const [page, troubles] = await open(files[name], theme, width);
    expect(troubles).toEqual([]);
    const charts = await probe<{ isMap: boolean; colours: number }[]>(page, 'colours()');
    expect(charts).toHaveLength(CHARTS[name]);
    for (const { isMap, colours } of charts) expect(colours).toBeGreaterThan(isMap ? 2 : 4);
    expect(await probe(page, 'width()')).toBeLessThanOrEqual(width);
    expect(await probe(page, 'columns()')).toBe(width < 800 ? 1 : 2);
    // With all tables open as well.
    await probe(page, 'openTables()');
    expect(await probe(page, 'width()')).toBeLessThanOrEqual(width);
    await page.close();
  });

  it('has a tooltip for lines and for maps that says what is there', async () => {
    const [page, troubles] = await open(files.replay);
    for (const [id, wanted] of [
      ['throughput', /^[\d.]+ m?s – [\d.]+ m?s\nreads: .*B\/s\nwrites: .*B\/s$/],
      ['latency-mean', /^[\d.]+ m?s – [\d.]+ m?s\nread hit: .*\n.*\nwrite: /],
      ['latency', /^[\d.,]+ [nµm]?s – [\d.,]+ [nµm]?s\n.*write: [\d,]+/s],
      ['segments', /^.* – .*\nsegment \d+\n(free|log|clean|dirty|collected)$/],
      ['addresses-writes', /^.* – .*\naddress .* – .*\n[\d,]+ writes$/],
    ] as const) {
      const over = page.locator(`#plot-${id} .u-over`);
      await over.scrollIntoViewIfNeeded();
      const box = (await over.boundingBox())!;
      const tip = page.locator(`#plot-${id} .tip`);
      for (const part of [0.02, 0.5, 0.98]) {
        await page.mouse.move(box.x + box.width * part, box.y + box.height * 0.5);
        expect(await tip.innerText()).toMatch(wanted);
        const place = (await page.locator(`#plot-${id}`).boundingBox())!;
        const inside = (await tip.boundingBox())!;
        expect(inside.x).toBeGreaterThanOrEqual(place.x - 1);
        expect(inside.x + inside.width).toBeLessThanOrEqual(place.x + place.width + 1);
      }
      await page.mouse.move(0, 0);
      expect(await tip.isVisible()).toBe(false);
    }
    expect(troubles).toEqual([]);
    await page.close();
  });

  it('goes by keyboard: charts, values, tables, theme', async () => {
    const [page] = await open(files.replay);
    for (const [id, key] of [
      ['requests', 'ArrowRight'],
      ['dirty', 'ArrowRight'],
      ['segments', 'ArrowUp'],
    ]) {
      await page.locator(`#plot-${id}`).focus();
      const said = new Set<string>();
      for (let n = 0; n < 4; n++) {
        await page.keyboard.press(key);
        said.add(await page.locator(`#plot-${id} .tip`).innerText());
      }
      expect(said.size).toBe(4);
      expect(await page.locator(`#plot-${id} [aria-live]`).textContent()).toContain([...said].at(-1)!.split('\n')[0]);
      await page.keyboard.press('Escape');
      expect(await page.locator(`#plot-${id} .tip`).isVisible()).toBe(false);
    }
    const summary = page.locator('section:has(#plot-throughput) summary');
    await summary.focus();
    await page.keyboard.press('Enter');
    const table = page.locator('section:has(#plot-throughput) table');
    expect(await table.isVisible()).toBe(true);
    expect(await table.locator('tbody tr').count()).toBeGreaterThan(30);
    await page.close();
  });

  it('switches the theme against that of the system, charts included', async () => {
    const [page] = await open(files.replay, 'light');
    const background = () => probe<string>(page, 'background()');
    const image = () => probe<string>(page, "image('segments')");
    const [lightBackground, lightImage] = [await background(), await image()];
    await page.getByLabel('Dark').check();
    await page.waitForTimeout(50);
    expect(await background()).not.toBe(lightBackground);
    expect(await image()).not.toBe(lightImage);
    await page.reload();
    expect(await background()).not.toBe(lightBackground);
    await page.getByLabel('System').check();
    expect(await background()).toBe(lightBackground);
    await page.close();
  });

  it.each(['light', 'dark'] as const)('has text that can be read: contrast of WCAG AA, %s', async (theme) => {
    const [page] = await open(files.replay, theme);
    const { ratio, text } = await probe<{ ratio: number; text: string }>(page, 'leastContrast()');
    expect(ratio, text).toBeGreaterThanOrEqual(4.5);
    await page.close();
  });
});
