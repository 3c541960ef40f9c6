// The prebuilt binary for arm64 and glibc, in Node for arm64, under QEMU's emulation of a process: its
// system calls are the machine's own kernel's.
//   arm64.mjs [VERSION...]      releases of Node, as npm has them
//
// Needs Debian's qemu-user-static, and libc6, libstdc++6 and libatomic1, each -arm64-cross.
import { spawnSync } from 'node:child_process';
import { install } from '../nodes/install.mjs';

const versions = process.argv.length > 2 ? process.argv.slice(2) : ['20', '26'];
for (const version of versions) {
  const node = install(version, 'arm64');
  const emulator = ['qemu-aarch64-static', '-L', '/usr/aarch64-linux-gnu'];
  const [command, ...args] = [...emulator, node, 'test/binaries/try.mjs', '--no-preadv2'];
  const { status, error } = spawnSync(command, args, { stdio: 'inherit' });
  if (error) throw error;
  if (status !== 0) process.exitCode = 1;
}
