// How a file comes over HTTP.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, get } from 'node:http';

export const sha256 = (content) => createHash('sha256').update(content).digest('hex');

/** Serves what `open()` returns to one client in this process. */
export async function serve(open) {
  let stream;
  const server = createServer((_, response) => {
    stream = open();
    stream.once('error', ({ code }) => response.writeHead(500).end(code));
    stream.pipe(response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  const [response] = await once(get({ port, host: '127.0.0.1', agent: false }), 'response');
  const chunks = [];
  for await (const chunk of response) chunks.push(chunk);
  if (!stream.closed) await once(stream, 'close');
  server.close();
  const body = Buffer.concat(chunks);
  return {
    status: response.statusCode,
    ...(body.length < 100 ? { text: String(body) } : { sha256: sha256(body) }),
    backend: stream.backend,
    fallback: stream.fallback?.code,
  };
}
