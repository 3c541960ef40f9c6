import { defineConfig } from 'vitest/config';
import base from '../../vitest.config.mts';

export default defineConfig({
  ...base,
  root: '.',
  test: {
    ...base.test,
    // run.mjs builds what that would: node-gyp takes the headers of the Node that runs it.
    globalSetup: [],
    setupFiles: ['test/nodes/witness.ts'],
  },
});
