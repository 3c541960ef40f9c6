import { defineConfig } from 'vitest/config';
import base from '../../vitest.config.mts';

export default defineConfig({
  ...base,
  root: '.',
  test: {
    ...base.test,
    globalSetup: [], // run.mjs has done it: in the virtual machine it would take its time
    // An emulated processor has about a tenth of the speed.
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
});
