// HTTPS clients: few, and in Node, since what they load is the way by streams.
import { once } from 'node:events';
import { Agent, get } from 'node:https';
import { contentOf } from '../hostile/marks.mjs';

async function ask(options, { mark, size }, way) {
  const request = get({ ...options, path: `/${way}/${mark}` });
  const [response] = await once(request, 'response');
  let received = 0;
  for await (const chunk of response) {
    if (!chunk.equals(contentOf(mark, chunk.length, received)))
      throw new Error(`WRONG BYTES by HTTPS in file ${mark} at ${received}`);
    received += chunk.length;
  }
  if (received !== size) throw new Error(`ANOTHER LENGTH by HTTPS: file ${mark}, ${received}`);
  return received;
}

/** Connections one after the other, or several at once where they come faster. */
export async function runTlsClient({ port, site, count, rate, requests, ways }) {
  const names = ways.split(',');
  let bytes = 0;
  const connections = Array.from({ length: count }, async (_, i) => {
    await new Promise((resolve) => setTimeout(resolve, (i / rate) * 1000));
    const agent = new Agent({ keepAlive: true, maxSockets: 1, rejectUnauthorized: false });
    for (let at = 0; at < requests; at++) {
      const number = i * requests + at;
      const file = site.files[number % site.files.length];
      bytes += await ask({ port, agent }, file, names[number % names.length]);
    }
    agent.destroy();
  });
  await Promise.all(connections);
  return { connections: count, requests: count * requests, bytes };
}
