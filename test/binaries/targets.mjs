// What there is a prebuilt binary for.
import * as fs from 'node:fs';

/** The oldest glibc that is enough: what Node.js 20 itself needs. */
export const GLIBC = '2.28';

const PROCESSORS = {
  x64: { machine: 62, processor: 'x86_64' },
  arm64: { machine: 183, processor: 'aarch64' },
};
const SYSTEMS = { glibc: `linux-gnu.${GLIBC}`, musl: 'linux-musl' };

export const TARGETS = {};
for (const [arch, { machine, processor }] of Object.entries(PROCESSORS)) {
  for (const [libc, system] of Object.entries(SYSTEMS)) {
    const file = `prebuilds/linux-${arch}/zerocopy.${libc}.node`;
    const triple = `${processor}-${system}`;
    TARGETS[`linux-${arch}-${libc}`] = { arch, libc, triple, machine, file };
  }
}

/** Which of them is for this machine. */
export function targetHere() {
  const libc = fs.existsSync('/etc/alpine-release') ? 'musl' : 'glibc'; // as node-gyp-build tells
  const target = TARGETS[`${process.platform}-${process.arch}-${libc}`];
  if (!target) throw new Error(`There is no prebuilt binary for ${process.arch}`);
  return target;
}
