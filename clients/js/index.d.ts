/** What was seen of an attempt or connection. `proven`: the proof was seen; `likely`: everything fits. */
export interface Diagnosis {
  id: string;
  message: string;
  confidence: 'proven' | 'likely';
}

/** What a dry run was answered. */
export interface DryRun {
  ok: boolean;
  status: number | null;
  message: string;
  /** Seconds. */
  retryAfter: number | null;
  requestId: string | null;
}

/** Everything that goes wrong. Never has a URL, a token or a payload in it; `cause` (the page's own error) is not enumerable. */
export class TidegateError extends Error {
  constructor(sentence: string, facts?: Partial<Omit<TidegateError, 'name' | 'message' | 'stack' | 'toJSON'>>);
  readonly name: 'TidegateError';
  phase: 'never-opened' | 'opened' | 'message';
  /** Close code, or code of a chat error. */
  code: number | null;
  reason: string;
  /** For `tidegate explain REFERENCE`. */
  reference: string | null;
  attempt: number;
  /** Milliseconds since 1970: when something last came from the server. */
  lastGoodAt: number | null;
  diagnosis: Diagnosis | null;
  hint: string;
  /** HTTP status of a refusal, where it is known. */
  status: number | null;
  requestId: string | null;
  dryRun: DryRun | null;
  /** `detail` of a chat error as it came: text, list, or object. */
  detail: unknown;
  /** Seconds. */
  retryAfter: number | null;
  /** No further attempt follows. */
  final: boolean;
  cause?: unknown;
  toJSON(): object;
}

type Text = string | ArrayBufferLike | ArrayBufferView | Blob;
type Url = string | URL;

export interface TokenContext {
  attempt?: number;
  signal?: AbortSignal;
  /** The server's clock minus this one, in milliseconds, where it could be read. */
  onClock?: (offset: number) => void;
}

export interface Heartbeat {
  /** Seconds between questions. Default 25. */
  interval?: number;
  /** Seconds to wait for a sign of life. Default 10. */
  timeout?: number;
  /** Text to send in place of the gateway's control message. */
  send?: string;
  /** Text that answers it. Without one nothing is expected: the text only keeps the connection in use. */
  expect?: string;
}

export interface TidegateOptions {
  /** Called before each attempt; the token of the attempt before is never used again. */
  getToken?: ((context: TokenContext) => string | Promise<string>) | null;
  /** Default `query`. `subprotocol` sends the pair `tidegate.bearer, TOKEN`. */
  tokenIn?: 'query' | 'subprotocol';
  /** Default `ws_token`. */
  tokenParameter?: string;
  protocols?: string | string[];
  channels?: string | string[];
  /** Default true: channels go on after the last message that was seen. */
  resume?: boolean;
  /** Asks after each join who is there. Default false. */
  presence?: boolean;
  /** The gateway's `[control] key`; false where there is none. Default `tidegate`. */
  control?: string | false;
  /** Query parameter for channels where `control` is false. Default `channel`. */
  channelParameter?: string;
  /** Seconds between questions, or false. */
  heartbeat?: number | false | Heartbeat;
  /** Default true: `_tgref` in the URL, and the gateway is asked why an attempt failed. */
  reference?: boolean;
  /** Where to ask instead of `/connect-status` below the URL. */
  statusUrl?: string;
  /** Default false: asks by a plain GET why an attempt failed. */
  dryRun?: boolean;
  /** Amazon API Gateway: nothing that only Tidegate knows. */
  aws?: boolean;
  /** Default true: messages are parsed. */
  json?: boolean;
  /** Default true: errors in messages become `error` events. */
  serverErrors?: boolean;
  /** Default `queue`. */
  whileClosed?: 'queue' | 'reject';
  /** Default 1000. */
  maxQueue?: number;
  /** Default 131072. */
  maxMessageBytes?: number;
  /** Member that ties a reply to a request. Default `correlationId`. */
  correlation?: string;
  /** Seconds. Default 10. */
  replyTimeout?: number;
  /** Seconds. Defaults 1 and 30. */
  baseDelay?: number;
  maxDelay?: number;
  /** Seconds after which a connection counts as success. Default 10. */
  stableAfter?: number;
  /** Seconds for token and handshake, each. Default 35: longer than a gateway waits for `$connect`. */
  openTimeout?: number;
  /** Default Infinity. */
  maxAttempts?: number;
  /** Default 3. */
  maxRefusals?: number;
  autoConnect?: boolean;
  binaryType?: BinaryType;
  onError?: (error: TidegateError) => void;
  /** A class like the browser's, for hosts without one. */
  WebSocket?: unknown;
  /** Replaces parts of the host; for tests. */
  environment?: Record<string, unknown>;
}

export type State = 'idle' | 'connecting' | 'open' | 'waiting' | 'offline' | 'closing' | 'stopped';

export interface ChannelMessage<T = any> {
  type: 'message';
  /** Null for a message that came without an envelope. */
  channel: string | null;
  id: string | null;
  data: T;
}

export interface Presence {
  channel: string;
  connections: number;
  users: number;
  userIds: string[];
}

export interface TidegateEvents {
  open: { type: 'open'; attempt: number; protocol: string };
  message: ChannelMessage;
  /** A text that is not JSON. */
  text: { type: 'text'; data: string };
  close: { type: 'close'; code: number; reason: string; wasClean: boolean; phase: TidegateError['phase']; attempt: number; hint: string };
  error: { type: 'error'; error: TidegateError };
  warning: { type: 'warning'; error: TidegateError };
  stopped: { type: 'stopped'; error: TidegateError | null };
  state: { type: 'state'; state: State };
  joined: { type: 'joined'; channel: string; recovered: boolean | null; replayed: number };
  left: { type: 'left'; channel: string; by: 'client' | 'gateway'; id: string | null; message: string };
  /** More was missed than the gateway keeps: load the state anew. */
  lost: { type: 'lost'; channel: string; message: string };
  resumed: { type: 'resumed'; channel: string; replayed: number };
  presence: { type: 'presence'; channel: string; change: 'join' | 'leave' | null; user?: string; connectionId?: string } & Partial<Presence>;
}

type Off = () => void;

export class Tidegate {
  constructor(url: Url | (() => Url | Promise<Url>), options?: TidegateOptions);
  readonly state: State;
  readonly attempt: number;
  readonly lastGoodAt: number | null;
  readonly channels: string[];
  readonly clockOffset: number | null;
  readonly protocol: string;
  on<K extends keyof TidegateEvents>(type: K, listener: (event: TidegateEvents[K]) => void): Off;
  addEventListener<K extends keyof TidegateEvents>(type: K, listener: (event: TidegateEvents[K]) => void): void;
  removeEventListener<K extends keyof TidegateEvents>(type: K, listener: (event: TidegateEvents[K]) => void): void;
  connect(): void;
  disconnect(code?: number, reason?: string): void;
  send(data: Text | object | number | boolean | null): Promise<void>;
  request<T = any>(data: object, options?: { timeout?: number }): Promise<T>;
  join(channel: string): Promise<{ channel: string; recovered?: boolean; replayed?: number; id?: string }>;
  leave(channel: string): Promise<{ channel: string }>;
  change(channel: string): Promise<{ channel: string }>;
  subscribe<T = any>(channel: string, listener: (data: T, message: ChannelMessage<T>) => void): Off;
  publish(channel: string, data: unknown): Promise<{ channel: string; id?: string }>;
  presence(channel: string): Promise<Presence>;
  history<T = any>(channel: string, after: string): Promise<{ recovered: boolean; messages: ChannelMessage<T>[] }>;
  ping(): Promise<{ time: number }>;
}

export interface ReconnectingSocketOptions {
  debug?: boolean;
  WebSocket?: unknown;
  binaryType?: BinaryType;
  /** Milliseconds to the first attempt after a loss. Default 1000. */
  reconnectInterval?: number;
  minReconnectionDelay?: number;
  /** Milliseconds. Default 30000. */
  maxReconnectInterval?: number;
  maxReconnectionDelay?: number;
  /** Default 1.5. */
  reconnectDecay?: number;
  reconnectionDelayGrowFactor?: number;
  /** Milliseconds that an attempt may take. Default 10000. */
  timeoutInterval?: number;
  connectionTimeout?: number;
  /** Default: no limit. */
  maxReconnectAttempts?: number | null;
  maxRetries?: number;
  /** Default 1000. */
  maxEnqueuedMessages?: number;
  /** Milliseconds after which a connection counts as success. Default 10000. */
  minUptime?: number;
  startClosed?: boolean;
  automaticOpen?: boolean;
  /** Default true: each delay is between half and all of itself. */
  jitter?: boolean;
  environment?: Record<string, unknown>;
}

export interface SocketEvents {
  open: Event & { isReconnect: boolean };
  connecting: Event & { isReconnect: boolean };
  message: MessageEvent;
  close: CloseEvent;
  error: Event & { error: TidegateError; message: string };
}

export class ReconnectingSocket {
  constructor(
    url: Url | (() => Url | Promise<Url>),
    protocols?: string | string[] | null | (() => string[] | Promise<string[]>),
    options?: ReconnectingSocketOptions,
  );
  static readonly CONNECTING: 0;
  static readonly OPEN: 1;
  static readonly CLOSING: 2;
  static readonly CLOSED: 3;
  readonly CONNECTING: 0;
  readonly OPEN: 1;
  readonly CLOSING: 2;
  readonly CLOSED: 3;
  readonly readyState: 0 | 1 | 2 | 3;
  readonly url: string;
  readonly protocol: string;
  readonly extensions: string;
  readonly bufferedAmount: number;
  readonly retryCount: number;
  readonly reconnectAttempts: number;
  readonly shouldReconnect: boolean;
  binaryType: BinaryType;
  onopen: ((event: SocketEvents['open']) => void) | null;
  onconnecting: ((event: SocketEvents['connecting']) => void) | null;
  onmessage: ((event: MessageEvent) => void) | null;
  onclose: ((event: CloseEvent) => void) | null;
  onerror: ((event: SocketEvents['error']) => void) | null;
  addEventListener<K extends keyof SocketEvents>(
    type: K,
    listener: ((event: SocketEvents[K]) => void) | { handleEvent(event: SocketEvents[K]): void },
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<K extends keyof SocketEvents>(type: K, listener: unknown): void;
  send(data: Text): void;
  close(code?: number, reason?: string): void;
  open(): void;
  reconnect(code?: number, reason?: string): void;
  refresh(): void;
}

export interface TokenOptions {
  /** Cookie with the CSRF token; null where there is none. Default `csrftoken`. */
  csrfCookie?: string | null;
  /** Default `X-CSRFToken`. */
  csrfHeader?: string;
  /** Name of the session cookie, if pages can read it. */
  sessionCookie?: string;
  /** Default `same-origin`. */
  credentials?: RequestCredentials;
  /** Default `POST`. */
  method?: string;
  headers?: Record<string, string>;
  /** Member of the answer. Default `token`. */
  field?: string;
  environment?: Record<string, unknown>;
}

/** For `getToken`: asks this address each time, and says why it got none (`tokenreq.*`). */
export function tokenFrom(url: string, options?: TokenOptions): (context?: TokenContext) => Promise<string>;

export interface ServerError {
  form: 'object' | 'text' | 'gateway';
  code: number | null;
  detail: unknown;
  text: string;
  requestId: string | null;
}

/** The error in a message of the server, in any of the known forms, or null. */
export function readServerError(message: unknown): ServerError | null;
/** One line out of text, list or nested object. */
export function flatten(detail: unknown): string;
/** What a close code means. */
export function hintFor(code: number): string;

/** Ready-made options: those for alerts. */
export const presets: { alerts: TidegateOptions };
/** What the Django package advises its pages. */
export const djangoOptions: ReconnectingSocketOptions;
