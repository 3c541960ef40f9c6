// From the log to a socket: what a fetch answers is a gather list.
import { ErrorCode } from './protocol.mjs';

const MAX_WAIT_MS = 60_000;
const MAX_BYTES = 55 * 1024 * 1024;
const NO_SESSION = 0;

/**
 * Answers a Fetch request, at the latest when it has waited for as long as it wants to.
 * @param {import('./broker.mjs').Broker} broker
 */
export async function fetch({ topics }, request, { socket }) {
  if ((request.session_id ?? NO_SESSION) !== NO_SESSION) {
    return answer([], ErrorCode.FETCH_SESSION_ID_NOT_FOUND);
  }
  const found = await find(topics, request);
  if (found.ready || request.max_wait_ms <= 0) return answer(found.topics);

  const news = new News(socket, Math.min(request.max_wait_ms, MAX_WAIT_MS));
  for (const { name, partitions } of request.topics) {
    for (const { index } of partitions) news.watch(topics.partition(name, index));
  }
  try {
    for (;;) {
      news.forget();
      const found = await find(topics, request);
      if (found.ready || news.over) return answer(found.topics);
      await news.next();
    }
  } finally {
    news.end();
  }
}

function answer(topics, error = ErrorCode.NONE) {
  return { throttle_time_ms: 0, error_code: error, session_id: NO_SESSION, topics };
}

async function find(topics, request) {
  let bytes = 0;
  let failed = false;
  const mostBytes = Math.min(request.max_bytes, MAX_BYTES);
  const find = async ({ name }, { index, fetch_offset: offset, max_bytes: most }) => {
    const limit = Math.max(0, Math.min(most, mostBytes - bytes));
    const part = await findIn(topics.partition(name, index), offset, limit, bytes === 0);
    bytes += part.records?.length ?? 0;
    failed ||= part.error_code !== ErrorCode.NONE;
    return { index, ...part };
  };
  const found = [];
  for (const topic of request.topics) {
    const partitions = [];
    for (const partition of topic.partitions) partitions.push(await find(topic, partition));
    found.push({ name: topic.name, partitions });
  }
  return { topics: found, ready: failed || bytes >= request.min_bytes };
}

async function findIn(partition, offset, limit, atLeastOne) {
  const part = (error, end = -1, records = undefined) => ({
    error_code: error,
    high_watermark: end,
    last_stable_offset: end,
    log_start_offset: 0,
    aborted_transactions: null,
    preferred_read_replica: -1,
    records,
  });
  if (!partition) return part(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION);
  if (!partition.has(offset)) return part(ErrorCode.OFFSET_OUT_OF_RANGE, partition.end);
  try {
    const records = await partition.find(offset, limit, atLeastOne);
    return part(ErrorCode.NONE, partition.end, records); // an end that is behind them
  } catch {
    return part(ErrorCode.KAFKA_STORAGE_ERROR, partition.end);
  }
}

/** Something may have changed: a partition has got a batch, the time is over, the client is gone. */
class News {
  over;
  #news = false;
  #tell = () => {};
  #ends;

  constructor(socket, waitMs) {
    this.over = socket.destroyed; // of which 'close' may have been told already
    const finish = () => {
      this.over = true;
      this.#hear();
    };
    const timer = setTimeout(finish, waitMs);
    socket.once('close', finish);
    this.#ends = [() => clearTimeout(timer), () => socket.off('close', finish)];
  }

  watch(partition) {
    if (partition) this.#ends.push(partition.watch(() => this.#hear()));
  }

  forget() {
    this.#news = false;
  }

  /** Resolves when there are news since `forget`. */
  next() {
    return new Promise((resolve) => {
      if (this.#news) resolve();
      else this.#tell = resolve;
    });
  }

  end() {
    for (const end of this.#ends) end();
  }

  #hear() {
    this.#news = true;
    this.#tell();
  }
}
