/** A command line of its own over the compiled output layer, whose commands end in every way there is. */
import { main } from '../../../dist/output/main.js';

await main(import.meta.url);
