/** Inputs that the fuzzer of the trace readers found, each with what must come of it now. */
import { expect, it } from 'vitest';
import { VirtualClock } from '../../src/replay/virtual-clock.js';
import { simulate } from '../../src/simulate/index.js';
import { read } from '../support/trace-fuzz.js';
import { simulatedTrace } from '../support/trace-fuzz-simulate.js';

const PIECE_BYTES = 65_536;

it('an error that lists devices shows a name with control characters on one clean line', async () => {
  const text =
    'fio version 2 iolog\n/tmp/t.img add\n/tmp/t.i\rg read 0 4096\n/tmp/t.img read 4096 4096\n/tmp/t.img close\n';
  const { error } = await read(Buffer.from(text), {}, PIECE_BYTES);
  expect(error).toBe(
    'BAD_TRACE standard input: holds requests of several devices: /tmp/t.i?g (1 request), /tmp/t.img (1 request); ' +
      'choose one with --device',
  );
});

it('an error that lists devices cuts long names off', async () => {
  const text = `fio version 2 iolog\n/${'a'.repeat(5000)} read 0 4096\n/b read 4096 4096\n`;
  const { error } = await read(Buffer.from(text), {}, PIECE_BYTES);
  expect(error).toContain(`/${'a'.repeat(99)}… (1 request), /b (1 request)`);
});

it.each([
  [
    'perf script',
    'fio   789 [000]  4455.092003:   block:block_bio_queue: 259,0 RA 8 + 8 [fio]\njbd2   412 [001]  4455.092013:  block:block_bio_queue:',
  ],
  [
    'tracefs',
    '# tracer: nop\n fio-789     [000] .....  4455.092003: block_bio_queue: 259,0 WS 64 + 128 [fio]\n       ',
  ],
])('%s text that ends within a line without a request says that it may have been cut', async (_, text) => {
  const { error, warnings, lines } = await read(Buffer.from(text), {}, PIECE_BYTES);
  expect(error).toBeUndefined();
  expect(lines).toHaveLength(1);
  expect(warnings).toEqual([expect.stringMatching(/: line \d, the last, .* does not end in a newline; .* cut$/)]);
});

it('a time with too many digits is malformed, so that a simulation of the rest ends', async () => {
  const text =
    '131000000003061629,lab,1,Read,40960000,32768,-413\n131000000016382155,lab,1,Write,20480512,20480,-413\n' +
    '131000000036300036382245,lab,1,Write,20480512,4096,-413\n';
  const { lines, counts, warnings } = await read(Buffer.from(text), {}, PIECE_BYTES);
  expect(counts).toMatchObject({ selected: 2, malformed: 1 });
  expect(warnings).toEqual(['standard input: line 3: its time is out of range; passed over']);
  const result = await simulate({ trace: simulatedTrace(lines), cacheBytes: 512 * 2 ** 20 });
  expect(result.requests.total).toBe(2);
});

it('a virtual clock moves on past a deadline that has come, however late it is', () => {
  const clock = new VirtualClock();
  for (const ms of [1, 1e12, 1e19]) {
    clock.moveTo(ms);
    clock.reach(ms);
    expect(clock.nowMs()).toBeGreaterThan(ms);
  }
});
