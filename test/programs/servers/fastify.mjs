import { resolve } from 'node:path';
import files from '@fastify/static';
import Fastify from 'fastify';

const app = Fastify();
app.register(files, { root: resolve(process.argv[2]) });
app.get('/file/:name', (request, reply) => reply.sendFile(request.params.name));
app.get('/download/:name', (request, reply) => reply.download(request.params.name, 'as.bin'));
await app.listen({ port: 0, host: '127.0.0.1' });
console.log(app.server.address().port);
