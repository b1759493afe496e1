/**
 * A program called dmsetup that plays the kernel's target: its device is an image, its status line is in a file. What it
 * is told lies in `log`, one command a line.
 */
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';

const SCRIPT = `#!/bin/sh
# What it prints and how it ends is in the folder of its name.
own=$(dirname "$0")
echo "$*" >>"$own/log"
if [ -e "$own/fails" ]; then cat "$own/fails" >&2; exit 1; fi
case $1 in
  table) cat "$own/table" ;;
  info) case $* in *open*) cat "$own/open" ;; *) cat "$own/info" ;; esac ;;
  # From the second time on: as after a moment.
  status) cat "$own/status"; [ ! -e "$own/next" ] || mv "$own/next" "$own/status" ;;
  message) sed -E "s/^((\\\\S+ ){7})\\\\S+/\\\\1\${4#gc_percent }/" "$own/status" >"$own/new" && mv "$own/new" "$own/status" ;;
  remove) rm "$own/table" ;;
esac
`;

export interface FakeOptions {
  readonly cachePath: string;
  readonly backingPath: string;
  /** The words behind "0 SECTORS pcache". */
  readonly state: string;
}

export class FakeDmsetup {
  readonly name = 'pc';

  constructor(
    private readonly folder: string,
    { cachePath, backingPath, state }: FakeOptions,
  ) {
    mkdirSync(join(folder, 'mapper'), { recursive: true });
    writeFileSync(this.device, '');
    const program = join(folder, 'dmsetup');
    writeFileSync(program, SCRIPT);
    chmodSync(program, 0o755);
    this.write('table', `0 131072 pcache ${cachePath} ${backingPath} 4 cache_mode writeback crc true`);
    this.write('info', '1023:7:Active');
    this.write('open', '0');
    this.setState(state);
    writeFileSync(join(folder, 'log'), '');
  }

  /** `mapper/pc` in the folder that stands for /dev. */
  get device(): string {
    return join(this.folder, 'mapper', this.name);
  }

  get environment(): NodeJS.ProcessEnv {
    return { PATH: `${this.folder}${delimiter}${process.env['PATH'] ?? ''}`, DM_DEV_DIR: this.folder };
  }

  /** What dmsetup is told to do so far. */
  get commands(): string[] {
    return readFileSync(join(this.folder, 'log'), 'utf8').trim().split('\n');
  }

  get isRemoved(): boolean {
    return !existsSync(join(this.folder, 'table'));
  }

  write(file: 'table' | 'info' | 'open' | 'fails' | 'next', text: string): void {
    writeFileSync(join(this.folder, file), `${text}\n`);
  }

  setState(state: string): void {
    writeFileSync(join(this.folder, 'status'), `0 131072 pcache ${state}\n`);
  }

  /** The state after the next status was asked for. */
  setNextState(state: string): void {
    this.write('next', `0 131072 pcache ${state}`);
  }
}
