// A clock that stands still until it is told to move, a WebSocket without a network, and a page.

/** Lets everything that only waits for promises happen. */
export async function settle() {
  for (let i = 0; i < 60; i++) await null;
  await new Promise((done) => setImmediate(done));
  for (let i = 0; i < 60; i++) await null;
}

export class Clock {
  time = 1_800_000_000_000;
  #timers = new Map();
  #next = 1;

  setTimeout = (run, ms) => {
    this.#timers.set(this.#next, { run, at: this.time + Math.max(0, ms) });
    return this.#next++;
  };

  clearTimeout = (id) => this.#timers.delete(id);

  get nTimers() {
    return this.#timers.size;
  }

  /** Milliseconds until the next timer, or null. */
  get nearest() {
    return this.#timers.size ? Math.min(...[...this.#timers.values()].map(({ at }) => at)) - this.time : null;
  }

  /** Moves on by `ms`, timer by timer. */
  async advance(ms) {
    const end = this.time + ms;
    await settle();
    for (;;) {
      const due = [...this.#timers].filter(([, { at }]) => at <= end).sort(([, a], [, b]) => a.at - b.at)[0];
      if (!due) break;
      this.#timers.delete(due[0]);
      this.time = Math.max(this.time, due[1].at);
      due[1].run();
      await settle();
    }
    this.time = end;
    await settle();
  }

  /** The page was frozen: time passes, and no timer runs before the end of it. */
  async freeze(ms) {
    this.time += ms;
    await this.advance(0);
  }
}

export class Page extends EventTarget {
  visibilityState = 'visible';
  cookie = '';

  constructor(href = 'https://app.example.com/page') {
    super();
    this.location = new URL(href);
    this.navigator = { onLine: true };
  }

  fire(type, facts = {}) {
    this.dispatchEvent(Object.assign(new Event(type), facts));
  }
}

/** What a client under test lives in: clock, page, sockets made so far, answers of `fetch`. */
export class World {
  sockets = [];
  fetched = [];
  answers = [];
  dice = 0.5;

  constructor(href) {
    this.clock = new Clock();
    this.page = new Page(href);
    const world = this;
    this.WebSocket = class FakeSocket {
      readyState = 0;
      sent = [];
      closedWith = null;
      protocol = '';
      extensions = '';
      bufferedAmount = 0;
      binaryType = 'blob';

      constructor(url, protocols = []) {
        if (world.refuse) throw world.refuse(url);
        this.url = String(url);
        this.protocols = [].concat(protocols);
        world.sockets.push(this);
      }

      send(data) {
        if (this.readyState !== 1) throw new Error('not open');
        this.sent.push(data);
      }

      close(code, reason) {
        this.closedWith = [code, reason];
        this.readyState = 2;
      }

      // -- the other side --

      accept(protocol = '') {
        this.readyState = 1;
        this.protocol = protocol;
        this.onopen({ type: 'open' });
        return this;
      }

      say(message) {
        this.onmessage({ data: typeof message === 'string' || message instanceof ArrayBuffer ? message : JSON.stringify(message), origin: 'wss://h' });
      }

      end(code = 1006, reason = '') {
        this.readyState = 3;
        if (code === 1006) this.onerror({ type: 'error' });
        this.onclose({ code, reason, wasClean: code !== 1006 });
      }

      /** Control messages that were sent, without their `ref` unless asked for. */
      get control() {
        return this.sent.filter((text) => text.startsWith('{"tidegate"')).map((text) => JSON.parse(text).tidegate);
      }
    };
  }

  get environment() {
    const { clock, page } = this;
    return {
      WebSocket: this.WebSocket,
      setTimeout: clock.setTimeout,
      clearTimeout: clock.clearTimeout,
      now: () => clock.time,
      random: () => (typeof this.dice === 'function' ? this.dice() : this.dice),
      document: page,
      window: page,
      location: page.location,
      navigator: page.navigator,
      fetch: async (url, options = {}) => {
        this.fetched.push({ url: String(url), ...options });
        const answer = this.answers.length > 1 ? this.answers.shift() : this.answers[0];
        if (!answer) throw new TypeError('Failed to fetch');
        const { status = 200, body = {}, headers = {} } = typeof answer === 'function' ? answer(url, options) : answer;
        const text = typeof body === 'string' ? body : JSON.stringify(body);
        return new Response([204, 304].includes(status) ? null : text, {
          status,
          headers: { 'content-type': text.startsWith('<') ? 'text/html' : 'application/json', ...headers },
        });
      },
    };
  }

  get last() {
    return this.sockets[this.sockets.length - 1];
  }

  /** Waits on the clock for the next socket, and gives it. */
  async next(limit = 3_600_000) {
    const before = this.sockets.length;
    let waited = 0;
    await settle();
    while (this.sockets.length === before) {
      const { nearest } = this.clock;
      if (nearest === null || waited + nearest > limit) throw new Error('no further attempt');
      waited += nearest;
      await this.clock.advance(nearest);
    }
    this.waited = waited;
    return this.last;
  }
}

/** Keeps the events of a client by type. */
export function record(client, ...types) {
  const seen = {};
  for (const type of types) {
    seen[type] = [];
    client.addEventListener(type, (event) => seen[type].push(event));
  }
  return seen;
}
