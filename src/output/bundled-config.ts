/**
 * Gives oclif the commands of a bundle. Its own search for them reads `package.json`, the manifest and the folder of
 * commands at every start; a bundle holds all that, and loads only the module of the command that is run.
 */
import { Config, type Command, type Interfaces } from '@oclif/core';

/** What the bundler collects; see `scripts/package/bundle.mjs`. */
export interface BundledCommands {
  /** `name`, `version`, `description` and `oclif` of package.json. */
  readonly pjson: Interfaces.PJSON;
  /** What help and the parser need of each command, by id. */
  readonly manifest: Readonly<Record<string, Command.Cached>>;
  readonly loaders: Readonly<Record<string, () => Promise<{ readonly default: Command.Class }>>>;
}

export async function bundledConfig({ pjson, manifest, loaders }: BundledCommands): Promise<Config> {
  const { name, version } = pjson;
  const load = async (id: string): Promise<Command.Class> => {
    const command = (await loaders[id]()).default;
    command.id = id;
    command.plugin = plugin;
    return command;
  };
  const plugin: Interfaces.Plugin = {
    _base: `${name}@${version}`,
    alias: name,
    name,
    version,
    pjson,
    root: '/',
    type: 'core',
    moduleType: 'module',
    options: { root: '/' },
    isRoot: true,
    valid: true,
    hasManifest: true,
    commandsDir: undefined,
    commandIDs: Object.keys(manifest),
    commands: Object.entries(manifest).map(([id, command]) => ({ ...command, load: () => load(id) })),
    hooks: {},
    topics: Object.entries(pjson.oclif.topics ?? {}).map(([topic, about]) => ({ ...about, name: topic })),
    findCommand: (id: string) => load(id),
    load: () => Promise.resolve(),
  };
  // A theme of the user's would be read from a file at every start, and again by the copy that oclif makes for a command.
  Config.prototype.loadTheme = () => Promise.resolve(undefined);
  const config = new Config({ root: '/', version, plugins: new Map([[name, plugin]]) });
  await config.load();
  return config;
}
