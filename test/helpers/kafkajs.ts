import * as net from 'node:net';
import { Kafka, type KafkaConfig, logLevel, Partitioners, type Producer } from 'kafkajs';
import { onTestFinished } from 'vitest';

/** A client that goes with the test, tries nothing twice and prints nothing. */
export function kafkajs({ address }: { address: string }, config: Partial<KafkaConfig> = {}) {
  return new Kafka({
    brokers: [address],
    logLevel: logLevel.NOTHING,
    retry: { retries: 0 },
    ...config,
  });
}

export async function startProducer(
  broker: { address: string },
  config: Partial<KafkaConfig> = {},
): Promise<Producer> {
  const producer = kafkajs(broker, config).producer({
    createPartitioner: Partitioners.DefaultPartitioner,
    retry: { retries: 0 },
  });
  onTestFinished(() => producer.disconnect().catch(() => {}));
  await producer.connect();
  return producer;
}

export interface Tap {
  socketFactory: NonNullable<KafkaConfig['socketFactory']>;
  sockets: net.Socket[];
  /** All that its sockets were given to send. */
  sent(): Buffer;
}

/**
 * Makes sockets for kafkajs. A write of more than `limit` bytes, if there is a limit, ends there, and
 * nothing comes after it, though its socket stays open.
 */
export function tap(limit = Number.POSITIVE_INFINITY): Tap {
  const chunks: Buffer[] = [];
  const sockets: net.Socket[] = [];
  const socketFactory: Tap['socketFactory'] = ({ host, port, onConnect }) => {
    const socket = net.connect({ host, port }, onConnect);
    const write = socket.write.bind(socket) as (bytes: Buffer) => boolean;
    let stuck = false;
    const limited = (bytes: Buffer) => {
      chunks.push(Buffer.from(bytes));
      if (stuck) return true;
      stuck = bytes.length > limit;
      return write(bytes.subarray(0, limit));
    };
    sockets.push(socket);
    return Object.assign(socket, { write: limited });
  };
  return { socketFactory, sockets, sent: () => Buffer.concat(chunks) };
}
