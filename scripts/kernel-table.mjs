/**
 * Vitest reporter of `npm run test:kernel`: ends a run with a table of what ran in which kernel.
 * A test belongs to the kernel that its title names, as `describeWithKernel` writes it: "… (Linux 7.2.13)".
 */
const KERNEL = /\(Linux ([^)]+)\)/;
const NO_KERNEL = 'any';
const SIGNS = { passed: 'passed', failed: 'FAILED', skipped: 'skipped' };

/** @param tests of a run: file, full title, state and duration in ms. @returns lines of a table, one for each test */
export function kernelTable(tests) {
  const rows = tests.map(({ file, title, state, durationMs }) => [
    KERNEL.exec(title)?.[1] ?? NO_KERNEL,
    SIGNS[state] ?? state,
    state === 'skipped' ? '' : `${Math.round(durationMs / 1000)} s`,
    `${file}: ${title.replace(KERNEL, '').replace(/\s+> /g, ': ')}`,
  ]);
  rows.sort((a, b) => (a[3] < b[3] ? -1 : a[3] > b[3] ? 1 : a[0] < b[0] ? -1 : 1));
  const all = [['kernel', 'result', 'time', 'test'], ...rows];
  const widths = [0, 1, 2].map((column) => Math.max(...all.map((row) => row[column].length)));
  return all
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

export default class KernelTable {
  onTestRunEnd(modules) {
    const tests = modules.flatMap((module) =>
      Array.from(module.children.allTests(), (test) => ({
        file: module.moduleId.replace(/^.*\//, '').replace(/\.test\.ts$/, ''),
        title: test.fullName,
        state: test.result().state,
        durationMs: test.diagnostic()?.duration ?? 0,
      })),
    );
    process.stdout.write(`\n${kernelTable(tests)}\n`);
  }
}
