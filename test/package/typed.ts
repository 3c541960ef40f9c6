// Compiled in a project that has the package, as an ES module and as CommonJS.
import { type Backend, type Sink, type Source, type TransferResult, transfer } from 'zerocopy';
import { exchange } from './exchange.cjs';

async function backendOf(source: Source, sink: Sink): Promise<Backend> {
  const result: TransferResult = await transfer(source, sink, { endSink: true });
  return result.backend;
}

exchange(async (source, sink) => {
  if (Array.isArray(source)) throw new TypeError('Not a gather list');
  return { transferred: 0, backend: await backendOf(source, sink) };
}).then(console.log);
