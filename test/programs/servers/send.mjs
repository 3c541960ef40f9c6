import { createServer } from 'node:http';
import send from 'send';

const server = createServer((req, res) => send(req, req.url, { root: process.argv[2] }).pipe(res));
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
