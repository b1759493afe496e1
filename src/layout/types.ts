/** The files that belong to the program, wherever it was installed. */

/** Modules that run in worker threads. */
export type WorkerName = 'bench' | 'curve' | 'serve';

/** Finds the program's own files: in a checkout, in the installed package, or inside the single executable. */
export interface Layout {
  /** Version of the package, such as `0.1.0`. */
  version(): string;
  /** Called before the first command is loaded: takes what was compiled when the program was made, if it fits. */
  useCompiledCode(): void;
  /** What to do where the native helper is missing or cannot be loaded. */
  readonly helperRemedy: string;
  /** Loads the native helper. Throws what Node throws, MODULE_NOT_FOUND where there is none. */
  loadAddon(): unknown;
  /** The module to start a worker thread with. */
  workerModule(name: WorkerName): URL;
  /** Text of a file of the HTML report, by its path below `page/`; the chart library is in `uplot/`. */
  pageFile(name: string): string;
  /** A new instance of the package xz-decompress: one decodes one stream at a time. */
  xzDecoder(): unknown;
}
