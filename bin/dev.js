#!/usr/bin/env node
import { startCheckout } from './start-checkout.js';

await startCheckout(import.meta.url, true);
