// What the token endpoint's answers mean.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { World } from './harness.js';

const { tokenFrom } = await import(process.env.TIDEGATE_DIST ? '../dist/token.js' : '../src/entry-token.js');
const { Tidegate } = await import('../src/entry-tidegate.js');

async function ask(answer, { cookie = 'csrftoken=abc; theme=dark', url = '/ws-token', ...options } = {}) {
  const world = new World();
  world.page.cookie = cookie;
  if (answer) world.answers = [answer];
  const promise = tokenFrom(url, { environment: world.environment, ...options })();
  try {
    return { token: await promise, world };
  } catch (error) {
    return { error, id: error.diagnosis && error.diagnosis.id, world };
  }
}

const CSRF = (why) => ({ status: 403, body: `<html><h1>Forbidden</h1><p>CSRF verification failed. Request aborted.</p>${why}</html>` });

test('a token is fetched with cookies and the CSRF header', async () => {
  const { token, world } = await ask({ body: { token: 'abc', expires_in: 60 } });
  assert.equal(token, 'abc');
  const [{ url, method, credentials, headers, cache }] = world.fetched;
  assert.deepEqual([url, method, credentials, headers, cache], ['/ws-token', 'POST', 'same-origin', { 'X-CSRFToken': 'abc' }, 'no-store']);
  const other = await ask({ body: { ticket: 'x' } }, { csrfCookie: 'XSRF-TOKEN', csrfHeader: 'X-XSRF-TOKEN', cookie: 'a=b; XSRF-TOKEN=q%3D1', field: 'ticket', method: 'GET', headers: { A: 'b' } });
  assert.equal(other.token, 'x');
  assert.deepEqual(other.world.fetched[0].headers, { A: 'b', 'X-XSRF-TOKEN': 'q=1' });
});

test('tokenreq.*: each refusal has its id', async () => {
  const cases = [
    ['tokenreq.anonymous', { status: 403, body: { error: 'Authentication required' } }],
    ['tokenreq.anonymous', { status: 401, body: {} }],
    ['tokenreq.rate-limited', { status: 403, body: { error: 'Rate limit exceeded' } }],
    ['tokenreq.rate-limited', { status: 429, body: {}, headers: { 'retry-after': '12' } }],
    ['tokenreq.csrf-missing', CSRF(''), { csrfCookie: null }],
    ['tokenreq.csrf-cookie', CSRF('<p>Reason given for failure: CSRF cookie not set.</p>'), { cookie: 'theme=dark' }],
    ['tokenreq.csrf-invalid', CSRF('<p>CSRF token from POST incorrect.</p>')],
    ['tokenreq.csrf-origin', CSRF('<p>Origin checking failed - https://app does not match any trusted origins.</p>')],
    ['tokenreq.wrong-url', { status: 404, body: '<html>Not Found</html>' }],
    ['tokenreq.wrong-url', { status: 405, body: '' }],
    ['tokenreq.wrong-url', { status: 200, body: '<!doctype html><title>Log in</title>' }],
    ['tokenreq.cookies-not-sent', { status: 403, body: { error: 'Authentication required' } }, { credentials: 'omit' }],
    ['tokenreq.cookies-not-sent', { status: 403, body: { error: 'Authentication required' } }, { url: 'https://api.example.com/ws-token' }],
    ['tokenreq.no-session-cookie', { status: 403, body: { error: 'Authentication required' } }, { sessionCookie: 'sid' }],
    ['tokenreq.anonymous', { status: 403, body: { error: 'Authentication required' } }, { sessionCookie: 'theme' }],
    ['tokenreq.anonymous', { status: 403, body: { error: 'Authentication required' } }, { url: 'https://api.example.com/t', credentials: 'include' }],
    [null, { status: 403, body: { error: 'something else' } }],
    [null, { status: 500, body: 'Traceback' }],
    [null, { status: 200, body: { nothing: 1 } }],
    [null, null],
  ];
  for (const [wanted, answer, options] of cases) {
    const { id, error } = await ask(answer, options);
    assert.equal(id ?? null, wanted, JSON.stringify([answer, options]));
    assert.equal(error.name, 'TidegateError');
    assert.equal(error.phase, 'never-opened');
    assert.equal(error.status, answer ? answer.status : null);
    assert.ok(!/Traceback|something else/.test(error.message));
  }
  const { error } = await ask({ status: 429, body: {}, headers: { 'retry-after': '12' } });
  assert.equal(error.retryAfter, 12);
  const { error: dated } = await ask({ status: 503, body: {}, headers: { 'retry-after': new Date(1_800_000_000_000 + 30_000).toUTCString() } });
  assert.equal(dated.retryAfter, 30);
});

test('in a client: refusals stop it after 3, limits are waited for, and the clock is read', async () => {
  const world = new World();
  const errors = [];
  world.answers = [{ status: 403, body: { error: 'Authentication required' }, headers: { date: new Date(world.clock.time + 120_000).toUTCString() } }];
  const warnings = [];
  const client = new Tidegate('wss://ws.example.com', {
    getToken: tokenFrom('/t', { environment: world.environment }), environment: world.environment, onError: (error) => errors.push(error),
  });
  client.on('warning', ({ error }) => warnings.push(error.diagnosis.id));
  await world.clock.advance(600_000);
  assert.deepEqual([client.state, world.sockets.length, world.fetched.length, errors.at(-1).diagnosis.id], ['stopped', 0, 3, 'tokenreq.anonymous']);
  assert.deepEqual(warnings, ['clock.client']);
  world.answers = [{ status: 429, body: {}, headers: { 'retry-after': '60' } }];
  client.connect();
  await world.clock.advance(59_000);
  assert.equal(world.fetched.length, 4);
  world.answers = [{ body: { token: 'a'.repeat(64) } }];
  await world.next(3_000);
  assert.equal(world.fetched.length, 5);
});
