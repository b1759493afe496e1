/** The dashboard and the alert rules in docs/monitoring ask for metrics that attach has. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PCACHE, runCli } from '../support/cli.js';

interface Dashboard {
  readonly panels: readonly {
    readonly title: string;
    readonly targets: readonly { readonly expr: string }[];
  }[];
  readonly templating: { readonly list: readonly { readonly query: string | { readonly query: string } }[] };
}

const dashboardText = readFileSync('docs/monitoring/grafana-dashboard.json', 'utf8');
const rulesText = readFileSync('docs/monitoring/prometheus-alerts.yml', 'utf8');

let folder: string;
/** Series of an attached cache: names with their suffixes, and the values of their labels. */
let series: Set<string>;
let labels: Set<string>;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pcache-monitoring-'));
  const [cache, back, text] = ['cache', 'back', 'metrics'].map((name) => join(folder, name));
  await runCli(['format', cache, '--size', '512MiB']);
  execFileSync('truncate', ['-s', '16M', back]);
  const print = `'${process.execPath}' '${PCACHE}' status --socket "$PCACHE_SOCKET" --prometheus >'${text}'`;
  const { status, stderr } = await runCli(['attach', cache, back, '--exec', print]);
  expect(status, stderr).toBe(0);
  const lines = readFileSync(text, 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));
  series = new Set(lines.map((line) => /^[a-z_]+/.exec(line)![0]));
  labels = new Set(lines.flatMap((line) => line.match(/\w+="[^"]*"/g) ?? []));
  expect(series.size).toBeGreaterThan(40);
}, 60_000);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const metricsIn = (text: string): string[] => text.match(/\bpcache_[a-z_]+/g) ?? [];
const labelsIn = (text: string): string[] => text.match(/\b(?:kind|quantile)="[^"]*"/g) ?? [];

describe('the dashboard', () => {
  const { panels, templating } = JSON.parse(dashboardText) as Dashboard;

  it('asks for metrics and labels that an attached cache has', () => {
    for (const { title, targets } of panels) {
      expect(targets.length, title).toBeGreaterThan(0);
      for (const { expr } of targets) {
        expect(metricsIn(expr), title).not.toEqual([]);
        for (const name of metricsIn(expr)) expect(series, title).toContain(name);
        for (const label of labelsIn(expr)) expect(labels, title).toContain(label);
      }
    }
    for (const { query } of templating.list) {
      for (const name of metricsIn(typeof query === 'string' ? query : query.query)) expect(series).toContain(name);
    }
  });
});

describe('the alert rules', () => {
  const alerts = [...rulesText.matchAll(/^ {6}- alert: (\w+)$/gm)].map((match) => match[1]);

  it('ask for metrics that an attached cache has', () => {
    const expressions = rulesText.replaceAll(/^#.*$/gm, '').replaceAll(/^ +(?:summary|description):.*$/gm, '');
    expect(metricsIn(expressions).length).toBeGreaterThan(alerts.length - 1);
    for (const name of metricsIn(expressions)) expect(series).toContain(name);
  });

  it('are each explained in docs/in-production.md, and no other is', () => {
    expect(alerts.length).toBeGreaterThan(5);
    const explained = [...readFileSync('docs/in-production.md', 'utf8').matchAll(/^\| `(Pcache\w+)`/gm)];
    expect(explained.map((match) => match[1])).toEqual(alerts);
  });
});
