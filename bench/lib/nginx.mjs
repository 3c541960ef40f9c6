// nginx with sendfile, and else as it is: one process, which opens the file at every request. With
// tcp_nopush, connections stall for 40 ms from 64 KiB on (over loopback, Linux 6.18).
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { freePort, startListening } from './listening.mjs';
import { find } from './peers.mjs';

const { program } = find('nginx');

/** @param {number} port @param {string} root @param {string} own directory for what nginx writes */
const configuration = (port, root, own) => `
daemon off;
master_process off;
${process.getuid?.() === 0 ? 'user root;' : ''}
pid ${own}/pid;
error_log stderr error;
events { worker_connections 1024; }
http {
  access_log off;
  sendfile on;
  keepalive_requests 100000000;
  default_type application/octet-stream;
  client_body_temp_path ${own}/client;
  proxy_temp_path ${own}/proxy;
  fastcgi_temp_path ${own}/fastcgi;
  uwsgi_temp_path ${own}/uwsgi;
  scgi_temp_path ${own}/scgi;
  server {
    listen 127.0.0.1:${port};
    root ${root};
  }
}
`;

/** Starts nginx over the files of a directory. @param {string} root */
export async function startNginx(root) {
  const own = path.join(root, '.nginx');
  mkdirSync(own, { recursive: true });
  const file = path.join(own, 'nginx.conf');
  const port = await freePort();
  writeFileSync(file, configuration(port, root, own));
  return startListening([program, '-c', file, '-p', own, '-e', 'stderr'], port);
}
