/**
 * Replays a trace through temporary devices, prints the hit ratio and writes an HTML report.
 *
 *     node replay-report.js TRACE REPORT.html
 */
import { writeFileSync } from 'node:fs';
import { argv } from 'node:process';
import { replayReport, replayTrace, reportPage } from 'pcache';

const [tracePath, reportPath] = argv.slice(2);

const result = await replayTrace({ tracePath, onWarning: (message) => console.error(message) });
for (const { title, rows } of replayReport(result)) console.log(`${title}: ${rows.length} rows`);
writeFileSync(reportPath, reportPage(result));
console.log(`${reportPath} written`);
