/**
 * Loads a built-in module of Node.js at the call. For modules that take milliseconds, in files that every command loads
 * and whose functions few commands call.
 */
export const builtin: typeof process.getBuiltinModule = (id: string) => process.getBuiltinModule(id);
