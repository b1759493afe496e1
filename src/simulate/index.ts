/** The simulation's public face. */
export { simulate } from './simulate.js';
export type { SimulatedTrace, SimulateOptions } from './simulate.js';
export { traceOfFile } from './traces.js';
export { BACKING_PRESET_NAMES, makeModel, pmemOfBench } from './latency-model.js';
export type { BackingModel, BackingPreset, LatencyModel, PmemModel } from './latency-model.js';
export { modelOf } from './model-choice.js';
export type { ModelChoice } from './model-choice.js';
export { runSimulation } from './run.js';
export type { SimulationChoice } from './run.js';
