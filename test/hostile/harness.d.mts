export interface SiteFile {
  mark: number;
  size: number;
}

export interface HostileSite {
  root: string;
  arrivals: string;
  decoys: string;
  socket: string;
  files: SiteFile[];
}

export interface Held {
  descriptors: number;
  threads: number;
  residentBytes: number;
}

interface Counts {
  accepted: number;
  begun: number;
  ended: number;
  how: Record<string, number>;
}

interface Settings {
  buffers?: number;
  execArgv?: string[];
  env?: NodeJS.ProcessEnv;
  certificate?: { key: string; cert: string };
  decoys?: boolean;
}

/** What became of a client's connections; see client.c. */
export interface Report {
  connections: number;
  requests: number;
  whole: number;
  broken: number;
  refused: number;
  stopped: number;
  files: number;
  bytes: number;
  complaints: number;
  seconds: number;
}

export interface ClientOptions {
  files?: SiteFile[];
  [name: string]: string | number | SiteFile[] | undefined;
}

export function buildClient(): void;
export function clientProgram(): string;
export function makeSite(folder: string, sizes: number[]): HostileSite;
export function checkSite(site: HostileSite): void;
export function checkArrivals(site: HostileSite): number;
export function descriptorsOf(pid: number): number;
export function threadsOf(pid: number): string[];
export function residentBytesOf(pid: number): number;
export function runClient(program: string, options: ClientOptions): Promise<Report>;

export class Server {
  static start(site: HostileSite, settings?: Settings): Promise<Server>;
  readonly pid: number;
  readonly site: HostileSite;
  ports: Record<'http' | 'https' | 'raw' | 'relayToHttp' | 'relayToRaw', number>;
  ask(ask: 'counts'): Promise<Counts>;
  ask(ask: 'memory'): Promise<NodeJS.MemoryUsage>;
  ask(ask: 'open'): Promise<number>;
  idle(): Promise<Held>;
  stop(): Promise<void>;
}
