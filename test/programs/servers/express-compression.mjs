import compression from 'compression';
import express from 'express';

const app = express();
app.use(compression());
app.use(express.static(process.argv[2]));
const server = app.listen(0, '127.0.0.1', () => console.log(server.address().port));
