// Serves files over HTTP: /0, /1, ... are the files given; with ?chunked, or ?transfer to send them
// with transfer(). Writes its port to a file. /end ends it.
//   http-server.mjs PORT_FILE FILE...
import { renameSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createReadStream, transfer } from 'zerocopy';

const [portFile, ...files] = process.argv.slice(2);

const server = createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, 'http://h');
  if (pathname === '/end') {
    response.end();
    server.close();
    server.closeIdleConnections();
    setImmediate(() => server.closeAllConnections());
    return;
  }
  const file = files[Number(pathname.slice(1))];
  if (!searchParams.has('chunked')) response.setHeader('Content-Length', statSync(file).size);
  if (searchParams.has('transfer')) transfer(file, response);
  else createReadStream(file).pipe(response);
});
server.listen(0, '127.0.0.1', () => {
  writeFileSync(`${portFile}.new`, String(server.address().port));
  renameSync(`${portFile}.new`, portFile);
});
