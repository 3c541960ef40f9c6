import { readFileSync } from 'node:fs';
import * as path from 'node:path';

/** This package's own. */
export const { version } = JSON.parse(
  readFileSync(path.join(__dirname, '..', 'package.json'), 'utf8'),
) as { version: string };
