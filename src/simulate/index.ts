/** The simulation's public face. */
export { simulate } from './simulate.js';
export type { SimulatedTrace, SimulateOptions } from './simulate.js';
export { traceOfFile } from './traces.js';
