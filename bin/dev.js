#!/usr/bin/env node
import { main } from '../dist/output/main.js';

await main(import.meta.url, { development: true });
