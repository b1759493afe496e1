/** A small sample of every kind of text trace, and what must come of it. Those of docs/traces.md are among them. */
import { tableOfColumns } from '../../src/trace/columns.js';
import type { TraceCounts, TraceOptions } from '../../src/trace/index.js';

/** Reads, writes, flushes, discards. */
export type Requests = readonly [number, number, number, number];
export interface Kind {
  readonly name: string;
  readonly text: string;
  readonly format: string;
  readonly requests: Requests;
  /** From the first request to the last. */
  readonly durationNs: number;
  readonly counts?: Partial<TraceCounts>;
  readonly options?: Partial<TraceOptions>;
}

const MSR_LINES = ['128166372000000000,web,2,Read,4096,8192,413', '128166372000010000,web,2,Write,12288,4096,99'];
const msr = (name: string, lines: readonly string[]): Kind => ({
  name: `MSR ${name}`,
  text: `${lines.join('\n')}\n`,
  format: 'MSR Cambridge CSV',
  requests: [1, 1, 0, 0],
  durationNs: 1_000_000,
});
const MSR_HEADER = 'Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime';
const csv = (name: string, text: string, durationNs: number): Kind => ({
  name: `our CSV ${name}`,
  text,
  format: 'pcache CSV',
  requests: [1, 1, 0, 0],
  durationNs,
});
const OWN_HEADER = 'time_ns,op,offset_bytes,length_bytes';
const blkparse = (name: string, text: string, requests: Requests, rest: Partial<Kind> = {}): Kind => ({
  name: `blkparse text ${name}`,
  text,
  format: 'blkparse text',
  requests,
  durationNs: 0,
  ...rest,
});
const EVENT = '8,0    0        1     0.000000000   135  Q';
const BLKPARSE_SUMMARY = Array.from({ length: 24 }, (_, cpu) => `CPU${cpu} (sda):\n Reads Queued: 0, 0KiB\n`).join('');

export const KINDS: readonly Kind[] = [
  msr('without a header', MSR_LINES),
  msr(
    'with a comma behind the last field',
    MSR_LINES.map((line) => `${line},`),
  ),
  msr(
    'with negative response times',
    MSR_LINES.map((line) => line.replace(/\d+$/, '-413')),
  ),
  msr(
    'with fractional response times',
    MSR_LINES.map((line) => `${line}.25`),
  ),
  msr('in quotes', [MSR_HEADER, ...MSR_LINES.map((line) => `"${line.replaceAll(',', '","')}"`)]),
  msr('with an index column', [`,${MSR_HEADER}`, ...MSR_LINES.map((line, i) => `${i},${line}`)]),
  msr(
    'with R and W',
    MSR_LINES.map((line) => line.replace('Read', 'R').replace('Write', 'W')),
  ),
  msr(
    'with 0 and 1',
    MSR_LINES.map((line) => line.replace('Read', '0').replace('Write', '1')),
  ),
  msr(
    'with tabs',
    MSR_LINES.map((line) => line.replaceAll(',', '\t')),
  ),
  msr(
    'with semicolons',
    MSR_LINES.map((line) => line.replaceAll(',', ';')),
  ),
  msr(
    'with spaces behind the commas',
    MSR_LINES.map((line) => line.replaceAll(',', ', ')),
  ),
  msr('with a repeated header', [MSR_HEADER, MSR_LINES[0], MSR_HEADER, MSR_LINES[1]]),
  msr('with a byte order mark', [`\ufeff${MSR_HEADER}`, ...MSR_LINES]),
  csv('with decimal points', `${OWN_HEADER}\n0.0,write,4096.0,8192.0\n7.0,read,0,512\n`, 7),
  csv('with scientific notation', `${OWN_HEADER}\n0,write,4.096e3,8192\n1e3,read,0,5.12E2\n`, 1000),
  csv('with quoted operations', `${OWN_HEADER}\n0,"write",4096,8192\n1,"read",0,512\n`, 1),
  csv('with spaces', 'time_ns, op, offset_bytes, length_bytes\n0, write, 4096, 8192\n1, read, 0, 512\n', 1),
  csv('with hexadecimal offsets', `${OWN_HEADER}\n0,write,0x1000,8192\n1,read,0x0,0x200\n`, 1),
  csv('that reaches to 2 PiB', `${OWN_HEADER}\n0,write,0,4096\n1,read,2251799813685248,4096\n`, 1),
  blkparse(
    'of blkparse -f, where flushes have + 0',
    `${EVENT}  WS 8 + 8 [x]\n${EVENT} FWS 0 + 0 [x]\n${EVENT} FWS [x]\n${EVENT}  FN 18446744073709551615 + 0 [x]\n`,
    [0, 1, 3, 0],
  ),
  blkparse('with a tab behind RWBS', `${EVENT}  WS\t8 + 8 [x]\n`, [0, 1, 0, 0]),
  blkparse('shorter than its summary', `${EVENT}   R 0 + 8 [(null)]\n${BLKPARSE_SUMMARY}`, [1, 0, 0, 0]),
  blkparse(
    'of blkparse -s, twice in one file',
    `${EVENT}   R 0 + 8 [x]\nmkfs.ext4 (90)\n Reads Queued: 1\n\nTotal (sda):\n${EVENT}   W 8 + 8 [x]\nCPU0 (sda):\n`,
    [1, 1, 0, 0],
  ),
  blkparse(
    'of a zoned device: appends are writes, management is counted',
    `${EVENT}  ZA 8 + 8 [x]\n${EVENT} ZAS 8 + 8 [x]\n${EVENT} ZRS 0 + 0 [x]\n${EVENT}  ZO 0 + 0 [x]\n`,
    [0, 2, 0, 0],
    { counts: { zoneManagement: 2 } },
  ),
  blkparse(
    'with the flags of new kernels',
    `${EVENT}  WZ 8 + 8 [x]\n${EVENT}  DE 8 + 8 [x]\n${EVENT} WFSU 8 + 8 [x]\n${EVENT} FWFSM 8 + 8 [x]\n${EVENT} RAM 8 + 8 [x]\n${EVENT}  FF [x]\n${EVENT}   F [x]\n`,
    [1, 3, 2, 1],
    { counts: { fuas: 2, preflushes: 1 } },
  ),
  blkparse(
    'with requests that were given back and issued again',
    [
      'D  FN [k]',
      'R  FN 0 [0]',
      'D  FN [k]',
      'D  WS 8 + 8 [k]',
      'R  WS 8 + 8 [0]',
      'D  WS 8 + 16 [k]',
      'D  WS 8 + 8 [k]',
    ]
      .map((what, i) => `8,0    0  ${i + 1}   0.00000000${i}  73  ${what}\n`)
      .join(''),
    [0, 2, 1, 0],
    { options: { action: 'issue' }, durationNs: 6, counts: { requeued: 2 } },
  ),
  {
    name: 'tracepoints of tracefs and trace-cmd',
    text:
      '# tracer: nop\n#\n' +
      '             fio-789     [000] .....  4455.092003: block_rq_issue: 259,0 WS 65536 () 64 + 128 none,0,0 |32768| [fio]\n' +
      '             fio-789     [000] .....  4455.092004: sched_switch: prev_comm=fio\n' +
      '          <idle>-0       [001] d..1.  4455.500000: block_rq_complete: 259,0 WS () 64 + 128 none,0,0 [0]\n' +
      '    kworker/0:1H-94      [000] ...1.  4456.092003: block_rq_issue: 259,0 FF 0 () 0 + 0 none,0,0 [kworker/0:1H]\n' +
      '              sg-12      [000] ...1.  4456.092004: block_rq_issue: 259,0 N 36 (12 00 00 00 24 00) 0 + 0 [sg]\n',
    format: 'tracepoints as text',
    requests: [0, 1, 1, 0],
    durationNs: 1e9,
    counts: { otherActions: 2, passthrough: 1 },
    options: { action: 'issue' },
  },
  {
    name: 'perf script',
    text:
      'fio   789 [000]  4455.092003:          1 block:block_bio_queue: 259,0 RA 8 + 8 [fio]\n' +
      'jbd2/vda1-8   412 [001]  4455.092013:  block:block_bio_queue: 259,0 FWFSM 16 + 8 [jbd2/vda1-8]\n',
    format: 'tracepoints as text',
    requests: [1, 1, 0, 0],
    durationNs: 10_000,
  },
  {
    name: "ftrace's blk tracer",
    text:
      '             fio-789     [000] .....  4455.092003: 259,0    Q  WS 64 + 128 [fio]\n' +
      '             fio-789     [000] .....  4455.092004: 259,0    D  WS 64 + 128 [fio]\n' +
      '             fio-789     [000] .....  4455.092013: 259,0    Q FWS [fio]\n',
    format: "text of ftrace's blk tracer",
    requests: [0, 1, 1, 0],
    durationNs: 10_000,
    counts: { otherActions: 1 },
  },
  {
    name: 'biosnoop of bcc',
    text:
      'TIME(s)     COMM           PID     DISK      T SECTOR     BYTES  QUE(ms) LAT(ms)\n' +
      '0.000000    a b c          1811    vdb       W 4196352    8192      0.01    0.41\n' +
      '0.013842    proc0          1811    vdb       R 1048576    16384     0.02    1.20\n' +
      '0.020000    kworker        9126              R 18446744073709551615 0  0.00 0.61\n',
    format: 'biosnoop text',
    requests: [1, 1, 0, 0],
    durationNs: 13_842_000,
    counts: { skippedZeroLength: 1 },
  },
  {
    name: "SYSTOR '17",
    text:
      'Timestamp,Response,IOType,LUN,Offset,Size\n1456135200.013118000,0.001200000,R,4,8192,131072\n' +
      '1456135200.113118000,0.000806000,W,4,8192,4096\n1456135202.013118000,0.001000000,,4,4096,4096\n',
    format: "SYSTOR '17 CSV",
    requests: [1, 1, 0, 0],
    durationNs: 100_000_000,
    counts: { withoutOperation: 1 },
  },
  {
    name: 'UMass SPC',
    text: '0,303567,3584,w,0.000000\n0,55590,3072,R,0.026214\n',
    format: 'SPC trace (UMass)',
    requests: [1, 1, 0, 0],
    durationNs: 26_214_000,
  },
  {
    name: 'FIU',
    text:
      '89966184018471 4892 syslogd 904265560 8 W 6 0 531e779000000000000000000000000a\n' +
      '89966184018571 4892 syslogd 904265568 16 R 6 0 531e779000000000000000000000000b\n',
    format: 'FIU trace',
    requests: [1, 1, 0, 0],
    durationNs: 100,
  },
  {
    name: 'DiskSim',
    text: '0.000000 1 524288 16 0\n1.500000 1 524304 16 1\n',
    format: 'DiskSim ASCII trace',
    requests: [1, 1, 0, 0],
    durationNs: 1_500_000,
  },
  {
    name: 'MQSim',
    text: '4851300 1 524288 16 0\n4864300 1 524304 16 0\n4871300 1 524320 16 1\n',
    format: 'MQSim ASCII trace',
    requests: [1, 2, 0, 0],
    durationNs: 20_000,
  },
  {
    name: 'Open CAS iotrace',
    text:
      'device.id,device.name,file.path,header.sid,header.timestamp,io.error,io.flush,io.fua,io.lba,io.len,io.operation\n' +
      '8388608,sda,,48,5082383915,false,false,true,193227744,8,Write\n8388608,sda,/tmp/x,49,5082383916,,,,,,\n' +
      '8388608,sda,,50,5082383925,false,true,false,0,0,Write\n8388608,sda,,51,5082383935,false,false,false,8,8,Read\n',
    format: 'Open CAS iotrace CSV',
    requests: [1, 1, 1, 0],
    durationNs: 20,
    counts: { fuas: 1, withoutOperation: 1 },
  },
  {
    name: 'xperf',
    text:
      'BeginHeader\n' +
      '              DiskRead,  TimeStamp,     Process Name ( PID),   ThreadID,             IrpPtr,   ByteOffset,     IOSize, ElapsedTime,  DiskNum\n' +
      '             DiskWrite,  TimeStamp,     Process Name ( PID),   ThreadID,             IrpPtr,   ByteOffset,     IOSize, ElapsedTime,  DiskNum\n' +
      '             DiskFlush,  TimeStamp,     Process Name ( PID),   ThreadID,             IrpPtr,                           ElapsedTime,  DiskNum\n' +
      'EndHeader\n' +
      '              DiskRead,      10443,            System (   4),       8, 0xfffffa8001, 0x0000a1c2d000, 0x00001000,    125,        0\n' +
      '               CSwitch,      10444,            System (   4),       8\n' +
      '             DiskWrite,      10453,            System (   4),       8, 0xfffffa8002, 0x000000001000, 0x00002000,    125,        0\n' +
      '             DiskFlush,      10463,            System (   4),       8, 0xfffffa8003,    90,        0\n',
    format: 'xperf DiskIO CSV',
    requests: [1, 1, 1, 0],
    durationNs: 20_000,
  },
  {
    name: 'hfplayer',
    text:
      '#DUMP_OFFSET.I,ELAPSED_USECS.D,ELAPSED_TICKS.I,CMD.S,INFLIGHT_IOS.I,LUN_SSID.I,LBA.I,NBLKS.I\n' +
      '4124,50,822590674,RD,2,6,2,2\n4152,100.5,822612004,WR,3,6,4,2\n',
    format: 'hfplayer CSV',
    requests: [1, 1, 0, 0],
    durationNs: 50_500,
  },
  {
    name: 'libCacheSim CSV',
    text: 'version,time,op,size,lbn\n1,5633898,2a,512,42932745\n1,5633899,28,4096,42932746\n',
    format: 'libCacheSim CSV of block requests',
    requests: [1, 1, 0, 0],
    durationNs: 1e9,
  },
  {
    name: 'libCacheSim text',
    text: '42932745\n42932746\n42932745\n',
    format: 'libCacheSim text, an object of 4 KiB a line',
    requests: [3, 0, 0, 0],
    durationNs: 0,
  },
  {
    name: 'any table, its columns named by the user',
    text: 'a title\nanother\n1.5|W|8|4096\n2.5|r|16|512\n',
    format: 'table with given columns',
    requests: [1, 1, 0, 0],
    durationNs: 1_000_000,
    options: {
      table: tableOfColumns({
        columns: 'time=1:ms,op=2:W/R,offset=3:sectors,length=4:bytes',
        skipLines: 2,
        separator: '|',
      }),
    },
  },
];
