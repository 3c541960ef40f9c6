import { createReadStream } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';

const server = createServer((req, res) => {
  createReadStream(join(process.argv[2], req.url)).pipe(res);
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
