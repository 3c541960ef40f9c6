import { createServer } from 'node:http';
import handler from 'serve-handler';

const server = createServer((req, res) =>
  handler(req, res, { public: process.argv[2], etag: true, cleanUrls: false }),
);
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
