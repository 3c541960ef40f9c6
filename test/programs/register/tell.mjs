/* biome-ignore-all lint/style/useNodejsImportProtocol: both spellings are asked for */
// Tells what every way to get at fs.createReadStream leads to, and how a file comes by it.
import fs, { createReadStream } from 'node:fs';
import { createRequire } from 'node:module';
import * as all from 'fs';
import { serve } from './serving.mjs';

const require = createRequire(import.meta.url);

export async function tell(file) {
  const functions = {
    "require('fs')": require('fs').createReadStream,
    "require('node:fs')": require('node:fs').createReadStream,
    "import fs from 'node:fs'": fs.createReadStream,
    "import { createReadStream } from 'node:fs'": createReadStream,
    "import * as all from 'fs'": all.createReadStream,
    "await import('fs')": (await import('fs')).createReadStream,
  };
  const told = {};
  for (const [way, found] of Object.entries(functions)) {
    const { name, length } = found;
    told[way] = { name, length, ...(await serve(() => found(file))) };
  }
  const [first] = Object.values(functions);
  const one = Object.values(functions).every((found) => found === first);
  const ours = first === require('zerocopy').createReadStream;
  return { one, ours, told };
}
