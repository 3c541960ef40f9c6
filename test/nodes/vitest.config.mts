import { defineConfig } from 'vitest/config';
import base from '../../vitest.config.mts';

export default defineConfig({
  ...base,
  root: '.',
  test: {
    ...base.test,
    // run.mjs has done it: node-gyp takes the headers of the Node that runs it.
    globalSetup: [],
    setupFiles: ['test/nodes/witness.ts'],
  },
});
