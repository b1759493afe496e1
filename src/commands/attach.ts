/** `pcache attach`: runs a cache and serves it over NBD. */
import { Args, Flags } from '@oclif/core';
import { PcacheError } from '../engine/errors.js';
import { GC_PERCENT_MAX } from '../engine/media/codecs.js';
import { attach, type AttachResult } from '../nbd/attach.js';
import {
  commandLines,
  kernelRefusal,
  planKernelAttach,
  runKernelAttach,
  type KernelAttach,
} from '../kernel/kernel-attach.js';
import { attachText } from '../output/attach-report.js';
import { PcacheCommand } from '../output/base-command.js';
import { formatBytes } from '../output/units.js';

const LOOPBACK = '127.0.0.1';

/** With --kernel nothing is served, so none of these means anything. */
const SERVING_FLAGS = [
  ...['socket', 'port', 'address', 'read-only', 'gc-percent', 'verify-reads', 'exec', 'drain', 'pid-file'],
  ...['control', 'metrics', 'tls-certificates', 'tls-verify-peer', 'tls-psk'],
];

export default class Attach extends PcacheCommand {
  static override summary = 'Run a cache and serve it to NBD clients as a block device.';
  static override description = `Serves the logical device, cache over backing, on a Unix socket (mode 0600) or on a TCP port, until SIGINT or
SIGTERM: then it takes no more requests, answers those under way, closes the cache in order and says what is dirty.
The export has the empty name. Flush and FUA are honoured; several connections of one client are coherent.
Zeroes are written like other data, and there is no TRIM, since dm-pcache has no discard.
With --kernel it is not served but prepared for the kernel's own target: everything is checked as by "pcache fsck",
what the kernel would refuse is refused (status 4), and the dmsetup commands are printed.`;

  static override examples = [
    {
      description: 'Serve it; clients connect to nbd+unix:///?socket=pc.sock.',
      command: '<%= config.bin %> <%= command.id %> cache.img disk.img --socket pc.sock',
    },
    {
      description: 'Fill a device, write everything back, and end.',
      command:
        '<%= config.bin %> <%= command.id %> cache.img disk.img --drain --exec \'nbdcopy image.raw "$PCACHE_URI"\'',
    },
  ];

  static override args = {
    cache: Args.string({ name: 'CACHE', required: true, description: 'cache device: a file or a device' }),
    backing: Args.string({ name: 'BACKING', required: true, description: 'its backing device' }),
  };

  static override flags = {
    'socket': Flags.string({
      description: 'Unix socket to listen on (with --exec a temporary one if left out)',
      helpValue: 'PATH',
    }),
    'port': Flags.integer({
      description: 'TCP port to listen on instead; 0 takes a free one',
      min: 0,
      max: 65535,
      helpValue: 'N',
    }),
    'address': Flags.string({
      description: 'address to listen on with --port (127.0.0.1)',
      helpValue: 'ADDRESS',
      dependsOn: ['port'],
    }),
    'read-only': Flags.boolean({
      description: 'refuse writes, and change neither device: nothing is filled or written back',
      default: false,
    }),
    'data-crc': Flags.boolean({ description: 'refuse a cache without (with --no-data-crc: with) CRCs', allowNo: true }),
    'gc-percent': Flags.integer({
      description: 'collect when this much of the cache is used (the cache keeps it)',
      min: 0,
      max: GC_PERCENT_MAX,
      helpValue: 'N',
    }),
    'verify-reads': Flags.boolean({
      description: 'check cached data against its CRC at each read (data_crc)',
      default: false,
    }),
    'tls-certificates': Flags.string({
      description: 'speak TLS only, with server-cert.pem and server-key.pem (and ca-cert.pem) of that folder',
      helpValue: 'FOLDER',
    }),
    'tls-verify-peer': Flags.boolean({
      description: 'let in only clients with a certificate that ca-cert.pem has signed',
      default: false,
    }),
    'tls-psk': Flags.string({
      description: 'speak TLS only, with the keys of that file: lines of user:KEY, as psktool makes them',
      helpValue: 'FILE',
    }),
    'exec': Flags.string({
      description: 'run CMD with sh, PCACHE_URI and PCACHE_SOCKET in its environment, and end with it and its status',
      helpValue: 'CMD',
    }),
    'drain': Flags.boolean({ description: 'write everything back before ending', default: false }),
    'pid-file': Flags.string({
      description: 'file for the process number, written when clients can connect',
      helpValue: 'FILE',
    }),
    'kernel': Flags.string({
      description: "print the commands that attach it with the kernel's target as /dev/mapper/NAME, after a check",
      helpValue: 'NAME',
    }),
    'run': Flags.boolean({ description: 'with --kernel: run the commands', dependsOn: ['kernel'] }),
    'control': Flags.string({
      description: 'control socket for "pcache status" and "pcache tune" (the socket\'s name with .control behind it)',
      helpValue: 'PATH',
    }),
    'metrics': Flags.integer({
      description: 'TCP port on 127.0.0.1 for metrics that Prometheus reads; 0 takes a free one',
      min: 0,
      max: 65535,
      helpValue: 'N',
    }),
  };

  async run(): Promise<AttachResult | (KernelAttach & { readonly ran: boolean })> {
    const { args, flags } = await this.parse(Attach);
    if (flags.kernel !== undefined) {
      const given = Object.entries(flags).find(([name, value]) => SERVING_FLAGS.includes(name) && value !== false);
      if (given) throw new PcacheError('USAGE', `--${given[0]} is for serving; it does not go with --kernel`);
      return this.attachWithKernel(args.cache, args.backing, flags.kernel, flags['data-crc'], flags.run ?? false);
    }
    let progress = this.progress({ label: 'recovering', unit: 'count' });
    let release = () => {};
    try {
      const result = await attach(
        {
          cachePath: args.cache,
          backingPath: args.backing,
          socketPath: flags.socket,
          host: flags.address ?? LOOPBACK,
          port: flags.port,
          readOnly: flags['read-only'],
          dataCrc: flags['data-crc'],
          gcPercent: flags['gc-percent'],
          verifyReads: flags['verify-reads'],
          tls: {
            certificates: flags['tls-certificates'],
            pskFile: flags['tls-psk'],
            verifyPeer: flags['tls-verify-peer'],
          },
          exec: flags.exec,
          pidFile: flags['pid-file'],
          controlPath: flags.control,
          metricsPort: flags.metrics,
          drain: flags.drain,
          json: this.jsonEnabled(),
          native: this.nativeEnabled,
        },
        {
          serving: (uri, sizeBytes, metricsPort) => {
            progress.stop();
            if (metricsPort !== undefined) this.note(`metrics at http://${LOOPBACK}:${metricsPort}/metrics`);
            this.note(`serving ${formatBytes(sizeBytes)} at ${uri}`);
          },
          begins: (phase) => {
            progress = this.progress({ label: phase === 'drain' ? 'writing back' : 'closing', unit: 'count' });
          },
          writebackFails: (reason) => this.note(`write-back fails, and is tried again: ${reason}`),
          onInterrupt: (stop) => {
            release = this.onInterrupt(stop);
          },
        },
      );
      this.print(attachText(result));
      if (result.command !== null) this.setExitStatus(result.command.status);
      return result;
    } finally {
      release();
      progress.stop();
    }
  }

  private attachWithKernel(
    cachePath: string,
    backingPath: string,
    name: string,
    dataCrc: boolean | undefined,
    ran: boolean,
  ): KernelAttach & { readonly ran: boolean } {
    const progress = this.progress({ label: `checking ${cachePath}`, unit: 'bytes' });
    let plan: KernelAttach;
    try {
      const onProgress = (bytesRead: number) => progress.update(bytesRead);
      plan = planKernelAttach({ name, cachePath, backingPath, dataCrc, native: this.nativeEnabled, onProgress });
    } finally {
      progress.stop();
    }
    if (plan.refusals.length > 0) throw kernelRefusal(cachePath, plan.refusals);
    for (const note of plan.notes) this.note(note);
    this.print(ran ? runKernelAttach(plan) : commandLines(plan));
    return { ...plan, ran };
  }
}
