/**
 * By default SIGUSR1 opens Node's inspector, where every user of the machine could run code as ours. To be imported
 * before everything else. For a debugger start a script of bin/ with node --inspect-brk.
 */
process.on('SIGUSR1', () => undefined);
