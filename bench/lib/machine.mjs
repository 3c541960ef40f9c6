import { spawnSync } from 'node:child_process';
import os from 'node:os';
import { capabilities } from 'zerocopy';
import { congestionControl } from './own-network.mjs';
import { repository } from './paths.mjs';
import { pinned } from './processes.mjs';

/** What a number means nothing without. */
export function describeMachine() {
  return {
    cpu: os.cpus()[0]?.model ?? 'unknown CPU',
    cores: os.cpus().length,
    kernel: `${os.type()} ${os.release()}`,
    node: process.version,
    date: new Date().toISOString(),
    loadAverage: os.loadavg()[0],
    commit: describeCommit(),
    pinned,
    congestionControl: congestionControl(),
    capabilities: capabilities(),
  };
}

function describeCommit() {
  const commit = git('rev-parse', '--short', 'HEAD');
  if (commit === undefined) return 'unknown';
  return git('status', '--porcelain') === '' ? commit : `${commit} with changes`;
}

/** @param {string[]} args */
function git(...args) {
  // A mere look must not write to the index.
  const env = { ...process.env, GIT_OPTIONAL_LOCKS: '0' };
  const { status, stdout } = spawnSync('git', args, { cwd: repository, encoding: 'utf8', env });
  return status === 0 ? stdout.trim() : undefined;
}

/** @param {ReturnType<typeof describeMachine>} machine */
export function machineLine(machine) {
  const { cpu, cores, kernel, node, date, commit, loadAverage } = machine;
  const { pinned, congestionControl, capabilities } = machine;
  return [
    cpu,
    `${cores} cores`,
    kernel,
    `Node.js ${node}`,
    date,
    `commit ${commit}`,
    `TCP ${congestionControl}`,
    `load ${loadAverage.toFixed(1)} at the start`,
    pinned ? 'what is measured on one core, its peers on another' : 'nothing pinned to cores',
    capabilities.native ? 'addon loaded' : `no addon: ${capabilities.reason}`,
  ].join(' · ');
}
