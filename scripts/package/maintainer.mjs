/** Who answers for a Debian package. */
import { packageJson } from './manifest.mjs';

/** RFC 2606: nobody has an address there. */
const LOCAL = { name: 'local build of pcache', email: 'nobody@build.invalid' };

/**
 * DEBFULLNAME and DEBEMAIL, as for Debian's own tools, or `author` of package.json. Without either a package is a local
 * build, and says so; `npm run release` refuses that.
 */
export function maintainer(environment = process.env, { author } = packageJson()) {
  const { DEBFULLNAME, DEBEMAIL } = environment;
  if (DEBFULLNAME && DEBEMAIL) return { name: DEBFULLNAME, email: DEBEMAIL };
  if (typeof author === 'object' && author.name && author.email) return { name: author.name, email: author.email };
  return LOCAL;
}

export const isLocal = ({ email }) => email.endsWith('.invalid');
