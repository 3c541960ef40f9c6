// npm run bench [-- --peers] [--scenario NAME]… [--quick] [--json] [--html FILE] [--receiver HOST:PORT]
//   [--network-as-is]
import { accessSync, constants, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { describeMachine, machineLine } from './lib/machine.mjs';
import { isInOwnNetwork, runInOwnNetwork } from './lib/own-network.mjs';
import { installPeers } from './lib/peers.mjs';
import { makeScratch } from './lib/scratch.mjs';
import { scenarioText } from './report/text.mjs';

/**
 * What a scenario is given.
 * @typedef {object} Context
 * @property {string} scratch directory for files, removed at the end
 * @property {boolean} quick smaller, for a first look
 * @property {boolean} core without what others have to be installed for
 * @property {{ host: string, port: number }} [receiver] on another machine, at the end of a real link
 * @property {number} rounds
 * @property {(message: string) => void} log
 */

/** What is run when nothing is asked for: under three minutes, and nothing has to be installed. */
const CORE = [
  'large-file',
  'many-files',
  'http-1k',
  'http-16k',
  'http-1m',
  'http-beside-large',
  'relay',
];
/** What can send to a receiver on another machine. */
const REMOTE = ['large-file', 'many-files'];
const ROUNDS = { quick: 2, core: 3, full: 5 };

function parseOptions() {
  const { values } = parseArgs({
    options: {
      scenario: { type: 'string', multiple: true, default: [] },
      peers: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      quick: { type: 'boolean', default: false },
      html: { type: 'string' },
      receiver: { type: 'string' },
      'network-as-is': { type: 'boolean', default: false },
    },
  });
  const asIs = values['network-as-is'];
  return { ...values, receiver: parseReceiver(values.receiver), asIs };
}

/** Of one that runs on another machine. @param {string | undefined} text as `host:port` */
function parseReceiver(text) {
  if (text === undefined) return undefined;
  const [, host, port] = /^(.+):(\d+)$/.exec(text) ?? [];
  if (!host) throw new Error(`--receiver must be HOST:PORT. Received '${text}'`);
  return { host, port: Number(port) };
}

/** @param {string[]} names */
function choose(scenarios, names) {
  const unknown = names.find((name) => !scenarios.some((each) => each.name === name));
  if (unknown === undefined) return scenarios.filter(({ name }) => names.includes(name));
  const known = scenarios.map(({ name }) => name).join(', ');
  throw new Error(`There is no scenario '${unknown}', only ${known}`);
}

/** What could keep the page from being written, minutes later, is told at once. @param {string} file */
async function preparePage(file) {
  accessSync(path.dirname(file), constants.W_OK);
  const { page } = await import('./report/page.mjs'); // needs a development dependency
  return page;
}

/** Progress, for whoever watches. @param {string} message */
function log(message) {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${message}`);
}

/**
 * One that fails takes nothing with it of what others have measured.
 * @param {Context} context
 */
async function runScenario({ name, run }, context) {
  try {
    return await run(context);
  } catch (error) {
    process.exitCode = 1;
    const { message } = error;
    console.error(`${name}: ${message}`);
    return { name, title: 'failed', rounds: 0, ways: {}, checks: [], missing: [message] };
  }
}

async function main() {
  const { scenario: given, peers, json, quick, html, receiver, asIs } = parseOptions();
  const wanted = given.length === 0 && receiver ? REMOTE : given;
  const page = html === undefined ? undefined : await preparePage(html);
  if (peers && !isInOwnNetwork) installPeers(log); // which reaches nobody else
  const status = asIs || receiver ? undefined : await runInOwnNetwork();
  if (status !== undefined) {
    process.exitCode = status;
    return;
  }
  // Only now: they look for what is installed when they are loaded.
  const { scenarios } = await import('./scenarios/all.mjs');
  const isCore = wanted.length === 0 && !peers;
  const all = scenarios.map(({ name }) => name);
  const chosen = choose(scenarios, wanted.length > 0 ? wanted : isCore ? CORE : all);

  const say = json ? () => {} : console.log;
  const machine = describeMachine();
  say(`${machineLine(machine)}\n`);
  if (isCore)
    say('The core, at smaller sizes. All of it, beside others: npm run bench -- --peers\n');
  if (isCore || quick) say('The targets are meant for the full sizes.\n');
  const context = {
    scratch: makeScratch(),
    quick: quick || isCore,
    core: isCore,
    receiver,
    rounds: ROUNDS[quick ? 'quick' : isCore ? 'core' : 'full'],
  };
  const results = [];
  for (const scenario of chosen) {
    const prefixed = (message) => log(`${scenario.name}: ${message}`);
    const result = await runScenario(scenario, { ...context, log: prefixed });
    log('');
    say(`${scenarioText(result)}\n`);
    results.push(result);
  }
  const command = ['npm run bench --', ...process.argv.slice(2)].join(' ');
  const everything = { machine, command, quick: context.quick, scenarios: results };
  if (json) console.log(JSON.stringify(everything, null, 2));
  if (page) writeFileSync(html, page(everything));
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
