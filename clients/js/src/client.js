// The client of a Tidegate gateway: tokens, channels, resume, presence, a heartbeat, and errors that say why.

import { Emitter } from './emitter.js';
import { Loop, fullJitter, nearSocketLimit } from './loop.js';
import { TidegateError, diagnosed, failure, flatten, hintFor, hintForStatus, readServerError } from './error.js';
import { listen, surroundings } from './environment.js';
import { checkProtocols, checkUrl, isHopeless, noHeaders } from './checks.js';
import { clockOffset, retryAfter } from './headers.js';

/** Statuses that the same request gets again. */
const LASTING = [400, 401, 403, 404, 405, 410, 413, 414, 426, 431];

/** Diagnoses that pass by themselves, whatever status they came with. */
const PASSING = /^(ratelimit|limit|node|integration|store|user\.check|jwt\.jwks)/;

const isLasting = (status, id) => LASTING.includes(status) && !PASSING.test(id);

/** How long `/connect-status` and a dry run may take, in milliseconds. */
const ASK_WAIT = 5000;

/** A dry run of which nothing is known. */
const UNKNOWN = { ok: false, status: null, message: '', retryAfter: null, requestId: null };

/** A clock that is off by more than this many milliseconds makes token times fail. */
const CLOCK_LIMIT = 30000;

/** Bounds of what is kept here. */
const MAX_PENDING = 1000;

const JWT = /^[\w-]+\.([\w-]+)\.[\w-]*$/;

/** When a JWT expires, in milliseconds, or null. Only to explain a refusal: nothing is decided by it. */
function expiryOf(token) {
  try {
    const { exp } = JSON.parse(atob(JWT.exec(token)[1].replace(/-/g, '+').replace(/_/g, '/')));
    return Number.isFinite(exp) ? exp * 1000 : null;
  } catch {
    return null;
  }
}

/** A place in a channel: `epoch-position`. */
function placeOf(id) {
  const [, epoch, position] = /^(.*)-(\d+)$/.exec(id) || [];
  return { epoch, position: Number(position) };
}

const seconds = (value) => value * 1000;

/** Bytes of a text or of something binary. */
const sizeOf = (data) => (typeof data === 'string' ? new TextEncoder().encode(data).length : data.size ?? data.byteLength);

/** Whoever does not look at a result must not be punished by the page's handler for unhandled rejections. */
function quiet(promise) {
  promise.catch(() => {});
  return promise;
}

export class Tidegate extends Emitter {
  #options;
  #env;
  #url;
  #loop;
  /** Channels that are wanted: name to the last id that was seen; '' in an empty channel, null before it was joined. */
  #channels = new Map();
  /** Messages that wait until those before them were asked for, by channel. */
  #held = new Map();
  /** Channels whose messages have ids, and those whose place is not known. */
  #sure = new Set();
  #unsure = new Set();
  #pending = new Map();
  #nextRef = 1;
  #queue = [];
  #lastToken = null;
  #statusMissing = false;
  #offset = null;
  #clockTold = '';
  #host = '';
  #beat = { lateAt: 0, grace: true };
  #remove = [];
  #lastSize = 0;
  #lastFrameAt = 0;

  constructor(url, options = {}) {
    super();
    if (options.headers) throw noHeaders();
    const aws = !!options.aws;
    this.#options = {
      reference: !aws, control: aws ? false : 'tidegate', resume: true, tokenParameter: 'ws_token', channelParameter: 'channel', json: true,
      serverErrors: true, maxQueue: 1000, maxMessageBytes: 131072, correlation: 'correlationId', replyTimeout: 10, baseDelay: 1, maxDelay: 30,
      stableAfter: 10, openTimeout: 35, maxRefusals: 3,
      ...options,
    };
    const { heartbeat } = options;
    const beat = typeof heartbeat === 'number' ? { interval: heartbeat } : heartbeat || {};
    this.#options.heartbeat = heartbeat === false || (!beat.send && !this.#options.control) ? null : { interval: 25, timeout: 10, ...beat };
    this.#env = surroundings({ ...(options.WebSocket && { WebSocket: options.WebSocket }), ...options.environment });
    checkProtocols(this.#options.protocols);
    // As the browser's own constructor: what cannot work is said at once.
    if (typeof url !== 'function') checkUrl(url, this.#env.location);
    this.#url = url;
    for (const name of [].concat(options.channels || [])) this.#channels.set(name, null);
    const { openTimeout, stableAfter, baseDelay, maxDelay } = this.#options;
    const rules = {
      ...this.#options,
      openTimeout: seconds(openTimeout),
      stableAfter: seconds(stableAfter),
      delay: (n) => fullJitter(this.#env.random, n, seconds(baseDelay), seconds(maxDelay)),
    };
    this.#loop = new Loop(this.#env, rules, {
      prepare: (attempt) => this.#prepare(attempt),
      opened: (socket, end) => this.#opened(socket, end),
      message: (event) => this.#received(event.data),
      failed: () => {},
      // The URL was checked: what is left is a subprotocol, a rule of the browser, or its number of sockets.
      explain: ({ name }, url, nLive) =>
        /^S/.test(name) ? new TidegateError(`The browser does not permit this connection (${name}).`) : failure('browser.socket-limit', `The browser opens no more sockets; this page has ${nLive}.`),
      closed: (end) => this.#closed(end),
      judge: (end) => this.#judge(end),
      report: (error) => this.#report(error),
      stopped: (error) => this.#stopped(error),
      state: (state) => this.#tell('state', { state }),
    });
    if (options.autoConnect !== false) this.connect();
  }

  /** `idle`, `connecting`, `open`, `waiting`, `offline`, `closing` or `stopped`. */
  get state() { return this.#loop.state; }
  get attempt() { return this.#loop.attempt; }
  get lastGoodAt() { return this.#loop.lastGoodAt; }
  get channels() { return [...this.#channels.keys()]; }
  /** The server's clock minus this one, in milliseconds, or null while it is unknown. */
  get clockOffset() { return this.#offset; }
  get protocol() { return this.#loop.socket?.protocol || ''; }

  /** Calls `listener` for events of a type; returns the function that ends it. */
  on(type, listener) {
    this.addEventListener(type, listener);
    return () => this.removeEventListener(type, listener);
  }

  connect() {
    const { document, window } = this.#env;
    if (!/idle|stopped/.test(this.state)) return;
    // Timers of hidden pages are late and sockets of sleeping devices are dead: look, as soon as somebody looks at the page.
    listen(this.#remove, document, 'visibilitychange', () => document.visibilityState === 'visible' && this.#awake());
    listen(this.#remove, window, 'pageshow', (event) => event.persisted && this.#awake());
    listen(this.#remove, window, 'offline', () => this.#awake());
    // Chromium says this, and then neither opens nor closes the socket.
    listen(this.#remove, document, 'securitypolicyviolation', ({ effectiveDirective, blockedURI }) => {
      if (this.state !== 'connecting' || effectiveDirective !== 'connect-src' || !String(blockedURI).includes(`//${this.#host}`)) return;
      this.#loop.drop(4408, '', diagnosed('browser.csp', 'The policy of the page lacks this host in connect-src.'));
    });
    this.#loop.start();
  }

  /** Ends it for good: code 1000, no further attempt. `connect()` begins anew. */
  disconnect(code = 1000, reason = '') {
    this.#loop.stop(code, reason);
    this.#cleanUp(new TidegateError('disconnect() was called.', { phase: 'message' }));
  }

  // -- sending ------------------------------------------------------------------------------------------------------

  /** Sends a text, bytes, or anything else as JSON. Resolved when the browser has taken it; nothing tells that it arrived. */
  send(data) {
    const isRaw = typeof data === 'string' || data instanceof ArrayBuffer || ArrayBuffer.isView(data) || (globalThis.Blob && data instanceof Blob);
    return quiet(this.#put({ payload: isRaw ? data : JSON.stringify(data) }));
  }

  /**
   * Sends an object with a correlation id and waits for the message that has the same one.
   *
   * Fails after `timeout` seconds, when the answer is an error, and when the connection ends first.
   */
  request(data, { timeout = this.#options.replyTimeout } = {}) {
    const ref = this.#reference();
    const answer = quiet(this.#expect(ref, timeout, 'No reply'));
    this.send({ ...data, [this.#options.correlation]: ref }).catch((error) => this.#settle(ref, error));
    return answer;
  }

  /** Joins a channel, now and after every reconnect. Resolved with `{channel, recovered, replayed}`. */
  join(channel) {
    if (!this.#channels.has(channel)) this.#channels.set(channel, null);
    const answer = this.#whenOpen('join', { channel });
    answer.catch(({ diagnosis }) => diagnosis && this.#channels.delete(channel));
    return answer;
  }

  leave(channel) {
    this.#channels.delete(channel);
    return this.state === 'open' ? this.#whenOpen('leave', { channel }) : Promise.resolve({ channel });
  }

  /** Leaves all other channels and joins this one. */
  change(channel) {
    const last = this.#channels.get(channel) || null;
    this.#channels.clear();
    this.#channels.set(channel, last);
    return this.#whenOpen('change', { channel });
  }

  /** Joins, and calls `listener(data, message)` for the messages of this channel alone; returns the function that ends it. */
  subscribe(channel, listener) {
    const off = this.on('message', (message) => (message.channel === channel ? listener(message.data, message) : undefined));
    this.join(channel).catch((error) => this.#report(error));
    return () => {
      off();
      this.leave(channel);
    };
  }

  publish(channel, data) {
    return this.#whenOpen('publish', { channel, data });
  }

  /** Who is in a channel: `{connections, users, userIds}`. */
  presence(channel) {
    return this.#whenOpen('presence', { channel });
  }

  /**
   * What a channel keeps after the message `after`; `{recovered, messages}`. The gateway sends a message to one
   * connection only once, so what was received before is not in it.
   */
  async history(channel, after) {
    const messages = [];
    const off = this.on('kept', (message) => message.channel === channel && messages.push(message));
    try {
      const { recovered } = await this.#whenOpen('join', { channel, after });
      if (!this.#channels.has(channel)) this.#channels.set(channel, null);
      return { recovered, messages };
    } finally {
      off();
    }
  }

  /** Asks the gateway for a sign of life; `{time}` is the gateway's clock. */
  ping() {
    const sent = this.#env.now();
    const answer = this.#whenOpen('ping', {});
    answer.then(({ time }) => this.#clock(time - (sent + this.#env.now()) / 2), () => {});
    return answer;
  }

  #write(payload) {
    this.#lastSize = sizeOf(payload);
    this.#lastFrameAt = this.#env.now();
    this.#loop.socket.send(payload);
  }

  /** Does it now, or as soon as it is open again, in order. */
  async #put(item) {
    const { maxMessageBytes, maxQueue, whileClosed, control } = this.#options;
    const size = sizeOf(item.payload || JSON.stringify(item.members));
    if (size > maxMessageBytes) throw this.#of('message', failure('message.too-large', `The message has ${size} bytes, the limit is ${maxMessageBytes}.`));
    if (item.action && !control) throw this.#plain(`"${item.action}" needs control messages.`);
    if (this.state === 'open') return this.#now(item);
    if (whileClosed === 'reject' || /^(stopped|closing)$/.test(this.state)) throw this.#plain('The connection is not open.');
    if (this.#queue.length >= maxQueue) throw this.#plain(`The queue is full: ${maxQueue} wait.`);
    return new Promise((done, refuse) => this.#queue.push({ ...item, done, refuse }));
  }

  #now({ payload, action, members }) {
    return action ? this.#control(action, members) : this.#write(payload);
  }

  #reference() {
    return `r${this.#nextRef++}`;
  }

  #expect(ref, timeout, sentence) {
    return new Promise((done, refuse) => {
      if (this.#pending.size >= MAX_PENDING) return refuse(this.#plain('Too many open questions.'));
      const timer = this.#env.setTimeout(() => this.#settle(ref, this.#plain(`${sentence} within ${timeout} s.`)), seconds(timeout));
      this.#pending.set(ref, { done, refuse, timer });
    });
  }

  #settle(ref, error, value) {
    const waiting = this.#pending.get(ref);
    if (!waiting) return false;
    this.#pending.delete(ref);
    this.#env.clearTimeout(waiting.timer);
    if (error) waiting.refuse(error);
    else waiting.done(value);
    return true;
  }

  /** Asks the gateway, which is open. Joins go on from the last message that was seen. */
  #control(action, members) {
    const ref = this.#reference();
    const answer = quiet(this.#expect(ref, this.#options.replyTimeout, `No answer to "${action}"`));
    const place = /^(join|change)$/.test(action) ? this.#place(members.channel) : {};
    this.#write(JSON.stringify({ [this.#options.control]: { action, ...place, ...members, ref } }));
    return answer;
  }

  #whenOpen(action, members) {
    return quiet(this.#put({ action, members }));
  }

  #place(channel) {
    const last = this.#channels.get(channel);
    return this.#options.resume && last ? { after: last } : {};
  }

  // -- an attempt ---------------------------------------------------------------------------------------------------

  async #prepare(attempt, isDry) {
    const { getToken, tokenIn, tokenParameter, control, channelParameter, resume, reference } = this.#options;
    const url = checkUrl(typeof this.#url === 'function' ? await this.#url() : this.#url, this.#env.location);
    const protocols = [...checkProtocols(this.#options.protocols)];
    const add = (name, value) => {
      url.search += `${url.search ? '&' : '?'}${encodeURIComponent(name)}=${encodeURIComponent(value)}`;
    };
    const plan = { offered: [...protocols], reference: null };
    if (!control) {
      for (const [name, last] of this.#channels) {
        add(channelParameter, name);
        if (resume && last) add('after', `${name}:${last}`);
      }
    }
    if (getToken) {
      const token = await getToken({ attempt, onClock: (offset) => this.#clock(offset) });
      if (typeof token !== 'string' || !token) throw new TidegateError('getToken gave no token.', { attempt });
      const isRepeated = token === this.#lastToken;
      // A JWT may open many connections; a one-time token never a second one.
      if (isRepeated && !JWT.test(token)) {
        throw failure('token.reused-on-reconnect', 'getToken gave the token of the attempt before.', { attempt, status: 400 });
      }
      plan.expiry = expiryOf(token);
      plan.isRepeated = isRepeated;
      this.#lastToken = plan.token = token;
      if (tokenIn === 'subprotocol') protocols.push('tidegate.bearer', token);
      else add(tokenParameter, token);
    }
    // The dry run asks for the same, without a reference: that one belongs to the attempt.
    plan.checkUrl = url.href.replace(/^ws/, 'http');
    if (reference && !isDry && !this.#statusMissing && this.#env.crypto) {
      const bytes = this.#env.crypto.getRandomValues(new Uint8Array(16));
      plan.reference = btoa(String.fromCharCode(...bytes)).replace(/\+/g, '-').replace(/\//g, '_').slice(0, 22);
      add('_tgref', plan.reference);
    }
    this.#host = url.host;
    plan.url = url.href;
    plan.protocols = protocols;
    const at = new URL(plan.checkUrl);
    plan.statusUrl = this.#options.statusUrl || `${at.origin}${at.pathname.replace(/\/+$/, '')}/connect-status`;
    return plan;
  }

  #opened(socket, end) {
    if (this.#options.binaryType) socket.binaryType = this.#options.binaryType;
    const { plan } = end;
    if (plan.offered.length && !socket.protocol) {
      this.#warn('subprotocol.not-confirmed', 'No subprotocol was confirmed.');
    }
    this.#lastFrameAt = this.#env.now();
    const queue = this.#queue.splice(0);
    if (this.#options.control) {
      for (const channel of this.#channels.keys()) {
        if (!queue.some((item) => item.action === 'join' && item.members.channel === channel)) this.#rejoin(channel);
      }
    }
    for (const item of queue) Promise.resolve(this.#now(item)).then(item.done, item.refuse);
    if (this.#options.heartbeat) this.#tick(true);
    this.#tell('open', { attempt: end.attempt, protocol: socket.protocol || '' });
  }

  #rejoin(channel) {
    this.#control('join', { channel }).catch((error) => {
      // Refused for good, and not merely unanswered: asking again on each connection would be noise.
      if (error.diagnosis) this.#channels.delete(channel);
      if (error.phase === 'message') this.#report(error);
    });
  }

  #closed(end) {
    this.#held.clear();
    this.#env.clearTimeout(this.#beat.timer);
    this.#failPending(this.#of('opened', new TidegateError('The connection ended before the answer.', { code: end.code })));
    const { code, reason, wasClean, phase, attempt } = end;
    this.#tell('close', { code, reason, wasClean, phase, attempt, hint: hintFor(code) });
    if (end.isStopping) this.#cleanUp(this.#plain('The connection was closed.'));
  }

  #failPending(error) {
    for (const ref of [...this.#pending.keys()]) this.#settle(ref, error);
  }

  #cleanUp(error) {
    for (const remove of this.#remove.splice(0)) remove();
    this.#env.clearTimeout(this.#beat.timer);
    for (const item of this.#queue.splice(0)) item.refuse(error);
    if (!this.#loop.socket) this.#failPending(error);
  }

  #stopped(error) {
    this.#cleanUp(error || this.#plain('The connection was closed.'));
    this.#tell('stopped', { error });
  }

  // -- why ----------------------------------------------------------------------------------------------------------

  async #judge(end) {
    const { plan, phase, code, reason, attempt } = end;
    const facts = { phase, code, reason, attempt, lastGoodAt: this.lastGoodAt, hint: hintFor(code), reference: plan?.reference || null };
    if (end.error) {
      const { status, retryAfter: wait } = end.error;
      Object.assign(end.error, { phase, attempt, lastGoodAt: this.lastGoodAt });
      const refused = !wait && isLasting(status, end.error.diagnosis?.id);
      return { verdict: isHopeless(end.error) ? 'stop' : refused ? 'refused' : 'retry', error: end.error, retryAfter: wait };
    }
    if (phase === 'opened' && !(code >= 4400 && code < 4600)) return this.#judgeEnd(end, facts);
    return this.#judgeRefusal(end, facts);
  }

  /** An open connection has ended. */
  async #judgeEnd(end, facts) {
    const { code, reason } = end;
    const say = (verdict, sentence, more) => ({ verdict, error: sentence && new TidegateError(sentence, { ...facts, ...more }) });
    if (code === 1000) return say('stop', facts.hint, { diagnosis: diagnosed('client.no-reconnect', facts.hint) });
    const told = { 'Token expired': 'close.token-expired', 'Access revoked': 'close.access-revoked', 'Session ended': 'close.session-ended', 'Too slow': 'conn.slow-consumer', 'Too many messages': 'ratelimit.messages', 'Frame too large': 'message.frame-too-large', 'Message too long': 'message.too-large' };
    const diagnosis = told[reason] ? diagnosed(told[reason], facts.hint) : end.diagnosis || this.#guess(end);
    const sentence = `The connection ended with ${code} ${reason}`;
    if (code === 1008 && this.#options.dryRun) {
      const dryRun = await this.#dryRun();
      const { ok, status, retryAfter: wait = null } = dryRun || {};
      return { ...say(!ok && isLasting(status) ? 'stop' : 'retry', sentence, { diagnosis, dryRun, status: status || null }), retryAfter: wait };
    }
    // Another attempt is pointless without a person.
    if (code === 1008 && /^(Session|Access)/.test(reason)) return say('stop', sentence, { diagnosis });
    // Announced ends that are repaired by coming back are nothing to tell a user.
    if (code === 1001 || code === 1012) return say('retry', null);
    return say(code === 4001 ? 'refused' : 'retry', sentence, { diagnosis });
  }

  /** What the client itself has seen of an end without a word. */
  #guess(end) {
    const likely = (id, text) => diagnosed(id, text, 'likely');
    const now = this.#env.now();
    if (end.code === 1009) {
      return this.#lastSize > 131072 ? likely('message.too-large', 'The last message had over 128 KB.')
        : this.#lastSize > 32768 ? likely('message.frame-too-large', 'The last message had over 32 KB.') : null;
    }
    if (end.code !== 1006) return null;
    if (this.#beat.lateAt && now - this.#beat.lateAt < 120000) return likely('client.background-throttle', 'The heartbeat of this background page was late.');
    if ((!this.#options.heartbeat || this.#beat.off) && now - this.#lastFrameAt >= 50000) {
      return likely('idle.no-heartbeat', 'Nothing was sent, and there is no heartbeat.');
    }
    return null;
  }

  /** An attempt never opened, or was opened only to be told so. */
  async #judgeRefusal(end, facts) {
    const { plan, code } = end;
    const told = code >= 4400 && code < 4600 ? { status: code - 4000, message: facts.reason } : null;
    if (end.diagnosis) return { verdict: 'stop', error: new TidegateError(end.diagnosis.message, { ...facts, hint: '', diagnosis: end.diagnosis }) };
    const status = told || (plan.reference && (await this.#askStatus(plan)));
    const dryRun = this.#options.dryRun && !told ? await this.#dryRun(plan) : null;
    const found = status || (dryRun && !dryRun.ok && dryRun) || { id: '' };
    const wait = dryRun && dryRun.retryAfter;
    const likely = (id, text) => diagnosed(id, text, 'likely');
    const diagnosis =
      found.status === 101
        ? plan.offered.length
          ? likely('subprotocol.not-confirmed', 'No subprotocol was confirmed.')
          : likely('proxy.response-stripped', 'The answer did not arrive as it was.')
        : found.id ? diagnosed(found.id, found.message)
        : plan.isRepeated && plan.expiry && plan.expiry < this.#env.now() + this.#offset ? likely('client.reuses-expired-jwt', 'getToken gave an expired JWT again.')
        : found.status === undefined && nearSocketLimit(this.#env.WebSocket) ? likely('browser.socket-limit', 'This page has over 200 sockets.')
        : null;
    if (found.status) facts.hint = hintForStatus(found.status);
    if (/jwt\.(expired|not-yet)/.test(found.id) && Math.abs(this.#offset) > CLOCK_LIMIT) facts.hint = this.#clockSentence();
    const sentence = `${end.timedOut ? 'The handshake took too long.' : 'The connection could not be opened.'} ${(diagnosis || found).message || ''}`;
    const error = new TidegateError(sentence.trim(), { ...facts, diagnosis, dryRun, retryAfter: wait, status: found.status || null, requestId: found.requestId || null });
    return { verdict: isLasting(found.status, found.id) ? 'refused' : 'retry', error, retryAfter: wait };
  }

  async #get(url, headers) {
    const abort = new AbortController();
    const timer = this.#env.setTimeout(() => abort.abort(), ASK_WAIT);
    try {
      const sent = this.#env.now();
      const answer = await this.#env.fetch(url, { headers, signal: abort.signal, cache: 'no-store', redirect: 'error' });
      const offset = clockOffset(answer.headers, sent, this.#env.now());
      if (offset !== null) this.#clock(offset);
      const body = await answer.json().catch(() => null);
      return { answer, body: body && typeof body === 'object' ? body : null };
    } catch {
      return null;
    } finally {
      this.#env.clearTimeout(timer);
    }
  }

  /** DX-14: what the gateway says about the attempt with this reference, once. */
  async #askStatus(plan) {
    const got = await this.#get(`${plan.statusUrl}?ref=${plan.reference}`);
    if (!got) return null;
    const { answer, body } = got;
    // Without an id it was opened, as far as the gateway knows.
    if (answer.ok && body && typeof body.message === 'string') return { ...body, status: body.status || (body.id ? null : 101) };
    // Another server: no reference in the next attempts, and nothing is asked again.
    if (answer.status !== 404 || !body) this.#statusMissing = true;
    return null;
  }

  /**
   * S3-24: the handshake as a plain GET that opens nothing. Without `plan` with a fresh token; a callback that gets none
   * counts as a refusal. One-time tokens are not tried: looking would spend them.
   */
  async #dryRun(plan) {
    try {
      plan = plan || (await this.#prepare(this.attempt, true));
    } catch (error) {
      return { ...UNKNOWN, status: error?.status, message: error?.message, retryAfter: error?.retryAfter };
    }
    const { token } = plan;
    if (token && !JWT.test(token)) return null;
    const headers = { 'Tidegate-Check': '1', ...(token && this.#options.tokenIn === 'subprotocol' && { Authorization: `Bearer ${token}` }) };
    const got = await this.#get(plan.checkUrl, headers);
    if (!got) return null;
    const { answer, body } = got;
    const { message, detail, requestId = null } = body || {};
    return { ...UNKNOWN, ok: answer.ok, status: answer.status, message: flatten(message || detail), retryAfter: retryAfter(answer.headers, this.#env.now()), requestId };
  }

  #clock(offset) {
    if (!Number.isFinite(offset)) return;
    this.#offset = offset;
    if (Math.abs(offset) > CLOCK_LIMIT && !this.#clockTold) this.#warn('clock.client', (this.#clockTold = this.#clockSentence()));
  }

  #clockSentence() {
    return `The clock of this device is ${Math.round(Math.abs(this.#offset) / 1000)} s ${this.#offset > 0 ? 'slow' : 'fast'}.`;
  }

  // -- sign of life -------------------------------------------------------------------------------------------------

  #awake() {
    this.#loop.kick();
    if (this.state === 'open' && this.#options.heartbeat && !this.#beat.off) this.#tick(true);
  }

  /** Asks now and plans the next question. A late timer proves nothing about the connection. */
  #tick(isFresh) {
    const beat = this.#beat;
    const { interval, timeout, send, expect } = this.#options.heartbeat;
    if (!isFresh && this.#env.now() - beat.due > seconds(interval)) this.#late();
    if (beat.off || this.state !== 'open') return;
    beat.sentAt = this.#env.now();
    if (send) this.#write(send);
    else this.ping();
    if (send && !expect) this.#later(interval, () => this.#tick());
    else this.#later(timeout, () => this.#answered());
  }

  #later(wait, run) {
    this.#env.clearTimeout(this.#beat.timer);
    this.#beat.due = this.#env.now() + seconds(wait);
    this.#beat.timer = this.#env.setTimeout(run, seconds(wait));
  }

  /** A timer of a page that nobody sees was late. */
  #late() {
    const { document, now } = this.#env;
    if (!document || document.visibilityState === 'hidden') this.#beat.lateAt = now();
  }

  #answered() {
    const beat = this.#beat;
    const { interval, timeout } = this.#options.heartbeat;
    if (!beat.proven) {
      beat.off = true;
      return this.#warn('conn.app-heartbeat-unanswered', 'This server answers no heartbeat.');
    }
    // Whatever came since then is a sign of life.
    const isAlive = this.lastGoodAt >= beat.sentAt;
    // The page slept: the answer may lie behind this timer. Asked once more, with a full wait.
    const isLate = !isAlive && beat.grace && this.#env.now() - beat.due > 2000;
    beat.grace = !isLate;
    if (isAlive) return this.#later(Math.max(interval - timeout, 1), () => this.#tick());
    if (isLate) {
      this.#late();
      return this.#tick(true);
    }
    this.#loop.drop(4408, 'heartbeat unanswered', diagnosed('conn.half-open-client', `No sign of life for ${timeout} s.`));
  }

  // -- receiving ----------------------------------------------------------------------------------------------------

  #received(data) {
    this.#lastFrameAt = this.#env.now();
    const { heartbeat, control, json, serverErrors, correlation } = this.#options;
    if (typeof data !== 'string') return this.#tell('message', { data, channel: null, id: null });
    if (heartbeat && heartbeat.expect && data === heartbeat.expect) {
      this.#beat.proven = true;
      return;
    }
    let message;
    let isJson = true;
    try {
      message = JSON.parse(data);
    } catch {
      isJson = false;
    }
    const object = isJson && message && typeof message === 'object' && !Array.isArray(message) ? message : null;
    if (object && control && object[control] && typeof object[control] === 'object') return this.#told(object[control]);
    // Without the key the gateway's frames stand alone; only those of channels that were asked for are taken.
    if (object && !control && this.#channels.has(object.channel) && /^(message|joined|left|removed|join|leave)$/.test(object.type)) return this.#told(object);
    if (!isJson && json) {
      const sentence = 'A message is not JSON.';
      this.#report(this.#of('message', failure('push.not-json', sentence)));
      return this.#tell('text', { data });
    }
    if (object && this.#reply(object, correlation)) return;
    const error = serverErrors && readServerError(object);
    if (error) return this.#report(this.#serverError(error));
    this.#bare();
    this.#tell('message', { data: json ? message : data, channel: null, id: null });
  }

  #reply(object, correlation) {
    const ref = object[correlation];
    if (typeof ref !== 'string' || !this.#pending.has(ref)) return false;
    const error = readServerError(object);
    return this.#settle(ref, error && this.#serverError(error), object);
  }

  #serverError({ code, detail, text, requestId }) {
    const hint = hintFor(code);
    return this.#of('message', new TidegateError(text || 'The server reports an error.', { code, reason: text, detail, requestId, hint }));
  }

  /** A frame of the gateway's own. */
  #told(frame) {
    const { type, channel, id = null, ref, message = '' } = frame;
    this.#beat.proven = true;
    if (type === 'message') return this.#inChannel(frame);
    if (type === 'error') {
      const error = this.#of('message', failure(id, message, { reason: message }));
      if (!this.#settle(ref, error)) this.#report(error);
      return;
    }
    if (type === 'joined') this.#joined(frame);
    if (type === 'left' || type === 'removed') {
      this.#channels.delete(channel);
      this.#tell('left', { channel, by: type === 'left' ? 'client' : 'gateway', id, message });
    }
    if (/^(presence|join|leave)$/.test(type)) this.#tell('presence', { ...frame, change: type === 'presence' ? null : type });
    if (ref !== undefined) this.#settle(ref, null, frame);
  }

  #joined({ channel, id, recovered = null, replayed = 0, ref }) {
    const last = this.#channels.get(channel);
    const held = this.#held.get(channel);
    // It was empty when it was joined, and is not any more: its life began in between, so all of it was missed.
    if (last === '' && id && this.#options.resume && this.#options.control && !held) {
      this.#channels.set(channel, `${placeOf(id).epoch}-0`);
      this.#held.set(channel, { until: placeOf(id).position, messages: [] });
      return this.#rejoin(channel);
    }
    this.#held.delete(channel);
    // The gateway or the URL may have chosen the channel.
    if (recovered === false || !last) this.#channels.set(channel, id || '');
    if (recovered === false && last) {
      this.#lost(channel);
    } else if (this.#unsure.delete(channel) && id) this.#lost(channel);
    else if (recovered === true) this.#tell('resumed', { channel, replayed });
    if (held) held.messages.forEach((message) => this.#inChannel(message));
    this.#tell('joined', { channel, recovered, replayed });
    if (this.#options.presence && ref !== undefined) this.presence(channel).catch((error) => this.#report(error));
  }

  #lost(channel) {
    this.#tell('lost', { channel, message: 'More was missed than is kept.' });
  }

  /**
   * A message without an envelope may be of any channel. Those whose place is only that of the joining cannot resume
   * from there: what came since would come twice.
   */
  #bare() {
    for (const [channel, last] of this.#channels) {
      if (!last || this.#sure.has(channel)) continue;
      this.#channels.set(channel, null);
      this.#unsure.add(channel);
    }
  }

  #inChannel({ channel, id, data }) {
    if (id) {
      this.#sure.add(channel);
      const last = this.#channels.get(channel);
      const place = placeOf(id);
      const before = placeOf(last || '');
      const held = this.#held.get(channel);
      if (held && place.position > held.until) {
        if (held.messages.length < MAX_PENDING) held.messages.push({ channel, id, data });
        else this.#lost(channel);
        return;
      }
      this.#tell('kept', { channel, id, data });
      if (before.epoch === place.epoch && place.position <= before.position) return;
      if (this.#channels.has(channel)) this.#channels.set(channel, id);
    }
    this.#tell('message', { channel, id: id || null, data });
  }

  #tell(type, facts) {
    this.deliver(type, { ...facts, type });
  }

  // -- telling ------------------------------------------------------------------------------------------------------

  #plain(sentence) {
    return this.#of('message', new TidegateError(sentence));
  }

  #of(phase, error) {
    return Object.assign(error, { phase, attempt: this.attempt, lastGoodAt: this.lastGoodAt });
  }

  #report(error) {
    this.#tell('error', { error });
    const { onError } = this.#options;
    if (onError) this.call(onError, error, 'error');
  }

  #warn(id, sentence) {
    this.#tell('warning', { error: this.#of('message', failure(id, sentence)) });
  }

  listenerFailed(cause, type) {
    // The connection stays.
    if (type !== 'error') this.#report(this.#of('message', failure('push.client-handler-error', `A listener of "${type}" failed.`, { cause })));
  }
}
