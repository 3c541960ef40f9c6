// Sanitizers that find nothing prove something only where they would have found it: an addon makes
// mistakes on purpose (err() of test/support/seam.cc), and each has to be reported.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { environment, folder } from './build.mjs';

export const mistake = (how) => ['-e', `require(process.env.ZEROCOPY_SEAM).err('${how}')`];

const REPORTED = {
  beyond: /heap-buffer-overflow.* in err \S*seam\.cc/s,
  overflow: /__ubsan_handle_add_overflow.* in err \S*seam\.cc/s,
};

function reportsOf(how) {
  const reports = mkdtempSync(join(folder, 'mistake-'));
  spawnSync(process.execPath, mistake(how), { env: environment(join(reports, 'report')) });
  const texts = readdirSync(reports).map((name) => readFileSync(join(reports, name), 'utf8'));
  rmSync(reports, { recursive: true });
  return texts.join('\n');
}

/** Throws where a mistake would go by, or the library would have another addon. */
export function checkMistakes() {
  for (const [how, report] of Object.entries(REPORTED)) {
    const found = reportsOf(how);
    if (!report.test(found)) throw new Error(`No report of a mistake (${how}):\n${found}`);
  }
  const maps = `require('.').capabilities(); require('fs').readFileSync('/proc/self/maps', 'utf8')`;
  const { stdout } = spawnSync(process.execPath, ['-p', maps], {
    env: environment(join(folder, 'report')),
    encoding: 'utf8',
  });
  if (!stdout.includes(join(folder, 'build/Release/zerocopy.node'))) {
    throw new Error(`The library doesn't have the addon with sanitizers:\n${stdout}`);
  }
}
