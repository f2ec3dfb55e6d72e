// The client against sockets without a network and a clock that is moved by hand.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { World, record, settle } from './harness.js';

// The same tests for the source and for what pages load.
const { Tidegate, TidegateError, presets, hintFor, flatten, readServerError } = await import(process.env.TIDEGATE_DIST ? '../dist/tidegate.js' : '../src/entry-tidegate.js');

const URL_ = 'wss://ws.example.com/prod';
const TOKEN = (n) => n.toString(16).padStart(64, '0');

function start(options = {}, { href, url = URL_, ...set } = {}) {
  const world = Object.assign(new World(href), set);
  const errors = [];
  const client = new Tidegate(url, { heartbeat: false, onError: (error) => errors.push(error), environment: world.environment, ...options });
  const seen = record(client, 'open', 'message', 'close', 'error', 'warning', 'state', 'stopped', 'joined', 'left', 'presence', 'lost', 'resumed', 'text');
  return { world, client, errors, seen };
}

const jwt = (claims) => `${btoa('{"alg":"HS256"}')}.${btoa(JSON.stringify(claims)).replace(/=+$/, '')}.c2ln`.replace(/=+/g, '');

// -- tokens and attempts ------------------------------------------------------------------------------------------------

test('S0-100: the token is asked for before each attempt and never used twice', async () => {
  let n = 0;
  const { world } = start({ getToken: async () => TOKEN(++n), reference: false });
  const tokens = [];
  for (let i = 0; i < 5; i++) {
    const socket = await world.next();
    tokens.push(new URL(socket.url).searchParams.get('ws_token'));
    if (i % 2) socket.accept();
    socket.end(1006);
  }
  assert.deepEqual(tokens, [1, 2, 3, 4, 5].map(TOKEN));
  assert.equal(n, 5);
});

test('token.reused-on-reconnect: a one-time token that comes again is not sent', async () => {
  const { world, errors, seen } = start({ getToken: () => TOKEN(7) });
  const first = await world.next();
  first.accept();
  first.end(1006);
  await assert.rejects(world.next(), /no further attempt/);
  assert.equal(world.sockets.length, 1);
  assert.equal(errors.at(-1).diagnosis.id, 'token.reused-on-reconnect');
  // Three tries, as with every refusal that will not change.
  assert.equal(seen.stopped.length, 1);
  assert.match(seen.stopped[0].error.message, /3 refusals in a row/);
  assert.equal(seen.stopped[0].error.diagnosis.id, 'token.reused-on-reconnect');
});

test('a JWT may be used again; one that has expired is named when it is refused (client.reuses-expired-jwt)', async () => {
  const { world, errors } = start({ ...presets.alerts, dryRun: false, reference: false, heartbeat: false, getToken: () => jwt({ sub: 'a', exp: 1_800_000_060 }) });
  (await world.next()).accept().end(1006);
  (await world.next()).end(1006);
  assert.equal(errors.at(-1).diagnosis, null, 'it had not expired');
  await settle();
  await world.clock.freeze(120_000);
  world.last.end(1006);
  await settle();
  assert.deepEqual([errors.at(-1).diagnosis.id, errors.at(-1).diagnosis.confidence], ['client.reuses-expired-jwt', 'likely']);
  assert.ok(new URL(world.last.url).searchParams.get('token'), 'presets.alerts names the parameter');
});

test('the token goes into the subprotocol pair on request', async () => {
  const { world } = start({ getToken: () => TOKEN(1), tokenIn: 'subprotocol', protocols: ['chat.v1'], reference: false });
  const socket = await world.next();
  assert.deepEqual(socket.protocols, ['chat.v1', 'tidegate.bearer', TOKEN(1)]);
  assert.equal(socket.url, URL_);
});

test('nothing that is thrown, delivered or made into JSON has the URL or the token in it', async () => {
  const { world, errors, seen } = start({ getToken: () => TOKEN(11) }, { url: `${URL_}?secret=hush` });
  world.answers = [{ body: { id: 'jwt.expired', message: 'Token expired', status: 403, requestId: 'q1' } }];
  (await world.next()).end(1006);
  await settle();
  world.refuse = (url) => Object.assign(new Error(`Failed to construct 'WebSocket': ${url}`), { name: 'SyntaxError' });
  await world.clock.advance(40_000);
  const all = JSON.stringify([errors, seen]) + errors.map((error) => `${error}${error.stack}${Object.keys(error)}`).join();
  assert.ok(errors.length >= 2);
  assert.ok(!all.includes(TOKEN(11)) && !all.includes('hush') && !all.includes('ws.example.com'), all);
});

test('S3-66: back-off with full jitter from 1 s to 30 s, reset only after 10 s of connection', async () => {
  const { world } = start({ reference: false }, { dice: 0.999999 });
  const waits = [];
  await world.next();
  const lose = async (openFor) => {
    if (openFor !== undefined) {
      world.last.accept();
      await world.clock.advance(openFor);
    }
    world.last.end(1006);
    await world.next();
    waits.push(Math.round(world.waited / 1000));
  };
  for (let i = 0; i < 7; i++) await lose();
  assert.deepEqual(waits, [1, 2, 4, 8, 16, 30, 30]);
  await lose(9_000);
  assert.equal(waits.at(-1), 30, 'a short connection proves nothing');
  await lose(10_000);
  assert.equal(waits.at(-1), 1);
});

test('client.retry-storm: 500 clients that lose one gateway spread over the whole delay', async () => {
  let seed = 42;
  const dice = () => (seed = (seed * 1103515245 + 12345) % 2147483648) / 2147483648;
  const worlds = Array.from({ length: 500 }, () => start({ reference: false }, { dice }).world);
  const delays = [];
  await settle();
  for (const world of worlds) {
    world.last.end(1006);
    (await world.next()).end(1006);
    (await world.next()).end(1006);
    await world.next();
    delays.push(world.waited);
  }
  const perSecond = [0, 1, 2, 3].map((second) => delays.filter((ms) => Math.floor(ms / 1000) === second).length);
  assert.equal(perSecond.reduce((a, b) => a + b), 500);
  for (const n of perSecond) assert.ok(n > 90 && n < 160, `spread ${perSecond}`);
});

test('Retry-After of a dry run is waited for, and spread', async () => {
  const { world, errors } = start({ dryRun: true, reference: false, control: false });
  world.answers = [{ status: 429, body: { message: 'Too many connection attempts' }, headers: { 'retry-after': '17' } }];
  (await world.next()).end(1006);
  await world.next();
  assert.ok(world.waited >= 17_000 && world.waited <= 18_000, String(world.waited));
  assert.equal(world.fetched[0].headers['Tidegate-Check'], '1');
  assert.equal(world.fetched[0].url, 'https://ws.example.com/prod');
  assert.deepEqual([errors[0].dryRun.status, errors[0].status, errors[0].retryAfter], [429, 429, 17]);
  assert.match(errors[0].message, /Too many connection attempts/);
});

test('without dryRun there is none', async () => {
  const { world } = start({ reference: false });
  world.answers = [{ status: 403 }];
  (await world.next()).end(1006);
  await world.next();
  assert.deepEqual(world.fetched, []);
});

test('a browser without network is waited for', async () => {
  const { world, client } = start({ reference: false });
  (await world.next()).accept();
  world.page.navigator.onLine = false;
  world.last.end(1006);
  await world.clock.advance(60_000);
  assert.equal(client.state, 'offline');
  assert.equal(world.sockets.length, 1);
  await world.clock.advance(3_600_000);
  assert.equal(world.sockets.length, 1, 'no attempt in an hour without network');
  world.page.navigator.onLine = true;
  world.page.fire('online');
  await world.next(1000);
});

test('a visible page does not wait for a late timer', async () => {
  const { world } = start({ reference: false }, { dice: 0.9 });
  for (let i = 0; i < 6; i++) (await world.next()).end(1006);
  await settle();
  assert.ok(world.clock.nearest > 20_000);
  world.page.fire('visibilitychange');
  await world.next(0);
});

test('an attempt that hangs is given up', async () => {
  const { world, errors } = start({ openTimeout: 5, reference: false });
  await world.next();
  await world.clock.advance(5_000);
  assert.match(errors[0].message, /took too long/);
  assert.equal(errors[0].phase, 'never-opened');
  await world.next();
  const hanging = start({ openTimeout: 5, getToken: () => new Promise(() => {}) });
  await hanging.world.clock.advance(5_000);
  assert.match(hanging.errors[0].message, /did not arrive in time/);
});

// -- when it stops ------------------------------------------------------------------------------------------------------

test('client.no-reconnect: stops on 1000 and says that this is what 1000 means', async () => {
  const { world, seen, client } = start({ reference: false });
  (await world.next()).accept().end(1000, 'Connection Closed Normally');
  await assert.rejects(world.next(), /no further attempt/);
  assert.equal(client.state, 'stopped');
  const { error } = seen.stopped[0];
  assert.deepEqual([error.diagnosis.id, error.code, error.final, error.phase], ['client.no-reconnect', 1000, true, 'opened']);
  client.connect();
  await world.next();
});

test('disconnect() stops: open, connecting, waiting, and while a token is fetched', async () => {
  const open = start({ reference: false });
  (await open.world.next()).accept();
  open.client.disconnect();
  assert.deepEqual(open.world.last.closedWith, [1000, '']);
  open.world.last.end(1000);
  const connecting = start({ reference: false });
  await connecting.world.next();
  connecting.client.disconnect();
  connecting.world.last.end(1006);
  const waiting = start({ reference: false });
  (await waiting.world.next()).end(1006);
  await settle();
  waiting.client.disconnect();
  let give;
  const fetching = start({ getToken: () => new Promise((done) => (give = done)) });
  await settle();
  fetching.client.disconnect();
  give(TOKEN(1));
  for (const { world, client, errors } of [open, connecting, fetching, waiting]) {
    await world.clock.advance(3_600_000);
    assert.equal(client.state, 'stopped');
    assert.ok(world.sockets.length <= 1);
    assert.equal(errors.length, client === waiting.client ? 1 : 0);
    assert.equal(world.clock.nTimers, 0, 'nothing is left behind');
  }
});

test('a peer that answers no close frame does not hold disconnect() up', async () => {
  const { world, client, seen } = start({ reference: false });
  (await world.next()).accept();
  client.disconnect();
  await world.clock.advance(3_000);
  assert.equal(client.state, 'stopped');
  assert.equal(seen.close.length, 1);
});

test('refusals that will not change end it after 3 tries, in words', async () => {
  const { world, errors, seen } = start();
  world.answers = [{ body: { id: 'origin.not-allowed', message: 'The origin is not on the list.', status: 403, requestId: 'req1' } }];
  for (let i = 0; i < 3; i++) (await world.next()).end(1006);
  await assert.rejects(world.next(), /no further attempt/);
  assert.equal(errors.length, 3);
  assert.equal(errors[2].final, true);
  const { error } = seen.stopped[0];
  assert.match(error.message, /Stopped after 3 refusals in a row/);
  assert.deepEqual([error.diagnosis.id, error.status, error.requestId, error.attempt], ['origin.not-allowed', 403, 'req1', 3]);
});

test('what passes by itself is tried for ever', async () => {
  for (const [id, status] of [['ratelimit.connect', 400], ['ratelimit.connect', 429], ['node.draining', 503], ['integration.refused', 502]]) {
    const { world, seen } = start();
    world.answers = [{ body: { id, message: 'Later.', status } }];
    for (let i = 0; i < 8; i++) (await world.next()).end(1006);
    await world.next();
    assert.equal(seen.stopped.length, 0, id);
  }
});

test('a success of 10 s forgets refusals', async () => {
  const { world, seen } = start();
  world.answers = [{ body: { id: 'jwt.expired', message: 'Token expired', status: 403 } }];
  for (let i = 0; i < 3; i++) {
    (await world.next()).end(1006);
    (await world.next()).end(1006);
    (await world.next()).accept();
    await world.clock.advance(10_000);
    world.last.end(1006);
  }
  await world.next();
  assert.equal(seen.stopped.length, 0);
});

test('client.gave-up: after maxAttempts, and it says so', async () => {
  const { world, seen, errors } = start({ maxAttempts: 4, reference: false });
  for (let i = 0; i < 4; i++) (await world.next()).end(1006);
  await assert.rejects(world.next(), /no further attempt/);
  assert.deepEqual([seen.stopped[0].error.diagnosis.id, errors.length, seen.stopped[0].error.attempt], ['client.gave-up', 4, 4]);
  assert.match(seen.stopped[0].error.message, /Gave up after 4 attempts/);
  // Five tries of the old kind are over in a minute; without a number it goes on.
  const patient = start({ reference: false });
  for (let i = 0; i < 40; i++) (await patient.world.next()).end(1006);
  await patient.world.next();
});

test('logout: 1008 "Session ended" stops, 1008 "Token expired" comes back with a fresh token', async () => {
  for (const reason of ['Session ended', 'Access revoked']) {
    const { world, seen } = start({ reference: false });
    (await world.next()).accept().end(1008, reason);
    await assert.rejects(world.next(), /no further attempt/);
    assert.match(seen.stopped[0].error.message, new RegExp(reason));
    assert.match(seen.stopped[0].error.diagnosis.id, /^close\.(session-ended|access-revoked)$/);
  }
  let n = 0;
  const { world } = start({ reference: false, getToken: () => TOKEN(++n) });
  (await world.next()).accept().end(1008, 'Token expired');
  await world.next();
  assert.equal(n, 2);
});

test('S3-66: 1008 stops when the dry run with a fresh token is refused, and only then', async () => {
  let n = 0;
  const options = { ...presets.alerts, heartbeat: false, reference: false, getToken: () => jwt({ sub: 'a', n: ++n }) };
  const refused = start(options);
  refused.world.answers = [{ status: 403, body: { message: 'Access denied', requestId: 'r9' } }];
  (await refused.world.next()).accept().end(1008, 'Too many messages');
  await assert.rejects(refused.world.next(), /no further attempt/);
  const { error } = refused.seen.stopped[0];
  assert.deepEqual([error.dryRun.status, error.dryRun.message, error.code], [403, 'Access denied', 1008]);
  const asked = new URL(refused.world.fetched[0].url);
  assert.equal(asked.searchParams.get('token'), jwt({ sub: 'a', n: 2 }), 'not the token of the connection that ended');
  const fine = start(options);
  fine.world.answers = [{ status: 200, body: { ok: true } }];
  (await fine.world.next()).accept().end(1008, 'Too many messages');
  await fine.world.next();
  const noToken = start({ ...options, getToken: ({ attempt }) => { if (n++ > 4 && attempt) throw new TidegateError('no', { status: 403 }); return jwt({ n }); } });
  n = 0;
  (await noToken.world.next()).accept();
  n = 5;
  noToken.world.last.end(1008, 'Too many messages');
  await assert.rejects(noToken.world.next(), /no further attempt/);
});

test('a refusal as close frame (4403) counts as a refusal', async () => {
  const { world, seen, errors } = start();
  for (let i = 0; i < 3; i++) (await world.next()).accept().end(4403, 'Forbidden');
  await assert.rejects(world.next(), /no further attempt/);
  assert.equal(errors[0].status, 403);
  assert.match(errors[0].hint, /Token, origin or permission/);
  assert.equal(world.fetched.length, 0, 'the close frame has said it');
  assert.equal(seen.stopped.length, 1);
});

// -- DX-14 ---------------------------------------------------------------------------------------------------------------

test('DX-14: each attempt has a reference of its own; one that fails asks for id and sentence, once', async () => {
  const { world, errors } = start();
  world.answers = [{ body: { id: 'stage.unknown', message: 'There is no stage "prd".', status: 503, requestId: 'q' } }];
  const references = new Set();
  for (let i = 0; i < 5; i++) {
    const socket = await world.next();
    const reference = new URL(socket.url).searchParams.get('_tgref');
    assert.match(reference, /^[A-Za-z0-9_-]{22}$/);
    references.add(reference);
    socket.end(1006);
    await settle();
    assert.equal(world.fetched.length, i + 1);
    assert.equal(world.fetched[i].url, `https://ws.example.com/prod/connect-status?ref=${reference}`);
    const error = errors[i];
    assert.ok(error instanceof TidegateError);
    assert.deepEqual([error.phase, error.code, error.reference, error.diagnosis.id, error.requestId, error.attempt], ['never-opened', 1006, reference, 'stage.unknown', 'q', i + 1]);
    assert.ok(error.message.includes('There is no stage "prd".') && error.message.includes(reference) && error.message.includes('[stage.unknown]'), error.message);
  }
  assert.equal(references.size, 5);
});

test('DX-14: nothing is asked for an attempt that opened', async () => {
  const { world } = start();
  (await world.next()).accept().end(1006);
  await world.next();
  assert.equal(world.fetched.length, 0);
});

test('reference: false adds nothing to the URL and asks nothing', async () => {
  const { world } = start({ reference: false });
  const socket = await world.next();
  assert.equal(socket.url, URL_);
  socket.end(1006);
  await world.next();
  assert.equal(world.fetched.length, 0);
});

test('another gateway without connect-status is found out once, and attempts go on as ever', async () => {
  const { world, errors } = start();
  world.answers = [{ status: 403, body: { message: 'Missing Authentication Token' } }];
  (await world.next()).end(1006);
  const second = await world.next();
  assert.equal(second.url, URL_);
  second.end(1006);
  (await world.next()).end(1006);
  await world.next();
  assert.equal(world.fetched.length, 1);
  assert.ok(errors.every((error) => error.diagnosis === null && error.status === null), 'its answer is not the handshake’s');
});

test('an unknown reference is 404 and keeps references; no answer at all too', async () => {
  const { world } = start();
  world.answers = [{ status: 404, body: { message: 'Not Found' } }];
  (await world.next()).end(1006);
  (await world.next()).end(1006);
  assert.ok(new URL(world.last.url).searchParams.has('_tgref'));
  world.answers = [];
  (await world.next()).end(1006);
  assert.ok(new URL((await world.next()).url).searchParams.has('_tgref'));
});

test('aws: nothing that only Tidegate knows, and never a loop', async () => {
  const { world, seen, client } = start({ aws: true, heartbeat: undefined });
  (await world.next()).accept();
  assert.equal(world.last.url, URL_);
  await world.clock.advance(600_000);
  assert.deepEqual([world.last.sent, world.fetched, seen.warning], [[], [], []]);
  client.send({ action: 'x' });
  assert.deepEqual(world.last.sent, ['{"action":"x"}']);
  world.last.end(1001, 'Going away');
  await world.next();
  assert.equal(seen.error.length, 0);
});

test('a gateway that answers no heartbeat is noticed once and not left for it', async () => {
  const { world, seen, client } = start({ heartbeat: undefined, reference: false });
  (await world.next()).accept();
  world.last.say({ message: 'Forbidden', connectionId: 'abc', requestId: 'def' });
  await world.clock.advance(3_600_000);
  assert.equal(world.sockets.length, 1);
  assert.equal(client.state, 'open');
  assert.deepEqual(seen.warning.map(({ error }) => error.diagnosis.id), ['conn.app-heartbeat-unanswered']);
  assert.equal(world.last.control.length, 1);
});

test('handshake.subprotocol: an answer that did not arrive (subprotocol.not-confirmed, proxy.response-stripped)', async () => {
  for (const [protocols, id] of [[['v1'], 'subprotocol.not-confirmed'], [[], 'proxy.response-stripped']]) {
    const { world, errors } = start({ protocols });
    world.answers = [{ body: { message: 'Opened.', status: 101 } }];
    (await world.next()).end(1006);
    await settle();
    assert.deepEqual([errors[0].diagnosis.id, errors[0].diagnosis.confidence], [id, 'likely']);
  }
  const { world, seen } = start({ protocols: ['v1'], reference: false });
  (await world.next()).accept('');
  assert.equal(seen.warning[0].error.diagnosis.id, 'subprotocol.not-confirmed');
  const fine = start({ protocols: ['v1'], reference: false });
  (await fine.world.next()).accept('v1');
  assert.deepEqual(fine.seen.warning, []);
});

// -- what is wrong before anything is sent --------------------------------------------------------------------------------

test('handshake.https-scheme, handshake.bad-url-syntax, browser.mixed-content, browser.headers-unsupported, subprotocol.null', () => {
  const idOf = (url, options, href) => {
    const world = new World(href);
    try {
      new Tidegate(url, { environment: world.environment, ...options });
    } catch (error) {
      assert.ok(error instanceof TidegateError, String(error));
      assert.ok(!/example\.com|hush/.test(error.message), error.message);
      return error.diagnosis.id;
    }
    return null;
  };
  for (const url of ['https://ws.example.com/prod?t=hush', 'http://ws.example.com']) assert.equal(idOf(url), 'handshake.https-scheme', url);
  for (const url of [
    undefined, null, 7, 'chat', '//ws.example.com/x', 'wss://', 'ftp://ws.example.com', 'wss://ws.example.com/a#b', 'wss://undefined/chat',
    'wss://ws.example.com/undefined', 'wss://ws.example.com/?token=undefined', 'wss://ws.example.com/null/x', 'wss://ws.example.com/${stage}',
    'wss://ws.example.com/?x=[object Object]', 'wss://ws.example.com:undefined/',
  ]) assert.equal(idOf(url), 'handshake.bad-url-syntax', String(url));
  for (const url of ['wss://ws.example.com', 'wss://ws.example.com?x=y', 'wss://nullable.example.com/undefinedness', new URL('wss://a.example.com/b'), '/chat', 'ws://localhost:8000/x', 'ws://127.0.0.1/x', 'wss://[::1]/']) {
    assert.equal(idOf(url), null, String(url));
  }
  assert.equal(idOf('ws://ws.example.com/x'), 'browser.mixed-content');
  assert.equal(idOf('ws://ws.example.com/x', {}, 'http://app.example.com/'), null);
  assert.equal(idOf(URL_, { headers: { Authorization: 'x' } }), 'browser.headers-unsupported');
  assert.equal(idOf(URL_, { protocols: { headers: {} } }), 'browser.headers-unsupported');
  assert.equal(idOf(URL_, { protocols: [{}] }), 'browser.headers-unsupported');
  for (const protocols of ['null', 'undefined', [null], ['a', undefined], '[object Object]']) assert.equal(idOf(URL_, { protocols }), 'subprotocol.null', String(protocols));
});

test('a path is taken below the page, with its scheme', async () => {
  for (const [href, wanted] of [['https://app.example.com/a/b', 'wss://app.example.com/chat'], ['http://localhost:8000/', 'ws://localhost:8000/chat']]) {
    const { world } = start({ reference: false }, { href, url: '/chat' });
    assert.equal((await world.next()).url, wanted);
  }
});

test('a URL from a function is checked as well, and stops what cannot work', async () => {
  const { world, errors, seen } = start({ reference: false }, { url: async () => 'https://ws.example.com/' });
  await assert.rejects(world.next(), /no further attempt/);
  assert.deepEqual([errors[0].diagnosis.id, errors[0].final, seen.stopped.length], ['handshake.https-scheme', true, 1]);
});

test('browser.csp: the page’s own policy is named', async () => {
  const { world, errors } = start();
  await world.next();
  world.page.fire('securitypolicyviolation', { effectiveDirective: 'connect-src', blockedURI: 'wss://ws.example.com/prod' });
  await assert.rejects(world.next(), /no further attempt/);
  assert.deepEqual([errors[0].diagnosis.id, errors[0].phase, world.fetched.length], ['browser.csp', 'never-opened', 0]);
  const other = start({ reference: false });
  await other.world.next();
  other.world.page.fire('securitypolicyviolation', { effectiveDirective: 'connect-src', blockedURI: 'https://elsewhere.example.com' });
  other.world.last.end(1006);
  await other.world.next();
  assert.equal(other.errors[0].diagnosis, null);
});

test('browser.socket-limit: the constructor refuses, or there are over 200', async () => {
  const { world, errors } = start({ reference: false });
  world.refuse = () => Object.assign(new Error('Insufficient resources'), { name: 'QuotaExceededError' });
  await world.clock.advance(1);
  assert.deepEqual([errors[0].diagnosis.id, errors[0].diagnosis.confidence], ['browser.socket-limit', 'proven']);
  const page = new World();
  const told = [];
  const many = Array.from({ length: 205 }, () => new Tidegate(URL_, { environment: page.environment, reference: false, heartbeat: false, onError: (error) => told.push(error) }));
  await settle();
  page.sockets[0].end(1006);
  await settle();
  assert.deepEqual([many.length, told[0].diagnosis.id, told[0].diagnosis.confidence], [205, 'browser.socket-limit', 'likely']);
  const few = start({ reference: false });
  (await few.world.next()).end(1006);
  await settle();
  assert.equal(few.errors[0].diagnosis, null);
});

// -- sign of life -----------------------------------------------------------------------------------------------------------

const answerPings = (world, until = () => true) => {
  const { last } = world;
  const send = last.send;
  last.send = (data) => {
    send.call(last, data);
    const { tidegate } = JSON.parse(data);
    if (tidegate.action === 'ping' && until()) last.say({ tidegate: { type: 'pong', time: world.clock.time, ref: tidegate.ref } });
  };
};

test('conn.half-open-client: an unanswered question ends a dead connection and starts the next', async () => {
  const { world, errors, seen } = start({ heartbeat: undefined, reference: false });
  await world.next();
  let isAlive = true;
  answerPings(world, () => isAlive);
  world.last.accept();
  await world.clock.advance(300_000);
  assert.equal(world.sockets.length, 1);
  assert.ok(world.last.control.length >= 12, 'about every 25 s');
  isAlive = false;
  const dead = world.last;
  await world.clock.advance(36_000);
  assert.deepEqual(dead.closedWith, [4408, 'heartbeat unanswered']);
  assert.deepEqual([errors[0].diagnosis.id, errors[0].diagnosis.confidence, errors[0].phase], ['conn.half-open-client', 'proven', 'opened']);
  assert.equal(errors[0].lastGoodAt <= world.clock.time - 10_000, true);
  assert.equal(seen.close.length, 1);
  assert.equal(world.sockets.length, 2);
  dead.end(1006);
  assert.equal(seen.close.length, 1, 'what the dead socket still says is nobody’s');
});

test('client.background-throttle: late timers prove nothing, and are named when the connection is lost', async () => {
  const { world, errors, client } = start({ heartbeat: undefined, reference: false });
  await world.next();
  answerPings(world);
  world.last.accept();
  await world.clock.advance(30_000);
  world.page.visibilityState = 'hidden';
  for (let minute = 0; minute < 10; minute++) await world.clock.freeze(60_000);
  assert.equal(client.state, 'open');
  assert.equal(world.sockets.length, 1);
  world.last.end(1006);
  await settle();
  assert.deepEqual([errors[0].diagnosis.id, errors[0].diagnosis.confidence], ['client.background-throttle', 'likely']);
});

test('a page that slept asks again before it gives the connection up', async () => {
  const { world, client } = start({ heartbeat: undefined, reference: false });
  await world.next();
  let isAlive = true;
  answerPings(world, () => isAlive);
  world.last.accept();
  await world.clock.advance(24_000);
  isAlive = false;
  await world.clock.advance(2_000); // A question is on its way, and the lid closes.
  await world.clock.freeze(7_200_000);
  assert.equal(client.state, 'open');
  await world.clock.advance(10_000);
  assert.notEqual(client.state, 'open', 'the second question had its full time');
});

test('a page that becomes visible asks at once', async () => {
  const { world } = start({ heartbeat: undefined, reference: false });
  await world.next();
  answerPings(world);
  world.last.accept();
  await world.clock.advance(15_000);
  const before = world.last.control.length;
  world.page.fire('visibilitychange');
  assert.equal(world.last.control.length, before + 1);
});

test('texts as heartbeat: ping and pong of alerts are nobody’s message', async () => {
  const { world, seen, errors } = start({ ...presets.alerts, dryRun: false, reference: false });
  (await world.next()).accept();
  assert.deepEqual(world.last.sent, ['ping']);
  world.last.say('pong');
  await world.clock.advance(25_000);
  assert.equal(world.last.sent.length, 2);
  world.last.say('pong');
  assert.deepEqual([seen.message, errors], [[], []]);
  await world.clock.advance(40_000);
  assert.equal(errors[0].diagnosis.id, 'conn.half-open-client');
});

test('idle.no-heartbeat: a silent connection without heartbeat that dies', async () => {
  const { world, errors } = start({ reference: false });
  (await world.next()).accept();
  await world.clock.advance(60_000);
  world.last.end(1006);
  await settle();
  assert.deepEqual([errors[0].diagnosis.id, errors[0].diagnosis.confidence], ['idle.no-heartbeat', 'likely']);
});

test('clock.client: by the gateway’s pong and by the Date header', async () => {
  const { world, seen, client } = start({ heartbeat: undefined, reference: false });
  (await world.next()).accept();
  world.last.say({ tidegate: { type: 'pong', time: world.clock.time + 90_000, ref: world.last.control[0].ref } });
  await settle();
  assert.equal(client.clockOffset, 90_000);
  assert.equal(seen.warning[0].error.diagnosis.id, 'clock.client');
  assert.match(seen.warning[0].error.message, /90 s slow/);
  const dated = start();
  dated.world.answers = [{ body: { id: 'jwt.not-yet-valid', message: 'Not yet valid.', status: 403 }, headers: { date: new Date(dated.world.clock.time - 300_000).toUTCString() } }];
  (await dated.world.next()).end(1006);
  await settle();
  assert.match(dated.seen.warning[0].error.message, /fast/);
  assert.match(dated.errors[0].hint, /clock of this device is 300 s fast/);
  const right = start({ heartbeat: undefined, reference: false });
  (await right.world.next()).accept();
  right.world.last.say({ tidegate: { type: 'pong', time: right.world.clock.time + 500, ref: right.world.last.control[0].ref } });
  await settle();
  assert.deepEqual(right.seen.warning, []);
});

// -- channels ----------------------------------------------------------------------------------------------------------------

const told = (world, frame) => world.last.say({ tidegate: frame });
const inRoom = (world, id, data) => told(world, { type: 'message', channel: 'room', id, data });

test('channels are joined again, from the last message on; nothing comes twice', async () => {
  const { world, seen } = start({ channels: ['room'], reference: false });
  (await world.next()).accept();
  const [join] = world.last.control;
  assert.deepEqual([join.action, join.channel, join.after], ['join', 'room', undefined]);
  told(world, { type: 'joined', channel: 'room', id: '5f3-2', replayed: 0, ref: join.ref });
  inRoom(world, '5f3-3', 'c');
  inRoom(world, '5f3-4', 'd');
  inRoom(world, '5f3-4', 'd');
  world.last.end(1006);
  (await world.next()).accept();
  const [again] = world.last.control;
  assert.equal(again.after, '5f3-4');
  inRoom(world, '5f3-4', 'd');
  inRoom(world, '5f3-5', 'e');
  told(world, { type: 'joined', channel: 'room', id: '5f3-5', recovered: true, replayed: 1, ref: again.ref });
  inRoom(world, '5f3-6', 'f');
  assert.deepEqual(seen.message.map(({ data }) => data), ['c', 'd', 'e', 'f']);
  assert.deepEqual(seen.resumed.map(({ channel, replayed }) => [channel, replayed]), [['room', 1]]);
  assert.equal(seen.lost.length, 0);
});

test('a loss before the first message resumes from where it joined', async () => {
  const { world } = start({ channels: 'room', reference: false });
  (await world.next()).accept();
  told(world, { type: 'joined', channel: 'room', id: '5f3-2', replayed: 0 });
  world.last.end(1006);
  (await world.next()).accept();
  assert.equal(world.last.control[0].after, '5f3-2');
});

test('a channel that was empty when it was joined: what came while the client was away is asked for, in order', async () => {
  const { world, seen } = start({ channels: ['room'], reference: false });
  (await world.next()).accept();
  told(world, { type: 'joined', channel: 'room', ref: world.last.control[0].ref });
  world.last.end(1006);
  (await world.next()).accept();
  const [again] = world.last.control;
  assert.equal(again.after, undefined);
  told(world, { type: 'joined', channel: 'room', id: '5f3-2', replayed: 0, ref: again.ref });
  const [, past] = world.last.control;
  assert.deepEqual([past.action, past.after], ['join', '5f3-0']);
  inRoom(world, '5f3-3', 'new');
  inRoom(world, '5f3-1', 'a');
  inRoom(world, '5f3-2', 'b');
  told(world, { type: 'joined', channel: 'room', id: '5f3-3', recovered: true, replayed: 2, ref: past.ref });
  inRoom(world, '5f3-4', 'newer');
  assert.deepEqual(seen.message.map(({ data }) => data), ['a', 'b', 'new', 'newer']);
  assert.deepEqual([seen.lost.length, seen.joined.length], [0, 2]);
  // Still empty: nothing was missed, and nothing is asked.
  const quiet = start({ channels: ['room'], reference: false });
  for (let i = 0; i < 2; i++) {
    (await quiet.world.next()).accept();
    told(quiet.world, { type: 'joined', channel: 'room', ref: quiet.world.last.control[0].ref });
    assert.equal(quiet.world.last.control.length, 1);
    quiet.world.last.end(1006);
  }
  assert.equal(quiet.seen.lost.length, 0);
});

test('a channel with a history but without envelopes does not resume, which would double; it is told as lost', async () => {
  const { world, seen } = start({ channels: ['room'], reference: false });
  (await world.next()).accept();
  told(world, { type: 'joined', channel: 'room', id: '5f3-2', ref: world.last.control[0].ref });
  world.last.say({ bare: 1 });
  world.last.end(1006);
  (await world.next()).accept();
  assert.equal(world.last.control[0].after, undefined);
  told(world, { type: 'joined', channel: 'room', id: '5f3-4', ref: world.last.control[0].ref });
  assert.deepEqual(seen.lost.map(({ channel }) => channel), ['room']);
});

test('what could not be recovered is told, and the new life of the channel goes on', async () => {
  const { world, seen } = start({ channels: ['room'], reference: false });
  (await world.next()).accept();
  told(world, { type: 'joined', channel: 'room', id: '5f3-200', replayed: 0 });
  world.last.end(1012, 'Service Restart');
  (await world.next()).accept();
  told(world, { type: 'joined', channel: 'room', id: '777-3', recovered: false, replayed: 0, ref: world.last.control[0].ref });
  inRoom(world, '777-4', 'new');
  assert.deepEqual(seen.lost.map(({ channel }) => channel), ['room']);
  assert.deepEqual(seen.message.map(({ data }) => data), ['new']);
  world.last.end(1006);
  (await world.next()).accept();
  assert.equal(world.last.control[0].after, '777-4');
});

test('resume: false joins anew', async () => {
  const { world } = start({ channels: ['room'], resume: false, reference: false });
  (await world.next()).accept();
  told(world, { type: 'joined', channel: 'room', id: '5f3-2' });
  world.last.end(1006);
  (await world.next()).accept();
  assert.equal(world.last.control[0].after, undefined);
});

test('without control messages channels and places stand in the URL', async () => {
  const { world, seen } = start({ channels: ['room', 'a b'], control: false, reference: false });
  (await world.next()).accept();
  assert.equal(world.last.url, `${URL_}?channel=room&channel=a%20b`);
  world.last.say({ type: 'joined', channel: 'room', id: '5f3-1' });
  world.last.say({ type: 'message', channel: 'room', id: '5f3-2', data: { x: 1 } });
  world.last.say({ type: 'message', channel: 'elsewhere', data: 'an application’s own' });
  assert.deepEqual(seen.message.map(({ channel, data }) => [channel, data.x || data.channel]), [['room', 1], [null, 'elsewhere']]);
  world.last.end(1006);
  assert.ok((await world.next()).url.includes('after=room%3A5f3-2'));
});

test('join, leave, change, publish, presence answer; a refusal has its id', async () => {
  const { world, client, seen } = start({ reference: false });
  (await world.next()).accept();
  const answer = (frame) => told(world, { ref: world.last.control.at(-1).ref, ...frame });
  const joining = client.join('room');
  answer({ type: 'joined', channel: 'room' });
  assert.equal((await joining).channel, 'room');
  const publishing = client.publish('room', { a: 1 });
  assert.deepEqual(world.last.control.at(-1).data, { a: 1 });
  answer({ type: 'published', channel: 'room', id: '5f3-9' });
  assert.equal((await publishing).id, '5f3-9');
  const asking = client.presence('room');
  answer({ type: 'presence', channel: 'room', connections: 2, users: 1, userIds: ['ann'] });
  assert.deepEqual((await asking).userIds, ['ann']);
  told(world, { type: 'leave', channel: 'room', user: 'bob', connectionId: 'x' });
  assert.deepEqual(seen.presence.map(({ change, user }) => [change, user]), [[null, undefined], ['leave', 'bob']]);
  const refused = client.join('secret');
  answer({ type: 'error', action: 'join', channel: 'secret', id: 'channel.unlisted', message: 'No rule names this channel' });
  await assert.rejects(refused, (error) => error.diagnosis.id === 'channel.unlisted' && error.phase === 'message' && /No rule/.test(error.message));
  assert.deepEqual(client.channels, ['room'], 'a refused channel is not asked for again');
  const changing = client.change('sport');
  answer({ type: 'joined', channel: 'sport' });
  await changing;
  assert.deepEqual(client.channels, ['sport']);
  const leaving = client.leave('sport');
  answer({ type: 'left', channel: 'sport' });
  await leaving;
  const removed = client.join('news');
  answer({ type: 'joined', channel: 'news' });
  await removed;
  told(world, { type: 'removed', channel: 'news', id: 'perm.channel', message: 'gone' });
  assert.deepEqual([seen.left.at(-1).by, client.channels], ['gateway', []]);
});

test('subscribe hears one channel, also after a reconnect; a join while closed waits', async () => {
  const { world, client } = start({ reference: false });
  const got = [];
  const off = client.subscribe('room', (data) => got.push(data));
  const joined = client.join('other');
  (await world.next()).accept();
  assert.deepEqual(world.last.control.map(({ action, channel }) => `${action} ${channel}`).sort(), ['join other', 'join room']);
  for (const { channel, ref } of world.last.control) told(world, { type: 'joined', channel, ref });
  assert.equal((await joined).channel, 'other');
  inRoom(world, '1-1', 'one');
  told(world, { type: 'message', channel: 'other', id: '1-1', data: 'not this' });
  world.last.end(1006);
  (await world.next()).accept();
  inRoom(world, '1-2', 'two');
  assert.deepEqual(got, ['one', 'two']);
  off();
  assert.equal(world.last.control.at(-1).action, 'leave');
});

test('history gives what is kept', async () => {
  const { world, client } = start({ reference: false });
  (await world.next()).accept();
  const asking = client.history('room', '5f3-0');
  inRoom(world, '5f3-1', 'a');
  inRoom(world, '5f3-2', 'b');
  told(world, { type: 'joined', channel: 'room', id: '5f3-2', recovered: true, replayed: 2, ref: world.last.control[0].ref });
  const { recovered, messages } = await asking;
  assert.deepEqual([recovered, messages.map(({ data }) => data)], [true, ['a', 'b']]);
});

test('presence: true asks after each join', async () => {
  const { world } = start({ channels: ['room'], presence: true, reference: false });
  for (let i = 0; i < 2; i++) {
    (await world.next()).accept();
    told(world, { type: 'joined', channel: 'room', ref: world.last.control[0].ref });
    assert.equal(world.last.control[1].action, 'presence');
    world.last.end(1006);
  }
});

// -- sending -------------------------------------------------------------------------------------------------------------------

test('sends wait in order while closed, bounded; or are rejected', async () => {
  const { world, client } = start({ maxQueue: 3, reference: false });
  const results = [1, 2, 3, 4].map((n) => client.send({ n }));
  await assert.rejects(results[3], /queue is full: 3/);
  (await world.next()).accept();
  await Promise.all(results.slice(0, 3));
  assert.deepEqual(world.last.sent, ['{"n":1}', '{"n":2}', '{"n":3}']);
  const strict = start({ whileClosed: 'reject', reference: false });
  await assert.rejects(strict.client.send('x'), (error) => error instanceof TidegateError && /not open/.test(error.message));
  const stopped = start({ reference: false });
  const waiting = stopped.client.send('x');
  stopped.client.disconnect();
  await assert.rejects(waiting, /disconnect/);
  await assert.rejects(stopped.client.send('y'), /not open/);
});

test('what a listener sends when the connection ends waits for the next one', async () => {
  const { world, client } = start({ reference: false });
  const results = [];
  client.on('close', () => results.push(client.send('later')));
  (await world.next()).accept().end(1006);
  (await world.next()).accept();
  await results[0];
  assert.deepEqual(world.last.sent, ['later']);
});

test('whatever a token callback throws, the client goes on', async () => {
  let broken = false;
  const { world, errors } = start({
    reference: false, control: false, dryRun: true,
    getToken: () => {
      if (broken) throw undefined;
      return jwt({ sub: 'a' });
    },
  });
  (await world.next()).accept();
  broken = true;
  world.last.end(1008, 'Too many messages');
  await world.clock.advance(60_000);
  assert.ok(errors.length > 2 && errors.every((error) => error.name === 'TidegateError' && !error.final));
  broken = false;
  await world.next();
});

test('message.too-large: not sent, the connection stays; and 1009 is explained', async () => {
  const { world, client, errors } = start({ reference: false });
  (await world.next()).accept();
  await client.send('x'.repeat(131_072));
  await assert.rejects(client.send('é'.repeat(65_537)), (error) => error.diagnosis.id === 'message.too-large' && /131074 bytes/.test(error.message) && error.phase === 'message');
  assert.equal(world.last.sent.length, 1);
  assert.equal(client.state, 'open');
  world.last.end(1009, 'Message too long');
  await settle();
  assert.deepEqual([errors[0].diagnosis.id, errors[0].diagnosis.confidence, errors[0].code], ['message.too-large', 'proven', 1009]);
  (await world.next()).accept();
  client.send('x'.repeat(40_000));
  world.last.end(1009, '');
  await settle();
  assert.deepEqual([errors[1].diagnosis.id, errors[1].diagnosis.confidence], ['message.frame-too-large', 'likely']);
});

test('request gets the message with its correlation id; fails by time, by error, by the end of the connection', async () => {
  const { world, client, seen, errors } = start({ reference: false });
  (await world.next()).accept();
  const asked = () => JSON.parse(world.last.sent.at(-1));
  const fine = client.request({ action: 'sum', of: [1, 2] });
  const { action, correlationId } = asked();
  assert.equal(action, 'sum');
  world.last.say({ correlationId: 'of somebody else', sum: 0 });
  world.last.say({ correlationId, sum: 3 });
  assert.equal((await fine).sum, 3);
  assert.equal(seen.message.length, 1);
  const bad = client.request({ action: 'sum' });
  world.last.say({ correlationId: asked().correlationId, error: { code: 4003, detail: { of: ['This field is required.'] } } });
  await assert.rejects(bad, (error) => error.code === 4003 && /of: This field is required/.test(error.message));
  const slow = client.request({ action: 'sum' }, { timeout: 2 });
  await world.clock.advance(2_000);
  await assert.rejects(slow, /No reply within 2 s/);
  const cut = client.request({ action: 'sum' });
  world.last.end(1006);
  await assert.rejects(cut, (error) => error.phase === 'opened' && /ended before the answer/.test(error.message));
  assert.equal(errors.filter((error) => error.phase === 'message').length, 0);
});

// -- receiving -----------------------------------------------------------------------------------------------------------------

test('push.client-handler-error: a handler that throws is an event, and the connection stays', async () => {
  const { world, client, errors } = start({ reference: false });
  const boom = new Error('boom');
  const got = [];
  client.on('message', () => { throw boom; });
  client.on('message', async () => { throw boom; });
  client.on('message', ({ data }) => got.push(data));
  (await world.next()).accept();
  world.last.say({ n: 1 });
  world.last.say({ n: 2 });
  await settle();
  assert.deepEqual(got, [{ n: 1 }, { n: 2 }]);
  assert.equal(errors.length, 4);
  assert.ok(errors.every((error) => error.diagnosis.id === 'push.client-handler-error' && error.cause === boom && error.phase === 'message'));
  assert.equal(client.state, 'open');
  client.on('error', () => { throw boom; });
  world.last.say({ n: 3 });
  assert.equal(client.state, 'open');
});

test('push.not-json: an event without the text, and the text for who wants it', async () => {
  const { world, errors, seen, client } = start({ reference: false });
  (await world.next()).accept();
  world.last.say('Hello <secret>');
  assert.deepEqual([errors[0].diagnosis.id, seen.message.length, seen.text[0].data, client.state], ['push.not-json', 0, 'Hello <secret>', 'open']);
  assert.ok(!JSON.stringify(errors[0]).includes('secret'));
  const plain = start({ json: false, reference: false });
  (await plain.world.next()).accept();
  plain.world.last.say('Hello');
  plain.world.last.say({ a: 1 });
  assert.deepEqual([plain.errors, plain.seen.message.map(({ data }) => data)], [[], ['Hello', '{"a":1}']]);
});

test('chat.two-formats: an object with code and detail, and a bare text', async () => {
  const { world, errors, seen } = start({ reference: false });
  (await world.next()).accept();
  world.last.say({ error: { code: 4002, detail: 'User is not a member' } });
  world.last.say({ error: 'invalid event type' });
  world.last.say({ message: 'Forbidden', connectionId: 'a', requestId: 'b' });
  assert.deepEqual(errors.map(({ code, reason, requestId }) => [code, reason, requestId]), [[4002, 'User is not a member', null], [null, 'invalid event type', null], [null, 'Forbidden', 'b']]);
  assert.match(errors[0].hint, /Not permitted/);
  assert.ok(errors.every((error) => error.phase === 'message'));
  assert.equal(seen.message.length, 0);
  // What only looks alike is a message.
  for (const message of [{ error: null }, { error: { code: 'x' } }, { message: 'hi', connectionId: 'a', requestId: 'b', text: 1 }, { message: 'hi' }, [{ error: 'x' }]]) world.last.say(message);
  assert.equal(seen.message.length, 5);
  const off = start({ reference: false, serverErrors: false });
  (await off.world.next()).accept();
  off.world.last.say({ error: 'x' });
  assert.deepEqual([off.errors.length, off.seen.message.length], [0, 1]);
});

test('chat.detail-shape: text, list, object, nested object', () => {
  for (const [detail, text] of [
    ['Resource not found.', 'Resource not found.'],
    [['data must be an object', 'Invalid types'], 'data must be an object Invalid types'],
    [{ name: ['This field is required.'], avatar: ['Enter a valid URL.'] }, 'name: This field is required.; avatar: Enter a valid URL.'],
    [{ 1: { media_type: ['"zz" is not a valid choice.'] } }, '1: media_type: "zz" is not a valid choice.'],
    [null, ''],
    [17, '17'],
  ]) {
    const found = readServerError({ error: { code: 4003, detail } });
    assert.deepEqual([found.text, found.detail, flatten(detail)], [text, detail, text]);
  }
  let deep = 'x';
  for (let i = 0; i < 50; i++) deep = [deep];
  assert.equal(flatten(deep), '...');
  assert.equal(flatten('x'.repeat(900)).length, 500);
});

test('close codes have words', () => {
  for (const code of [1000, 1001, 1002, 1003, 1006, 1007, 1008, 1009, 1011, 1012, 1013, 1015, 4001, 4002, 4003, 4004, 4005, 4006, 4403, 4429, 4418, 4999]) {
    assert.ok(hintFor(code).length > 8, String(code));
  }
  assert.equal(hintFor(0), '');
});

test('chat.auth-failed: 4001 counts as a refusal', async () => {
  const { world, seen, errors } = start({ reference: false });
  for (let i = 0; i < 3; i++) (await world.next()).accept().end(4001, 'Authentication failed');
  await assert.rejects(world.next(), /no further attempt/);
  assert.match(errors[0].hint, /Not logged in/);
  assert.equal(seen.stopped.length, 1);
});

test('two clients made and one given up in one go (double mounting) cost one token', async () => {
  const world = new World();
  let n = 0;
  const make = () => new Tidegate(URL_, { getToken: () => TOKEN(++n), environment: world.environment, heartbeat: false });
  make().disconnect();
  make();
  await world.next();
  await world.clock.advance(60_000);
  assert.deepEqual([n, world.sockets.length >= 1], [world.sockets.length, true]);
});

test('a healthy connection raises nothing', async () => {
  const { world, errors, seen } = start({ channels: ['room'], heartbeat: undefined });
  await world.next();
  answerPings(world);
  world.last.accept();
  told(world, { type: 'joined', channel: 'room', ref: world.last.control[0].ref });
  await world.clock.advance(3_600_000);
  world.last.end(1001, 'Going away');
  await world.next();
  answerPings(world);
  world.last.accept();
  told(world, { type: 'joined', channel: 'room', ref: world.last.control[0].ref });
  await world.clock.advance(60_000);
  assert.deepEqual([errors, seen.warning, seen.stopped], [[], [], []]);
  assert.ok(world.clock.nTimers <= 3);
});
