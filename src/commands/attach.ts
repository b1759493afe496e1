/** `pcache attach`: runs a cache and serves it over NBD. */
import { Args, Flags } from '@oclif/core';
import type { BackingDevice } from '../engine/device/backing.js';
import { sameDevice } from '../engine/device/lock.js';
import { bestCrc32c } from '../engine/device/native.js';
import type { PmemReader } from '../engine/device/pmem.js';
import { ExitStatus, PcacheError } from '../engine/errors.js';
import { JOBS_MAX } from '../engine/index.js';
import { GC_PERCENT_MAX } from '../engine/media/codecs.js';
import { KERNEL_GEOMETRY } from '../engine/media/geometry.js';
import { requireOwnBacking } from '../rescue/backing-guard.js';
import { BACKING_RECORD } from '../rescue/recorded-backing.js';
import { attach, type AttachResult } from '../nbd/attach.js';
import { CLIENTS_MAX, HANDSHAKE_MAX_MS } from '../nbd/server.js';
import {
  commandLines,
  givenUpLines,
  kernelRefusal,
  planKernelAttach,
  runKernelAttach,
  type KernelAttach,
} from '../kernel/kernel-attach.js';
import { attachText, undrainedText } from '../output/attach-report.js';
import { durabilityName } from '../output/durability-text.js';
import { acceptLossFlag, backupMetadataFlag, GatedCommand } from '../output/gated-command.js';
import { isInBackground, reportStarted, startInBackground } from '../output/background.js';
import { prose } from '../output/prose.js';
import { breathe } from '../output/terminal.js';
import { formatBytes } from '../output/units.js';

const LOOPBACK = '127.0.0.1';

/** Flags that only apply when the cache is served, which --kernel does not do. */
const SERVING_FLAGS = [
  ...['socket', 'port', 'address', 'read-only', 'gc-percent', 'verify-reads', 'jobs', 'exec', 'drain', 'pid-file'],
  ...['device', 'name', 'recover', 'control', 'metrics', 'metrics-address', 'export-name'],
  ...['tls-certificates', 'tls-verify-peer', 'tls-psk'],
  ...['accept-loss', 'backup-metadata', 'background', 'log-file'],
];

/** Not used with --accept-loss: data whose newest key is lost differs on the right device, too. */
const guardBacking = (cache: PmemReader, backing: BackingDevice): Promise<void> =>
  requireOwnBacking({ cache, backing }, { geometry: KERNEL_GEOMETRY, crc: bestCrc32c(), breathe });

/** What `attach --background` says once the cache is served. */
export interface BackgroundAttach {
  /** Of the process that serves. */
  readonly pid: number;
  readonly uri: string;
  readonly sizeBytes: number;
  /** Path of the block device that is provided; null without one. */
  readonly device: string | null;
  readonly metricsUrl: string | null;
}

export default class Attach extends GatedCommand {
  static override task = 'serve' as const;
  static override summary = 'Serve a cached device over NBD, or attach it with the kernel.';
  static override description = prose`Serves the logical device (cache over backing) on a Unix socket with mode 0600 or on a TCP port, until it is told
to end by SIGINT, SIGTERM, SIGHUP, SIGQUIT or "pcache detach". It then stops accepting requests, completes those in
progress, puts every acknowledged write into the log of the cache and reports how much is dirty. The exit status is 0,
or 4 when --drain could not write everything back. After a second signal it no longer waits for clients, and for the
backing device 5 seconds at most; acknowledged writes are kept.

With --device the cache is a block device of this machine for mkfs and mount: /dev/ublkbN, whose requests the kernel's
ublk driver (Linux 6.0 and later) hands over without a socket, or /dev/nbdN by the kernel's own NBD client. The device is
removed at the end; one that is mounted or open is waited for. When the server dies, a ublk device stays and its users
wait, until --recover serves it again; requests that had no answer are repeated, and no write that was answered is lost.

Neither device is changed before every address and file name could be taken. Flush and FUA are honoured, and several
connections of one client are coherent.

BACKING is compared with what CACHE has recorded of it, and with what CACHE has written back to it or read from it, in up
to 128 places. Where they differ it is another device, or was written to without the cache, and is refused (exit status
4) unless --force-backing is given. The record is renewed at the end.

A cache in which "pcache fsck" finds that dirty data may be lost or old is refused (exit status 4) unless --accept-loss
is given, with --read-only too.

With --background the command returns when the cache is served, or with the error and the exit status of a start that
failed; the server goes on in a session of its own. What it says from then on is added to --log-file, or lost.

With --kernel nothing is served: the cache is checked as by "pcache fsck", and the dmsetup commands that attach it are
printed. A cache that the kernel would refuse, empty, cut or misread is refused (exit status 4) unless --force is given,
which lists what is given up.`;

  static override examples = [
    {
      description: 'Serve a cache to clients that connect to nbd+unix:///?socket=pc.sock.',
      command: '<%= config.bin %> <%= command.id %> cache.img disk.img --socket pc.sock',
    },
    {
      description: 'Copy an image to the device, write everything back, and exit.',
      command:
        '<%= config.bin %> <%= command.id %> cache.img disk.img --drain --exec \'nbdcopy image.raw "$PCACHE_URI"\'',
    },
  ];

  static override args = {
    cache: Args.string({ name: 'CACHE', required: true, description: 'cache device or image file' }),
    backing: Args.string({ name: 'BACKING', required: true, description: 'backing device of CACHE' }),
  };

  static override flags = {
    'socket': Flags.string({
      char: 'k',
      description: 'Unix socket to listen on (default with --exec: a temporary socket)',
      helpValue: 'PATH',
    }),
    'port': Flags.integer({
      char: 'p',
      description: 'TCP port to listen on; 0 selects a free port',
      min: 0,
      max: 65535,
      helpValue: 'N',
    }),
    'device': Flags.string({
      description: 'provide a block device: the next free one, or that one (needs root, and the ublk or nbd driver)',
      helpValue: 'auto|ublk|nbd|/dev/ublkbN|/dev/nbdN',
    }),
    'name': Flags.string({
      description: 'with --device: make it /dev/pcache/NAME as well, whatever its number is',
      helpValue: 'NAME',
      dependsOn: ['device'],
    }),
    'recover': Flags.boolean({
      description: 'take over --device /dev/ublkbN, whose server has died; its users wait meanwhile',
      dependsOn: ['device'],
    }),
    'address': Flags.string({
      description: 'address to listen on with --port (default: 127.0.0.1)',
      helpValue: 'ADDRESS',
      dependsOn: ['port'],
    }),
    'read-only': Flags.boolean({
      char: 'r',
      description: 'refuse writes and change neither device: no cache fills, no write-back',
      default: false,
    }),
    'data-crc': Flags.boolean({
      description: 'refuse a cache without data_crc (--no-data-crc: with data_crc)',
      allowNo: true,
    }),
    'gc-percent': Flags.integer({
      description: 'percentage of segments in use at which garbage collection starts; stored in the cache',
      min: 0,
      max: GC_PERCENT_MAX,
      helpValue: 'N',
    }),
    'verify-reads': Flags.boolean({
      description:
        'check cached data against its CRC on every read, and mend it from the backing device (caches with data_crc only)',
      default: false,
    }),
    'jobs': Flags.integer({
      char: 'j',
      description: 'threads that serve clients and --device, each with a share of the cache',
      default: 1,
      min: 1,
      max: JOBS_MAX,
      helpValue: 'N',
    }),
    'tls-certificates': Flags.string({
      description: 'require TLS, with server-cert.pem, server-key.pem and optionally ca-cert.pem of this folder',
      helpValue: 'FOLDER',
    }),
    'tls-verify-peer': Flags.boolean({
      description: 'accept only clients with a certificate signed by ca-cert.pem',
      default: false,
    }),
    'tls-psk': Flags.string({
      description: 'require TLS with pre-shared keys from FILE: lines of user:KEY, as psktool writes them',
      helpValue: 'FILE',
    }),
    'exec': Flags.string({
      description:
        'run CMD with sh, with PCACHE_URI, PCACHE_SOCKET and PCACHE_DEVICE set; exit when it exits, with its status',
      helpValue: 'CMD',
    }),
    'drain': Flags.boolean({
      description: 'write everything back before ending; exit status 4 when that fails',
      default: false,
    }),
    'pid-file': Flags.string({
      description: 'write the process id to FILE, which must not exist (a stale pid file is replaced)',
      helpValue: 'FILE',
    }),
    'background': Flags.boolean({
      description: 'return when the cache is served, and serve it in the background',
      exclusive: ['exec', 'kernel'],
    }),
    'log-file': Flags.string({
      description: 'with --background: add what the server says to FILE',
      helpValue: 'FILE',
      dependsOn: ['background'],
    }),
    'kernel': Flags.string({
      description: 'check the cache and print the commands that attach it in the kernel as /dev/mapper/NAME',
      helpValue: 'NAME',
    }),
    'run': Flags.boolean({
      description: 'with --kernel: run the commands instead of printing them',
      dependsOn: ['kernel'],
    }),
    'force': Flags.boolean({
      description: 'with --kernel: go on with a cache that the kernel would refuse, empty, cut or misread',
      dependsOn: ['kernel'],
    }),
    'accept-loss': acceptLossFlag,
    'force-backing': Flags.boolean({
      description: 'go on with BACKING although it is not what the cache has recorded, or holds something else',
      default: false,
    }),
    'backup-metadata': backupMetadataFlag(),
    'control': Flags.string({
      description: 'control socket for "pcache status", tune, drain and detach (default: SOCKET.control)',
      helpValue: 'PATH',
    }),
    'metrics': Flags.integer({
      description: 'TCP port for Prometheus metrics; 0 selects a free port',
      min: 0,
      max: 65535,
      helpValue: 'N',
    }),
    'metrics-address': Flags.string({
      description: `address to serve metrics on (default ${LOOPBACK})`,
      helpValue: 'ADDRESS',
      dependsOn: ['metrics'],
    }),
    'export-name': Flags.string({
      description: 'name of the export; other names are refused (default: every name is accepted)',
      helpValue: 'NAME',
    }),
    'max-clients': Flags.integer({
      description: 'connections at a time',
      default: CLIENTS_MAX,
      min: 1,
      max: 1000,
      helpValue: 'N',
    }),
    'handshake-timeout': Flags.integer({
      description: 'seconds a client may take to negotiate',
      default: HANDSHAKE_MAX_MS / 1000,
      min: 1,
      max: 600,
      helpValue: 'S',
    }),
  };

  async run(): Promise<AttachResult | BackgroundAttach | undefined | (KernelAttach & { readonly ran: boolean })> {
    const { args, flags } = await this.parse(Attach);
    if (flags.kernel !== undefined) {
      const given = Object.entries({ ...flags, jobs: flags.jobs > 1 }).find(
        ([name, value]) => SERVING_FLAGS.includes(name) && value !== false,
      );
      if (given) throw new PcacheError('USAGE', `--${given[0]} cannot be used with --kernel, which serves nothing`);
      return this.attachWithKernel(args.cache, args.backing, flags.kernel, {
        dataCrc: flags['data-crc'],
        run: flags.run ?? false,
        force: flags.force ?? false,
        forceBacking: flags['force-backing'],
      });
    }
    const backup = flags['backup-metadata'];
    let isBackupCurrent = true;
    if (flags.background && !isInBackground()) {
      for (const device of [args.cache, args.backing]) {
        if (flags['log-file'] === undefined || !sameDevice(flags['log-file'], device)) continue;
        throw new PcacheError('USAGE', `${device}: is a device of the cache; give another --log-file`);
      }
      return this.attachInBackground(flags['log-file']);
    }
    const recovering = () => this.progress({ label: 'recovering', unit: 'count' });
    let progress = recovering();
    let release = () => {};
    try {
      const result = await attach(
        {
          cachePath: args.cache,
          backingPath: args.backing,
          socketPath: flags.socket,
          listenFd: this.passedSocket,
          host: flags.address ?? LOOPBACK,
          port: flags.port,
          readOnly: flags['read-only'],
          dataCrc: flags['data-crc'],
          gcPercent: flags['gc-percent'],
          verifyReads: flags['verify-reads'],
          jobs: flags.jobs,
          tls: {
            certificates: flags['tls-certificates'],
            pskFile: flags['tls-psk'],
            verifyPeer: flags['tls-verify-peer'],
          },
          exec: flags.exec,
          device: flags.device,
          recover: flags.recover ?? false,
          name: flags.name,
          pidFile: flags['pid-file'],
          controlPath: flags.control,
          metricsPort: flags.metrics,
          metricsHost: flags['metrics-address'] ?? LOOPBACK,
          exportName: flags['export-name'],
          clientsMax: flags['max-clients'],
          handshakeMaxMs: flags['handshake-timeout'] * 1000,
          drain: flags.drain,
          serviceManager: this.serviceManager,
          json: this.jsonEnabled(),
          native: this.nativeEnabled,
          admit: (cache, backingBytes) => {
            progress.stop();
            this.requireSafe(cache, backingBytes, flags['accept-loss']);
            if (backup !== undefined) this.saveMetadata(cache, backup);
            progress = recovering();
          },
          record: BACKING_RECORD,
          guard: flags['force-backing'] || flags['accept-loss'] ? undefined : guardBacking,
        },
        {
          serving: ({ uri, sizeBytes, durability, metricsUrl, devicePath }) => {
            progress.stop();
            if (metricsUrl !== undefined) this.note(`metrics at ${metricsUrl}`);
            const device = devicePath === undefined ? '' : ` as ${devicePath} and`;
            this.note(`serving ${formatBytes(sizeBytes)} (${durabilityName(durability)})${device} at ${uri}`);
            if (flags.background) {
              reportStarted({ uri, sizeBytes, device: devicePath ?? null, metricsUrl: metricsUrl ?? null });
            }
          },
          begins: (phase) => {
            progress.stop();
            progress = this.progress({ label: phase === 'drain' ? 'writing back' : 'closing', unit: 'bytes' });
          },
          drains: (writtenBytes, total) => progress.update(writtenBytes, { total }),
          tell: (text) => this.note(text),
          closed: (cache) => {
            if (backup !== undefined) isBackupCurrent = this.saveMetadataAgain(cache, backup);
          },
          onInterrupt: (stop, hurry) => {
            release = this.onInterrupt((times) => (times === 1 ? stop() : hurry()), {
              hearsSecond: true,
              note: 'stopping in order; interrupt again to stop without waiting for clients and the backing device',
            });
          },
          signalGroup: this.signalGroup,
          abandons: this.leaveStuckThreads,
        },
      );
      this.endedInOrder();
      this.print(attachText(result));
      if (result.command !== null) this.setExitStatus(result.command.status);
      if (!isBackupCurrent && (result.command?.status ?? 0) === 0) this.setExitStatus(ExitStatus.operationalError);
      if (result.drainError !== null) {
        this.note(undrainedText(result));
        this.setExitStatus(ExitStatus.problemsLeft);
      }
      return result;
    } finally {
      release();
      progress.stop();
    }
  }

  /** Starts a server that outlives this process. */
  private async attachInBackground(logFile: string | undefined): Promise<BackgroundAttach | undefined> {
    if (this.passedSocket !== undefined) {
      throw new PcacheError('USAGE', '--background cannot be used with a socket that a service manager passes');
    }
    let release = () => {};
    try {
      const start = await startInBackground<Omit<BackgroundAttach, 'pid'>>(logFile, (end) => {
        release = this.onInterrupt(end);
      });
      if (start.kind === 'failed') {
        this.output.write(start.stdout);
        this.setExitStatus(start.status);
        return undefined;
      }
      this.print(`serving in the background as process ${start.pid}\n`);
      return { pid: start.pid, ...start.report };
    } finally {
      release();
    }
  }

  /** The document of a start in the background that failed has been printed already. */
  override logJson(json: unknown): void {
    if (json !== undefined) super.logJson(json);
  }

  private async attachWithKernel(
    cachePath: string,
    backingPath: string,
    name: string,
    {
      dataCrc,
      run,
      force,
      forceBacking,
    }: { dataCrc: boolean | undefined; run: boolean; force: boolean; forceBacking: boolean },
  ): Promise<KernelAttach & { readonly ran: boolean }> {
    const progress = this.checkProgress(cachePath);
    let plan: KernelAttach;
    try {
      const { onProgress } = progress;
      plan = await planKernelAttach({
        name,
        cachePath,
        backingPath,
        dataCrc,
        forceBacking,
        native: this.nativeEnabled,
        breathe,
        onProgress,
      });
    } finally {
      progress.stop();
    }
    if (plan.refusals.length > 0 && !force) throw kernelRefusal(cachePath, plan.refusals);
    for (const line of givenUpLines(cachePath, plan.refusals)) this.note(line);
    for (const note of plan.notes) this.note(note);
    this.print(run ? runKernelAttach(plan) : commandLines(plan));
    return { ...plan, ran: run };
  }
}
