import Koa from 'koa';
import send from 'koa-send';

const app = new Koa();
app.use((ctx) => send(ctx, ctx.path, { root: process.argv[2] }));
const server = app.listen(0, '127.0.0.1', () => console.log(server.address().port));
