#!/usr/bin/env node
import './no-inspector.js';
import { startCheckout } from './start-checkout.js';

await startCheckout(import.meta.url);
