// One trial over HTTP: a server of its own, which is loaded.
import { cpuSecondsOf, load } from './load.mjs';
import { startNginx } from './nginx.mjs';
import { fromBench } from './paths.mjs';
import { find } from './peers.mjs';
import { startServer } from './processes.mjs';

const bun = find('bun');
const node = [process.execPath];
const serve = fromBench('trials/serve.mjs');
const underRegister = ['--import', fromBench('../dist/register.js')];

/**
 * Starts a server of a directory's files.
 * @param {string} way
 * @param {string} directory
 */
export function startHttpServer(way, directory) {
  const parameters = JSON.stringify({ way, directory });
  if (way === 'nginx') return startNginx(directory);
  if (way === 'bun')
    return startServer([bun.program, fromBench('trials/serve-bun.mjs'), parameters]);
  const options = way.endsWith('-register') ? underRegister : [];
  return startServer([...node, ...options, serve, parameters]);
}

/**
 * @param {object} options
 * @param {string} options.way
 * @param {string} options.directory
 * @param {string} options.path of the URL
 * @param {number} options.warmUpSeconds compiled code is what a server runs
 * @param {number} options.seconds
 * @param {() => void} options.prepare what is to be done before it is measured
 * @param {Record<string, string>} [options.headers]
 */
export async function loadTrial(options) {
  const { way, directory, path, warmUpSeconds, seconds, prepare, headers } = options;
  const { pid, port, stop } = await startHttpServer(way, directory);
  const url = `http://127.0.0.1:${port}${path}`;
  await load(url, warmUpSeconds, { headers });
  prepare();
  const before = cpuSecondsOf(pid);
  const { requests, ...figures } = await load(url, seconds, { headers });
  const cpuMicrosecondsEach = ((cpuSecondsOf(pid) - before) / requests) * 1e6;
  await stop();
  return { ...figures, cpuMicrosecondsEach };
}
