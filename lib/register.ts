// `zerocopy/register`: puts the drop-in in the place of fs.createReadStream, for the whole process.
import * as fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { createReadStream } from './read-stream';

/** Tells the drop-in of any copy of this package, so that it is put there once. */
const MARK = Symbol.for('zerocopy.createReadStream');

if (!(MARK in fs.createReadStream)) {
  Object.assign(fs, { createReadStream: Object.assign(createReadStream, { [MARK]: true }) });
  // For those who import { createReadStream } from 'node:fs'.
  syncBuiltinESMExports();
}
