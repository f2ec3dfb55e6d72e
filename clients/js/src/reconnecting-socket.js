// In place of the browser's WebSocket, with the options of the well-known packages that reconnect.

import { Emitter } from './emitter.js';
import { Loop } from './loop.js';
import { TidegateError, failure, hintFor } from './error.js';
import { surroundings } from './environment.js';
import { checkProtocols, explainConstructor, isHopeless, noHeaders } from './checks.js';

const CODES = { CONNECTING: 0, OPEN: 1, CLOSING: 2, CLOSED: 3 };
const STATES = { idle: 3, connecting: 0, offline: 0, waiting: 0, open: 1, closing: 2, stopped: 3 };

const sizeOf = (data) => (typeof data === 'string' ? new TextEncoder().encode(data).length : data.size ?? data.byteLength ?? 0);

/** An event of the platform's class where there is one, so that `instanceof` holds. */
function eventOf(Class, type, facts) {
  const event = new (globalThis[Class] || Event)(type, facts);
  for (const [name, value] of Object.entries(facts)) {
    if (event[name] !== value) Object.defineProperty(event, name, { value });
  }
  return event;
}

/** `first` of the options that is set. */
const pick = (options, ...names) => names.map((name) => options[name]).find((value) => value !== undefined && value !== null);

export class ReconnectingSocket extends Emitter {
  onopen = null;
  onmessage = null;
  onclose = null;
  onerror = null;
  onconnecting = null;
  #loop;
  #env;
  #queue = [];
  #wrappers = new Map();
  #options;
  #nOpened = 0;
  #binaryType = 'blob';
  #url = '';

  constructor(url, protocols, options = {}) {
    super();
    if (options.headers) throw noHeaders();
    const given = typeof protocols === 'function' ? protocols : checkProtocols(protocols);
    if (url === undefined || url === null || url === '') throw failure('handshake.bad-url-syntax', 'The URL is missing.');
    this.#options = options;
    this.#env = surroundings({ ...(options.WebSocket && { WebSocket: options.WebSocket }), ...options.environment });
    this.#binaryType = options.binaryType || 'blob';
    const least = pick(options, 'minReconnectionDelay', 'reconnectInterval') ?? 1000;
    const most = pick(options, 'maxReconnectionDelay', 'maxReconnectInterval') ?? 30000;
    const factor = pick(options, 'reconnectionDelayGrowFactor', 'reconnectDecay') ?? 1.5;
    const rules = {
      openTimeout: pick(options, 'connectionTimeout', 'timeoutInterval') ?? 10000,
      maxAttempts: (pick(options, 'maxRetries', 'maxReconnectAttempts') ?? Infinity) + 1,
      maxRefusals: Infinity,
      stableAfter: options.minUptime ?? 10000,
      // Half of it is jitter, or all clients of a gateway that restarts come back at one moment.
      delay: (n) => Math.min(most, least * factor ** n) * (options.jitter === false ? 1 : 0.5 + this.#env.random() / 2),
    };
    this.#loop = new Loop(this.#env, rules, {
      prepare: async () => {
        this.#emit('Event', 'connecting', { isReconnect: this.#nOpened > 0, code: 0, reason: '' });
        this.#url = String(typeof url === 'function' ? await url() : url);
        return { url: this.#url, protocols: typeof given === 'function' ? await given() : given };
      },
      opened: (socket) => {
        socket.binaryType = this.#binaryType;
        for (const data of this.#queue.splice(0)) socket.send(data);
        this.#emit('Event', 'open', { isReconnect: this.#nOpened++ > 0 });
      },
      message: (event) => this.#emit('MessageEvent', 'message', { data: event.data, origin: event.origin || '' }),
      explain: (error, url, nLive) => explainConstructor(error, url, this.#env.location, nLive),
      failed: (end) => this.#fail(this.#errorOf(end)),
      closed: (end) => {
        // An attempt that never got a socket has told nobody yet.
        if (end.error) this.#fail(end.error);
        this.#emit('CloseEvent', 'close', { code: end.code, reason: end.reason, wasClean: end.wasClean });
      },
      judge: (end) => ({ verdict: end.code === 1000 || isHopeless(end.error) ? 'stop' : 'retry', error: null }),
      report: () => {},
      stopped: (error) => error && this.#fail(error),
      state: (name) => this.#debug(name),
    });
    if (!options.startClosed && options.automaticOpen !== false) this.#loop.start();
  }

  get CONNECTING() { return 0; }
  get OPEN() { return 1; }
  get CLOSING() { return 2; }
  get CLOSED() { return 3; }
  get readyState() { return STATES[this.#loop.state]; }
  get url() { return (this.#loop.socket && this.#loop.socket.url) || this.#url; }
  get protocol() { return (this.#loop.socket && this.#loop.socket.protocol) || ''; }
  get extensions() { return (this.#loop.socket && this.#loop.socket.extensions) || ''; }
  get retryCount() { return this.#loop.nFailures; }
  get reconnectAttempts() { return this.#loop.nFailures; }
  get shouldReconnect() { return this.readyState < 2; }

  /** Bytes that wait, in the browser or here. */
  get bufferedAmount() {
    const waiting = this.#queue.reduce((sum, data) => sum + sizeOf(data), 0);
    return waiting + ((this.#loop.socket && this.#loop.socket.bufferedAmount) || 0);
  }

  get binaryType() { return this.#binaryType; }
  set binaryType(type) {
    this.#binaryType = type;
    if (this.#loop.socket) this.#loop.socket.binaryType = type;
  }

  /** Sends, or keeps up to `maxEnqueuedMessages` (1000) until it is open. What does not fit is an `error` event. */
  send(data) {
    if (this.readyState === 1) return this.#loop.socket.send(data);
    if (this.#queue.length < Math.min(this.#options.maxEnqueuedMessages ?? 1000, 100000)) this.#queue.push(data);
    else this.#fail(new TidegateError('The queue of messages is full; one was not taken.', { phase: 'message' }));
  }

  close(code = 1000, reason = '') {
    this.#queue.length = 0;
    this.#loop.stop(code, reason);
  }

  /** Opens it, if it is not. */
  open() {
    this.#loop.start();
  }

  /** Closes and opens it again. */
  reconnect(code = 1000, reason = '') {
    if (this.readyState === 3) this.#loop.start();
    else this.#loop.drop(code, reason);
  }

  refresh() {
    this.reconnect();
  }

  addEventListener(type, listener, options) {
    if (!listener || this.#wrapped(type).has(listener)) return;
    const { once, signal } = Object(options);
    if (signal && signal.aborted) return;
    const wrapper = (event) => {
      if (once) this.removeEventListener(type, listener);
      return typeof listener === 'function' ? listener.call(this, event) : listener.handleEvent(event);
    };
    this.#wrapped(type).set(listener, wrapper);
    super.addEventListener(type, wrapper);
    if (signal) signal.addEventListener('abort', () => this.removeEventListener(type, listener), { once: true });
  }

  removeEventListener(type, listener) {
    super.removeEventListener(type, this.#wrapped(type).get(listener));
    this.#wrapped(type).delete(listener);
  }

  deliver(type, event) {
    super.deliver(type, event);
    const listener = this[`on${type}`];
    if (typeof listener === 'function') this.call(listener, event, type);
  }

  /** What was added for a type, and what stands for it. */
  #wrapped(type) {
    if (!this.#wrappers.has(type)) this.#wrappers.set(type, new Map());
    return this.#wrappers.get(type);
  }

  /** The connection stays. */
  listenerFailed(cause, type) {
    if (type !== 'error') {
      this.#fail(failure('push.client-handler-error', `A listener of "${type}" failed.`, { phase: 'message', cause, lastGoodAt: this.#loop.lastGoodAt }));
    }
  }

  #errorOf({ phase, attempt, timedOut }) {
    const sentence = phase === 'opened' ? 'The connection failed.' : timedOut ? 'The attempt took too long.' : 'The attempt failed.';
    return new TidegateError(sentence, { phase, code: 1006, attempt, lastGoodAt: this.#loop.lastGoodAt, hint: hintFor(1006) });
  }

  #fail(error) {
    this.#debug(error.message);
    this.#emit('Event', 'error', { error, message: error.message });
  }

  #emit(Class, type, facts) {
    this.deliver(type, eventOf(Class, type, facts));
  }

  /** Never the URL, never a message. */
  #debug(text) {
    if (this.#options.debug) console.debug('ReconnectingSocket', text);
  }
}
Object.assign(ReconnectingSocket, CODES);

/** What the Django package advises its pages: 3 s to 10 s, factor 1.5, 5 s to open, no limit of tries. S0-100. */
export const djangoOptions = { reconnectInterval: 3000, maxReconnectInterval: 10000, reconnectDecay: 1.5, timeoutInterval: 5000, maxReconnectAttempts: null };
