/**
 * The code of the bundle as V8 compiled it when the bundle was made (`scripts/package/compiled-code.mjs`), in one file
 * beside the chunks. A start of the same Node.js takes it and compiles only what is not there; any other Node.js
 * compiles everything, as it does without the file.
 *
 * The file: length of the index and its CRC-32, 32 bits each, little endian; the index, JSON; the compiled chunks.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Script } from 'node:vm';
import { basename, dirname, join } from 'node:path';
import { builtin } from './builtin.js';

export const COMPILED_CODE_FILE = 'compiled.code';
const INDEX_AT = 8;

interface CompiledIndex {
  /** What `nodeBuild` gave where it was compiled. */
  readonly node: string;
  /** By the chunk's file name: where its code is behind the index (offset and length in bytes), and its CRC-32. */
  readonly chunks: Readonly<Record<string, readonly [number, number, number]>>;
}

const HEAD = '(function (exports, require, module, __filename, __dirname) { ';
const FOOT = '\n});';

/** The builds of Node.js whose compiled code is the same. V8 also refuses code of another version or other flags. */
function nodeBuild(): string {
  return `${process.version} ${process.versions.v8} ${process.arch}`;
}

/** A chunk as Node.js wraps it; `compiled` is used where V8 takes it. */
export function compileChunk(filename: string, compiled?: Uint8Array): Script {
  const { constants, ...vm } = builtin('node:vm');
  return new vm.Script(HEAD + readFileSync(filename, 'utf8') + FOOT, {
    filename,
    columnOffset: -HEAD.length,
    cachedData: compiled,
    importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
  });
}

/** Runs a chunk as the body of a module. */
export function runChunk(script: Script, module: NodeJS.Module, filename: string): void {
  const body = script.runInThisContext() as (...args: unknown[]) => void;
  body.call(module.exports, module.exports, module.require.bind(module), module, filename, dirname(filename));
}

/** The file, read. */
export class CompiledCode {
  private constructor(
    private readonly file: Buffer,
    private readonly index: CompiledIndex,
    private readonly startBytes: number,
  ) {}

  /** @returns undefined where the file is missing, is not whole, or is of another Node.js */
  static read(folder: string): CompiledCode | undefined {
    try {
      const file = readFileSync(join(folder, COMPILED_CODE_FILE));
      const startBytes = INDEX_AT + file.readUInt32LE();
      const text = file.subarray(INDEX_AT, startBytes);
      if (builtin('node:zlib').crc32(text) !== file.readUInt32LE(4)) return undefined;
      const index = JSON.parse(text.toString()) as CompiledIndex;
      return index.node === nodeBuild() ? new CompiledCode(file, index, startBytes) : undefined;
    } catch {
      return undefined;
    }
  }

  static encode(chunks: ReadonlyMap<string, Uint8Array>, node = nodeBuild()): Buffer {
    const places: Record<string, [number, number, number]> = {};
    let length = 0;
    for (const [name, code] of chunks) {
      places[name] = [length, code.length, builtin('node:zlib').crc32(code)];
      length += code.length;
    }
    const index = Buffer.from(JSON.stringify({ node, chunks: places } satisfies CompiledIndex));
    const start = Buffer.alloc(INDEX_AT);
    start.writeUInt32LE(index.length);
    start.writeUInt32LE(builtin('node:zlib').crc32(index), 4);
    return Buffer.concat([start, index, ...chunks.values()]);
  }

  get names(): string[] {
    return Object.keys(this.index.chunks);
  }

  /** @returns undefined for a chunk that was not compiled, or whose code is damaged: V8 would run it as it is */
  of(name: string): Uint8Array | undefined {
    if (!(name in this.index.chunks)) return undefined;
    const [offset, length, crc] = this.index.chunks[name];
    const code = this.file.subarray(this.startBytes + offset, this.startBytes + offset + length);
    return builtin('node:zlib').crc32(code) === crc ? code : undefined;
  }
}

/** Lets the chunks of `folder` that are loaded from now on take their compiled code, where it fits this Node.js. */
export function useCompiledCode(folder: string): void {
  const code = CompiledCode.read(folder);
  if (code === undefined) return;
  createRequire(join(folder, 'any.cjs')).extensions['.cjs'] = (module, filename) => {
    const compiled = dirname(filename) === folder ? code.of(basename(filename)) : undefined;
    runChunk(compileChunk(filename, compiled), module, filename);
  };
}
