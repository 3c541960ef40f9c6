// From a socket into the log.
import { transfer } from 'zerocopy';
import { crcInFile, crcOf, faultOf, HEADER_BYTES, readHeader } from './batch.mjs';
import { ConnectionClosed } from './connection.mjs';
import { ErrorCode, nameOf } from './protocol.mjs';

/** Who has begun a batch that goes straight into the log must end it: others wait for that. */
const DEADLINE_MS = 10_000;

class CorruptBatch extends Error {}

/**
 * Takes a batch of a Produce request where it stands in it, and appends it.
 * @param {import('./broker.mjs').Broker} broker
 * @returns what `produce` finds as the partition's `records`
 */
export async function takeBatch({ topics, options }, connection, frame, { size, within }) {
  const [{ acks }, { name }, { index }] = within;
  const partition = topics.partition(name, index);
  frame.claim(Math.max(size, 0));
  const batch = { size, fault: ErrorCode.NONE, baseOffset: -1, way: 'memory' };
  if (!partition) batch.fault = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION;
  else if (acks < -1 || acks > 1) batch.fault = ErrorCode.INVALID_REQUIRED_ACKS;
  else if (size < HEADER_BYTES) batch.fault = ErrorCode.INVALID_RECORD;
  else if (size > options.maxBatchBytes) batch.fault = ErrorCode.MESSAGE_TOO_LARGE;
  if (batch.fault) await connection.skip(size);
  else await take(batch, connection, partition, options);

  const { fault, baseOffset, way } = batch;
  const told = fault ? nameOf(fault) : `${size} bytes at offset ${baseOffset} by ${way}`;
  options.log(`produce ${name.replace(/[^\w.-]/g, '?')}-${index}: ${told}`);
  return batch;
}

/** The answer to a Produce request, whose batches have been taken; undefined where none is wanted. */
export function produce(_broker, { acks, topics }) {
  if (acks === 0) return undefined;
  return {
    throttle_time_ms: 0,
    topics: topics.map(({ name, partitions }) => ({
      name,
      partitions: partitions.map(({ index, records: { fault, baseOffset } }) => ({
        index,
        error_code: fault,
        base_offset: baseOffset,
        log_append_time_ms: -1,
        log_start_offset: 0,
      })),
    })),
  };
}

/** Takes all bytes of a batch, and appends them unless something is wrong with them. */
async function take(batch, connection, partition, { spliceFrom }) {
  const head = await connection.take(HEADER_BYTES);
  const header = readHeader(head);
  batch.fault = faultOf(header, batch.size);
  if (batch.fault) return connection.skip(batch.size - HEADER_BYTES);
  const way = batch.size >= spliceFrom ? throughKernel : throughMemory;
  try {
    batch.baseOffset = await way(batch, header, head, connection, partition);
  } catch (error) {
    if (error instanceof ConnectionClosed) throw error;
    const corrupt = error instanceof CorruptBatch;
    batch.fault = corrupt ? ErrorCode.CORRUPT_MESSAGE : ErrorCode.KAFKA_STORAGE_ERROR;
  }
}

async function throughMemory({ size }, header, head, connection, partition) {
  const pieces = [head];
  for await (const piece of connection.pieces(size - HEADER_BYTES)) pieces.push(piece);
  if (crcOf(pieces) !== header.crc) throw new CorruptBatch();
  return partition.append(header, head, async (file, position) => {
    const { bytesWritten } = await file.writev(pieces, position);
    if (bytesWritten < size) throw new Error('the disk is full');
  });
}

/** By splice, the header too. The CRC is that of what the file has then. */
async function throughKernel(batch, header, head, connection, partition) {
  const { socket } = connection;
  batch.left = batch.size - HEADER_BYTES;
  try {
    return await partition.append(header, head, async (file, position) => {
      socket.unshift(head); // which has its base offset now
      batch.left = batch.size;
      batch.way = await receive(batch, socket, file, position);
      const crc = await crcInFile(file, position, batch.size);
      if (crc !== header.crc) throw new CorruptBatch();
    });
  } catch (error) {
    if (!(error instanceof ConnectionClosed)) await connection.skip(batch.left);
    throw error;
  }
}

/** Moves what is left of a batch into a file, as far as that goes. @returns the backend */
async function receive(batch, socket, file, position) {
  const giveUp = () => socket.destroy(new Error('a batch was not finished in time'));
  const timer = setTimeout(giveUp, DEADLINE_MS);
  try {
    const { left: length } = batch;
    const { transferred, backend } = await transfer(socket, file, { sinkOffset: position, length });
    batch.left -= transferred;
    if (batch.left > 0) throw new ConnectionClosed('the client has gone in mid-batch');
    return backend;
  } catch (error) {
    if (socket.destroyed) throw new ConnectionClosed((socket.errored ?? error).message);
    if (error.residual) socket.unshift(error.residual);
    batch.left -= error.transferred ?? 0;
    throw error;
  } finally {
    clearTimeout(timer);
  }
}
