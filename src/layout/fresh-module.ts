/** Evaluates a CommonJS module that imports built-in modules only. */
import { createRequire } from 'node:module';
import { builtin } from './builtin.js';

const requireBuiltin = createRequire('file:///');

/** @returns a new instance of the module at each call, with a state of its own */
export function freshModule(source: string): unknown {
  const { compileFunction } = builtin('node:vm');
  const made = { exports: {} };
  const run = compileFunction(source, ['module', 'exports', 'require']) as (...parts: unknown[]) => void;
  run(made, made.exports, requireBuiltin);
  return made.exports;
}
