// In place of the browser's WebSocket, and with the options of the packages that reconnect.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { World, record, settle } from './harness.js';

const { ReconnectingSocket, TidegateError } = await import(process.env.TIDEGATE_DIST ? '../dist/reconnecting-socket.js' : '../src/entry-reconnecting-socket.js');

const URL_ = 'wss://ws.example.com/chat';

function start(options = {}, protocols, url = URL_) {
  const world = new World();
  const socket = new ReconnectingSocket(url, protocols, { environment: world.environment, ...options });
  return { world, socket, seen: record(socket, 'open', 'message', 'close', 'error', 'connecting') };
}

test('looks like a WebSocket', async () => {
  const { world, socket } = start({}, ['v1', 'v2']);
  assert.deepEqual([ReconnectingSocket.CONNECTING, ReconnectingSocket.OPEN, ReconnectingSocket.CLOSING, ReconnectingSocket.CLOSED], [0, 1, 2, 3]);
  assert.deepEqual([socket.CONNECTING, socket.OPEN, socket.CLOSING, socket.CLOSED], [0, 1, 2, 3]);
  assert.deepEqual([socket.readyState, socket.bufferedAmount, socket.binaryType, socket.protocol, socket.extensions], [0, 0, 'blob', '', '']);
  const got = [];
  socket.onopen = (event) => got.push(['open', event.type, event instanceof Event]);
  socket.onmessage = ({ data }) => got.push(['message', data]);
  socket.onclose = ({ code, reason, wasClean }) => got.push(['close', code, reason, wasClean]);
  socket.onerror = ({ type }) => got.push(['error', type]);
  const fake = await world.next();
  assert.deepEqual(fake.protocols, ['v1', 'v2']);
  fake.accept('v2');
  assert.deepEqual([socket.readyState, socket.protocol, socket.url], [1, 'v2', URL_]);
  fake.say('hello');
  socket.binaryType = 'arraybuffer';
  assert.equal(fake.binaryType, 'arraybuffer');
  fake.bufferedAmount = 12;
  assert.equal(socket.bufferedAmount, 12);
  socket.send('x');
  assert.deepEqual(fake.sent, ['x']);
  socket.close(3001, 'bye');
  assert.equal(socket.readyState, 2);
  assert.deepEqual(fake.closedWith, [3001, 'bye']);
  fake.end(3001, 'bye');
  assert.equal(socket.readyState, 3);
  assert.deepEqual(got, [['open', 'open', true], ['message', 'hello'], ['close', 3001, 'bye', true]]);
  await assert.rejects(world.next(), /no further attempt/);
  socket.open();
  await world.next();
});

test('listeners: once, removed, handleEvent, signal, no double', async () => {
  const { world, socket } = start();
  const got = [];
  const removed = () => got.push('removed');
  const twice = () => got.push('twice');
  const abort = new AbortController();
  socket.addEventListener('message', () => got.push('once'), { once: true });
  socket.addEventListener('message', removed);
  socket.removeEventListener('message', removed);
  socket.addEventListener('message', { handleEvent: () => got.push('object') });
  socket.addEventListener('message', () => got.push('signal'), { signal: abort.signal });
  socket.addEventListener('message', twice);
  socket.addEventListener('message', twice);
  (await world.next()).accept().say('1');
  abort.abort();
  world.last.say('2');
  assert.deepEqual(got, ['once', 'object', 'signal', 'twice', 'object', 'twice']);
});

test('comes back after every end but 1000 and close()', async () => {
  const { world, socket, seen } = start({ binaryType: 'arraybuffer' });
  for (const code of [1006, 1001, 1011, 1012, 4001]) {
    (await world.next()).accept();
    assert.equal(world.last.binaryType, 'arraybuffer');
    world.last.end(code);
    assert.equal(socket.readyState, 0, 'CONNECTING while it waits');
  }
  assert.deepEqual(seen.open.map((event) => event.isReconnect), [false, true, true, true, true]);
  (await world.next()).accept().end(1000);
  await assert.rejects(world.next(), /no further attempt/);
  assert.equal(socket.readyState, 3);
});

const waitsOf = async (options, n) => {
  const { world } = start({ jitter: false, ...options });
  const waits = [];
  await world.next();
  for (let i = 0; i < n; i++) {
    world.last.end(1006);
    await world.next();
    waits.push(Math.round(world.waited));
  }
  return waits;
};

test('both families of options', async () => {
  const wanted = [1000, 2000, 4000, 5000, 5000];
  assert.deepEqual(await waitsOf({ reconnectInterval: 1000, maxReconnectInterval: 5000, reconnectDecay: 2 }, 5), wanted);
  assert.deepEqual(await waitsOf({ minReconnectionDelay: 1000, maxReconnectionDelay: 5000, reconnectionDelayGrowFactor: 2 }, 5), wanted);
  for (const options of [{ timeoutInterval: 2500 }, { connectionTimeout: 2500 }]) {
    const { world, seen } = start(options);
    await world.next();
    await world.clock.advance(2500);
    assert.deepEqual([seen.close.length, seen.close[0].code], [1, 1006]);
    await world.next();
  }
  for (const options of [{ maxReconnectAttempts: 2 }, { maxRetries: 2 }]) {
    const { world, seen, socket } = start(options);
    for (let i = 0; i < 3; i++) (await world.next()).end(1006);
    await assert.rejects(world.next(), /no further attempt/);
    assert.equal(socket.readyState, 3);
    assert.equal(seen.error.at(-1).error.diagnosis.id, 'client.gave-up');
  }
  const forever = start({ maxReconnectAttempts: null });
  for (let i = 0; i < 30; i++) (await forever.world.next()).end(1006);
  await forever.world.next();
  for (const options of [{ startClosed: true }, { automaticOpen: false }]) {
    const { world, socket } = start(options);
    await settle();
    assert.deepEqual([world.sockets.length, socket.readyState], [0, 3]);
    socket.open();
    await world.next();
    assert.equal(socket.readyState, 0);
  }
  const jittered = start({ reconnectInterval: 1000 });
  jittered.world.dice = 0;
  (await jittered.world.next()).end(1006);
  await jittered.world.next();
  assert.equal(Math.round(jittered.world.waited), 500);
});

test('sends wait while it is closed, in order and bounded', async () => {
  const { world, socket, seen } = start({ maxEnqueuedMessages: 2 });
  for (const data of ['a', 'é', 'c']) socket.send(data);
  assert.equal(socket.bufferedAmount, 3);
  assert.match(seen.error[0].error.message, /queue of messages is full/);
  (await world.next()).accept();
  assert.deepEqual([world.last.sent, socket.bufferedAmount], [['a', 'é'], 0]);
  world.last.end(1006);
  socket.send('d');
  (await world.next()).accept();
  assert.deepEqual(world.last.sent, ['d']);
});

test('url and protocols may be functions; what they throw is an error and another attempt', async () => {
  let n = 0;
  const { world, seen } = start({}, undefined, async () => {
    if (++n === 2) throw new Error('no token');
    return `${URL_}?n=${n}`;
  });
  (await world.next()).end(1006);
  assert.equal((await world.next()).url, `${URL_}?n=3`);
  assert.equal(seen.error.at(-1).error.cause.message, 'no token');
  const lists = start({}, () => ['v9']);
  assert.deepEqual((await lists.world.next()).protocols, ['v9']);
});

test('push.client-handler-error: onmessage throws, an error event comes, the connection stays', async () => {
  const { world, socket, seen } = start();
  const got = [];
  socket.onmessage = () => {
    throw new Error('boom');
  };
  socket.addEventListener('message', ({ data }) => got.push(data));
  (await world.next()).accept().say('1');
  world.last.say('2');
  assert.deepEqual([got, socket.readyState], [['1', '2'], 1]);
  assert.deepEqual(seen.error.map(({ error }) => [error.diagnosis.id, error.cause.message, error.phase]), Array(2).fill(['push.client-handler-error', 'boom', 'message']));
});

test('what can never work is thrown or stops it: browser.headers-unsupported, subprotocol.null, handshake.https-scheme, browser.mixed-content', async () => {
  const { environment } = new World();
  const id = (...given) => {
    try {
      new ReconnectingSocket(...given);
    } catch (error) {
      assert.ok(error instanceof TidegateError);
      return error.diagnosis.id;
    }
  };
  assert.equal(id(URL_, { headers: { Authorization: 'Bearer x' } }, { environment }), 'browser.headers-unsupported');
  assert.equal(id(URL_, [], { headers: {}, environment }), 'browser.headers-unsupported');
  assert.equal(id(URL_, 'null', { environment }), 'subprotocol.null');
  assert.equal(id(undefined, [], { environment }), 'handshake.bad-url-syntax');
  const refuse = (name, url, wanted, page) => async () => {
    const { world, seen, socket } = start({}, [], url);
    if (page) world.page.location = new URL(page);
    world.refuse = () => Object.assign(new Error(`'${url}' is bad`), { name });
    await assert.rejects(world.next(), /no further attempt/);
    assert.deepEqual([seen.error[0].error.diagnosis.id, socket.readyState], [wanted, 3]);
    assert.ok(!seen.error[0].message.includes('example'));
  };
  await refuse('SyntaxError', 'https://ws.example.com', 'handshake.https-scheme')();
  await refuse('SyntaxError', 'wss://ws.example.com/#x', 'handshake.bad-url-syntax')();
  await refuse('SecurityError', 'ws://ws.example.com/', 'browser.mixed-content')();
});

test('an error event says why, without the URL', async () => {
  const { world, seen } = start({}, [], `${URL_}?ws_token=hush`);
  (await world.next()).end(1006);
  const { error } = seen.error[0];
  assert.deepEqual([error.phase, error.code, error.attempt], ['never-opened', 1006, 1]);
  assert.match(error.hint, /Refused or lost/);
  assert.ok(!JSON.stringify(error).includes('hush'));
});

test('reconnect() and refresh() change the socket', async () => {
  const { world, socket, seen } = start();
  (await world.next()).accept();
  const first = world.last;
  socket.reconnect(3000, 'again');
  assert.deepEqual(first.closedWith, [3000, 'again']);
  (await world.next()).accept();
  first.say('late');
  assert.deepEqual([seen.message.length, socket.readyState], [0, 1]);
  socket.refresh();
  await world.next();
});

test('debug prints neither URL nor messages', async (t) => {
  const printed = [];
  t.mock.method(console, 'debug', (...parts) => printed.push(parts.join(' ')));
  const { world, socket } = start({ debug: true }, [], `${URL_}?ws_token=hush`);
  (await world.next()).accept().say('private');
  socket.send('private');
  world.last.end(1006);
  await settle();
  assert.ok(printed.length >= 3);
  assert.ok(!/hush|private|example/.test(printed.join()), printed.join());
});
