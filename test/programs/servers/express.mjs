import { resolve } from 'node:path';
import express from 'express';

const root = resolve(process.argv[2]);
const app = express();
app.get('/file/:name', (req, res) => res.sendFile(req.params.name, { root }));
app.get('/download/:name', (req, res) => res.download(req.params.name, 'as.bin', { root }));
app.use(express.static(root));
const server = app.listen(0, '127.0.0.1', () => console.log(server.address().port));
