// What a transfer must come to: which ways it may go, and how it may end.
import type { Backend, FallbackCode, TransferError, TransferResult } from 'zerocopy';
import type { DuplexKind } from './program';

export type SourceKind = 'file' | 'proc' | DuplexKind;
export type SinkKind = DuplexKind | 'file' | 'append' | 'http';

/** The way that bytes may go between two ends: docs/endpoints.md. */
export interface Way {
  backends: Backend[];
  fallback?: FallbackCode;
  /** Whether large pieces of memory go before the rest, whatever way that takes. */
  isMixed?: boolean;
}

const byStream = (fallback: FallbackCode): Way => ({ backends: ['stream'], fallback });

export function wayOf(source: SourceKind, sink: SinkKind, backend: 'auto' | 'stream'): Way {
  if (backend === 'stream') return byStream('REQUESTED');
  const fromStream = isStream(source);
  if (sink === 'http' && fromStream) return byStream('SINK_TYPE');
  if (sink === 'tls') return byStream('TLS');
  if (sink === 'passthrough') return byStream('SINK_TYPE');
  if (source === 'tls') return byStream('TLS');
  if (source === 'passthrough') return byStream('SOURCE_STREAM');
  if (source === 'proc') {
    if (sink === 'file') return { backends: ['read', 'copy_file_range'] };
    return byStream(sink === 'append' ? 'SINK_APPEND' : 'SOURCE_SIZE');
  }
  if (sink === 'append') return byStream('SINK_APPEND');
  if (fromStream) return { backends: ['splice'] };
  if (sink === 'file') return { backends: ['copy_file_range', 'sendfile', 'read'] };
  return { backends: sink === 'pipe' ? ['splice', 'read'] : ['sendfile', 'read'] };
}

const isStream = (source: SourceKind): source is DuplexKind =>
  source !== 'file' && source !== 'proc';

export type Outcome = { result: TransferResult } | { error: TransferError };

/** What is known of a transfer when it settles. */
export interface Facts {
  way: Way;
  /** How many bytes it may have moved when it resolves. */
  least: number;
  most: number;
  /** What may have failed it by now: codes of errors. */
  causes: ReadonlySet<string>;
  /** What must have. */
  doom?: string | undefined;
}

/** What is wrong with how a transfer ended. */
export function judge(outcome: Outcome, facts: Facts): string | undefined {
  return 'result' in outcome
    ? judgeResult(outcome.result, facts)
    : judgeError(outcome.error, facts);
}

function judgeResult(result: TransferResult, { way, least, most, doom, causes }: Facts) {
  const { transferred, backend, fallback } = result;
  if (doom) return `it resolved, and not with ${doom}`;
  if (transferred < least || transferred > most) {
    return `it resolved with ${transferred} bytes, and not ${least} to ${most}`;
  }
  // Of nothing, not much is known.
  const isNothing = transferred === 0 && (backend === 'sendfile' || backend === 'splice');
  if (isNothing && !fallback) return undefined;
  // Of an end that has gone the rest may have been found to be nothing.
  const hasGone = causes.has('ERR_STREAM_PREMATURE_CLOSE') && fallback?.code.endsWith('_HANDLE');
  if (way.isMixed || hasGone) return undefined;
  if (!way.backends.includes(backend)) return `it went by ${backend}, not ${way.backends}`;
  if (fallback?.code !== way.fallback) {
    return `its fallback is ${fallback?.code} (${fallback?.message}), not ${way.fallback}`;
  }
  if (fallback && fallback.at !== 0) return `it fell back at ${fallback.at}`;
  return undefined;
}

function judgeError(error: TransferError, { way, most, causes, doom }: Facts) {
  const { name, code, transferred, backend } = error;
  if (name !== 'TransferError' && name !== 'AbortError') return `it failed with ${error.stack}`;
  if ((code === 'ABORT_ERR') !== (name === 'AbortError')) return `a ${name} with code ${code}`;
  if (doom !== undefined && code !== doom && !causes.has(code)) {
    return `it failed with ${code}, and not ${doom}`;
  }
  if (doom === undefined && !causes.has(code)) {
    return `it failed with ${code} (${error.message}), for which there was no cause: ${[...causes].join()}`;
  }
  if (!(transferred >= 0 && transferred <= most)) {
    return `it failed after ${transferred} bytes of ${most}`;
  }
  // What was tried, or would have been: of an end that isn't open nothing is known yet. And to one
  // that has gone there is no other way.
  const others = [
    'sendfile',
    'splice',
    ...(causes.has('ERR_STREAM_PREMATURE_CLOSE') ? ['stream'] : []),
  ];
  if (way.isMixed || others.includes(backend) || doom !== undefined) return undefined;
  if (!way.backends.includes(backend)) return `it failed by ${backend}, not ${way.backends}`;
  return undefined;
}
