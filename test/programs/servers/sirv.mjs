import { createServer } from 'node:http';
import sirv from 'sirv';

const [, , root, mode] = process.argv;
const files = sirv(root, { dev: mode === 'dev', etag: true });
const server = createServer((req, res) => files(req, res));
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
