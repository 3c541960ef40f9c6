// What zerocopy is compared to, where that is no part of this repository: found, or installed.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { buildDirectory } from './paths.mjs';

/** Of programs: what they are called, and where they come from. */
const PEERS = {
  nginx: { label: 'nginx', debian: 'nginx-light' },
  haproxy: { label: 'HAProxy', debian: 'haproxy' },
  java: { label: 'Java', debian: 'default-jdk-headless' },
  javac: { label: 'the Java compiler', debian: 'default-jdk-headless' },
  strace: { label: 'strace', debian: 'strace' },
  wrk: { label: 'wrk', debian: 'wrk' },
  bun: { label: 'Bun', npm: 'bun' },
};

const ownDirectory = path.join(buildDirectory, 'peers');

/**
 * @param {keyof typeof PEERS} name
 * @returns {{ program: string, missing?: undefined } | { program?: undefined, missing: string }}
 */
export function find(name) {
  const directories = [
    ...(process.env.PATH ?? '').split(path.delimiter),
    '/usr/sbin',
    path.join(ownDirectory, 'node_modules/.bin'),
  ];
  const program = directories
    .map((directory) => path.join(directory, name))
    .find((file) => existsSync(file));
  if (program) return { program };
  const { label, debian } = PEERS[name];
  const from = debian ? `Debian package ${debian}` : 'npm run bench -- --peers installs it';
  return { missing: `${label} (${from})` };
}

/**
 * Installs those that are missing, as far as that can be done here: Debian's packages by root, those of
 * npm into build/. What can't be had is left to the scenarios to name.
 * @param {(message: string) => void} log
 */
export function installPeers(log) {
  const wanted = Object.entries(PEERS).filter(([name]) => find(name).missing);
  const debian = new Set(wanted.map(([, { debian }]) => debian).filter(Boolean));
  if (debian.size > 0 && process.getuid?.() === 0) {
    log(`installing ${[...debian].join(', ')}`);
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    spawnSync('apt-get', ['update', '-qq'], { env });
    for (const name of debian) {
      spawnSync('apt-get', ['install', '-y', '-qq', '--no-install-recommends', name], { env });
    }
  }
  const npm = wanted.map(([, { npm }]) => npm).filter(Boolean);
  if (npm.length === 0) return;
  log(`installing ${npm.join(', ')}`);
  mkdirSync(ownDirectory, { recursive: true });
  spawnSync('npm', ['install', '--no-save', '--prefix', ownDirectory, ...npm]);
}
