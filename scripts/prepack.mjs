/** npm's prepack step: what only the package has. */
import { buildPrebuilds, orExplain } from './setup.mjs';

orExplain(buildPrebuilds);
