// The one place that opens sockets, and opens them again. Knows nothing of tokens, channels or old packages' options.

import { TidegateError, failure } from './error.js';
import { listen } from './environment.js';
import { checkProtocols } from './checks.js';

/** Sockets that are connecting or open through this module, by the class that made them: a page has one. */
const live = new WeakMap();

const count = (Class, change = 0) => live.set(Class, (live.get(Class) || 0) + change).get(Class);

/** A browser that has this many is near its limit of 255. */
const MANY = 200;

export const nearSocketLimit = (Class) => count(Class) >= MANY;

/** An end that nobody announced. */
const GONE = { code: 1006, reason: '', wasClean: false };

/** Time that a socket gets for its closing handshake, in milliseconds. */
const CLOSE_WAIT = 3000;

/** By name: the class may be that of another bundle of this package. */
const ours = (error) => error && error.name === 'TidegateError' && error;

/** Full jitter: anywhere between nothing and the doubled, capped base. Spreads clients that lost one gateway. */
export function fullJitter(random, nFailures, base, cap) {
  return random() * Math.min(cap, base * 2 ** Math.min(nFailures, 30));
}

/**
 * Opens a socket and keeps it open.
 *
 * `rules`: `delay(nFailures)` in ms, `openTimeout` in ms, `stableAfter` in ms, `maxAttempts`, `maxRefusals`.
 * `hooks`: `prepare(attempt)` gives `{url, protocols}`; `opened(socket)`, `message(event)` and `closed(end)` happen at
 * once; `explain(error, url, nLive)` is the error for what the constructor threw; `judge(end)` says afterwards what the end means: `{verdict: "retry"|"refused"|"stop", error, retryAfter}`;
 * `report(error)` and `state(name)` tell.
 */
export class Loop {
  state = 'idle';
  socket = null;
  attempt = 0;
  nFailures = 0;
  lastGoodAt = null;
  #env;
  #rules;
  #hooks;
  #nRefusals = 0;
  /** Raised by whatever makes a step under way obsolete. */
  #turn = 0;
  #timer = null;
  #end = null;
  /** When the server wants to be asked again, in milliseconds of `now`. */
  #notBefore = 0;
  #stopping = false;
  #remove = [];

  constructor(env, rules, hooks) {
    this.#env = env;
    this.#rules = rules;
    this.#hooks = hooks;
  }

  start() {
    if (!/idle|stopped/.test(this.state)) return;
    this.#stopping = false;
    this.attempt = this.nFailures = this.#nRefusals = 0;
    // Spread a little: a whole office gets its network back at one moment.
    listen(this.#remove, this.#env.window, 'online', () => this.#hurry(this.#env.random() * 1000));
    this.#next();
  }

  /** Ends a wait: the page is visible again, and timers of hidden pages are late. */
  kick() {
    this.#hurry(0);
  }

  #hurry(ms) {
    // A wait that the server has asked for is kept.
    if (!/waiting|offline/.test(this.state) || this.#env.now() < this.#notBefore) return;
    this.#set('waiting');
    this.#wait(ms);
  }

  stop(code = 1000, reason = '') {
    if (/idle|stopped/.test(this.state)) return this.#set('stopped');
    this.#stopping = true;
    const { socket } = this;
    if (!socket) return this.#halt();
    this.#turn++;
    this.#clear();
    // A peer that is gone answers no close frame.
    this.#timer = this.#env.setTimeout(() => this.#lost(socket, GONE), CLOSE_WAIT);
    this.#set('closing');
    socket.close(code, reason);
  }

  /** Gives the open socket up without waiting for the other side, and connects again. */
  drop(code, reason, diagnosis) {
    const { socket } = this;
    if (!socket || this.#stopping) return;
    try {
      socket.close(code, reason);
    } catch {
      // It is given up anyway.
    }
    this.#lost(socket, GONE, diagnosis);
  }

  #set(state) {
    if (this.state === state) return;
    this.state = state;
    this.#hooks.state(state);
  }

  #clear() {
    this.#env.clearTimeout(this.#timer);
    this.#timer = null;
  }

  #halt() {
    this.#turn++;
    this.#clear();
    for (const remove of this.#remove.splice(0)) remove();
    this.#set('stopped');
  }

  #wait(ms) {
    this.#clear();
    this.#timer = this.#env.setTimeout(() => this.#next(), ms);
  }

  async #next() {
    const turn = ++this.#turn;
    this.#clear();
    this.#set('connecting');
    // A page that is mounted twice in a row disconnects its first client before this line: no token is spent.
    await null;
    if (turn !== this.#turn) return;
    const { navigator, window } = this.#env;
    if (window && navigator && navigator.onLine === false) return void this.#set('offline');
    this.attempt++;
    const end = { phase: 'never-opened', ...GONE, attempt: this.attempt };
    let late;
    try {
      // The URL may come from a server as well, that never answers.
      const limit = new Promise((_, refuse) => {
        late = this.#env.setTimeout(() => refuse(new TidegateError('URL or token did not arrive in time.')), this.#rules.openTimeout);
      });
      end.plan = await Promise.race([this.#hooks.prepare(this.attempt), limit]);
    } catch (error) {
      end.error = ours(error) || new TidegateError('The callback for URL or token failed.', { cause: error });
    }
    this.#env.clearTimeout(late);
    if (turn !== this.#turn) return;
    if (!end.error) this.#open(turn, end);
    if (end.error) this.#ended(turn, end);
  }

  #open(turn, end) {
    const { url } = end.plan;
    let socket;
    let protocols = [];
    try {
      protocols = checkProtocols(end.plan.protocols);
      socket = protocols.length ? new this.#env.WebSocket(url, protocols) : new this.#env.WebSocket(url);
    } catch (error) {
      end.error = ours(error) || this.#hooks.explain(error, url, count(this.#env.WebSocket));
      return;
    }
    count(this.#env.WebSocket, 1);
    this.socket = socket;
    this.#end = end;
    this.#timer = this.#env.setTimeout(() => {
      end.timedOut = true;
      this.drop(4408, '');
    }, this.#rules.openTimeout);
    socket.onopen = () => {
      if (this.socket !== socket) return;
      this.#clear();
      end.phase = 'opened';
      end.openedAt = this.lastGoodAt = this.#env.now();
      this.#set('open');
      this.#hooks.opened(socket, end);
    };
    socket.onmessage = (event) => {
      if (this.socket !== socket) return;
      this.lastGoodAt = this.#env.now();
      this.#hooks.message(event);
    };
    socket.onerror = () => this.socket === socket && this.#hooks.failed(end);
    let isCounted = true;
    socket.onclose = (event) => {
      if (isCounted) count(this.#env.WebSocket, -1);
      isCounted = false;
      this.#lost(socket, event);
    };
  }

  #lost(socket, { code, reason, wasClean }, diagnosis) {
    if (this.socket !== socket) return;
    this.socket = null;
    this.#clear();
    const turn = ++this.#turn;
    this.#ended(turn, Object.assign(this.#end, { code, reason: reason || '', wasClean: !!wasClean, diagnosis }));
  }

  async #ended(turn, end) {
    const { now, random } = this.#env;
    end.isStopping = this.#stopping;
    // Before anybody hears of the end: what a listener sends now has to wait.
    if (!this.#stopping) this.#set('waiting');
    this.#hooks.closed(end);
    if (this.#stopping) return this.#halt();
    if (turn !== this.#turn) return;
    // Only what lasted counts as success: a server that accepts and closes at once would be asked for ever.
    if (now() - end.openedAt >= this.#rules.stableAfter) this.nFailures = this.#nRefusals = 0;
    const { verdict, error, retryAfter } = await this.#hooks.judge(end);
    if (turn !== this.#turn) return;
    this.nFailures++;
    if (verdict === 'refused') this.#nRefusals++;
    const gaveUp = this.nFailures >= this.#rules.maxAttempts;
    const refused = this.#nRefusals >= this.#rules.maxRefusals;
    const final = verdict === 'stop' || gaveUp || refused;
    if (final) this.#halt();
    if (error) {
      error.final = final;
      this.#hooks.report(error);
    }
    if (!final) {
      const ms = this.#rules.delay(this.nFailures - 1);
      if (turn !== this.#turn) return; // A listener has stopped or hurried it.
      // Whoever must wait longer comes back spread as well.
      const asked = retryAfter ? retryAfter * 1000 + random() * 1000 : 0;
      this.#notBefore = now() + asked;
      this.#wait(Math.max(ms, asked));
      return;
    }
    if (verdict === 'stop') return this.#hooks.stopped(error);
    const facts = { ...error, attempt: end.attempt, lastGoodAt: this.lastGoodAt, final, cause: error };
    if (refused) return this.#hooks.stopped(new TidegateError(`Stopped after ${this.#nRefusals} refusals in a row.`, facts));
    this.#hooks.stopped(failure('client.gave-up', `Gave up after ${this.nFailures} attempts in a row.`, facts));
  }
}
