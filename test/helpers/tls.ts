// TLS connections, and the certificate that their servers have.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as path from 'node:path';
import * as tls from 'node:tls';
import { scratchFolder } from './files';
import { onTestFinished } from './scope';
import { listenOnPort } from './sockets';

let identity: { key: Buffer; cert: Buffer } | undefined;

/** The key and the certificate of `localhost`, made once. */
export function certificate() {
  if (identity) return identity;
  const folder = scratchFolder();
  const [key, cert] = [path.join(folder, 'key'), path.join(folder, 'cert')];
  const options = '-x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost'.split(' ');
  const names = ['-addext', 'subjectAltName=DNS:localhost'];
  const files = ['-keyout', key, '-out', cert];
  execFileSync('openssl', ['req', ...options, ...names, ...files], { stdio: 'ignore' });
  identity = { key: fs.readFileSync(key), cert: fs.readFileSync(cert) };
  return identity;
}

/** Both ends of a TLS connection. */
export async function secureLink(): Promise<{ near: tls.TLSSocket; far: tls.TLSSocket }> {
  const server = tls.createServer({ ...certificate(), allowHalfOpen: true });
  const port = await listenOnPort(server);
  const secured = once(server, 'secureConnection') as Promise<[tls.TLSSocket]>;
  const near = tls.connect({ host: '127.0.0.1', port, rejectUnauthorized: false });
  await once(near, 'secureConnect');
  const [far] = await secured;
  server.close();
  for (const socket of [near, far]) {
    socket.on('error', () => {});
    onTestFinished(() => void socket.destroy());
  }
  return { near, far };
}
