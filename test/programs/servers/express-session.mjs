import express from 'express';
import session from 'express-session';

const app = express();
let ids = 0;
app.use(
  session({
    secret: 'known',
    name: 'sid',
    genid: () => `session ${++ids}`,
    resave: false,
    saveUninitialized: true,
    store: new session.MemoryStore(),
  }),
);
app.use((req, res, next) => {
  req.session.views = (req.session.views ?? 0) + 1;
  res.cookie('views', String(req.session.views));
  next();
});
app.use(express.static(process.argv[2]));
const server = app.listen(0, '127.0.0.1', () => console.log(server.address().port));
