// npm run bench [-- --scenario NAME]… [--quick] [--json]
import { parseArgs } from 'node:util';
import { describeMachine, machineLine } from './lib/machine.mjs';
import { scenarioText } from './lib/report.mjs';
import { makeScratch } from './lib/scratch.mjs';
import * as coldDisk from './scenarios/cold-disk.mjs';
import * as copyFile from './scenarios/copy-file.mjs';
import { scenarios as http } from './scenarios/http.mjs';
import { scenarios as kafkaFetch } from './scenarios/kafka-fetch.mjs';
import { scenarios as kafkaFetch1Gbit } from './scenarios/kafka-fetch-1gbit.mjs';
import * as kafkaProduce from './scenarios/kafka-produce.mjs';
import * as largeFile from './scenarios/large-file.mjs';
import * as manyFiles from './scenarios/many-files.mjs';
import * as receiveFile from './scenarios/receive-file.mjs';
import * as relay from './scenarios/relay.mjs';
import * as relayLatency from './scenarios/relay-latency.mjs';
import * as slowReaders from './scenarios/slow-readers.mjs';

/**
 * What a scenario is given.
 * @typedef {object} Context
 * @property {string} scratch directory for files, removed at the end
 * @property {boolean} quick smaller, for a first look
 * @property {number} rounds
 * @property {(message: string) => void} log
 */

const SCENARIOS = [
  largeFile,
  manyFiles,
  slowReaders,
  ...http,
  relay,
  relayLatency,
  receiveFile,
  copyFile,
  coldDisk,
  ...kafkaFetch,
  ...kafkaFetch1Gbit,
  kafkaProduce,
];
const NAMES = SCENARIOS.map(({ name }) => name);

function parseOptions() {
  const { values } = parseArgs({
    options: {
      scenario: { type: 'string', multiple: true, default: NAMES },
      json: { type: 'boolean', default: false },
      quick: { type: 'boolean', default: false },
    },
  });
  const unknown = values.scenario.find((name) => !NAMES.includes(name));
  if (unknown !== undefined) {
    throw new Error(`There is no scenario '${unknown}', only ${NAMES.join(', ')}`);
  }
  return values;
}

/** Progress, for whoever watches. @param {string} message */
function log(message) {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${message}`);
}

async function main() {
  const { scenario: wanted, json, quick } = parseOptions();
  const say = json ? () => {} : console.log;
  const machine = describeMachine();
  say(`${machineLine(machine)}\n`);
  if (quick) say('Quick: the targets are meant for the full sizes.\n');
  const scratch = makeScratch();
  const rounds = quick ? 2 : 5;
  const results = [];
  for (const scenario of SCENARIOS.filter(({ name }) => wanted.includes(name))) {
    const prefixed = (message) => log(`${scenario.name}: ${message}`);
    const result = await scenario.run({ scratch, quick, rounds, log: prefixed });
    log('');
    say(`${scenarioText(result)}\n`);
    results.push(result);
  }
  if (json) console.log(JSON.stringify({ machine, quick, scenarios: results }, null, 2));
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
