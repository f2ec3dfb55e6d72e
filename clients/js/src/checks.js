// What can be known before anything is sent: the URL, the subprotocols, the page, and what the browser's constructor says.

import { TidegateError, failure } from './error.js';

const SCHEMES = ['ws:', 'wss:'];

/** An `undefined` or `null` as a whole part of host, path or query, or a template that was never filled in. */
const UNFILLED = /(^|[/.:?&=])(undefined|null|NaN)([/.:?&]|$)|\$\{|\$%7B|\[object|%5Bobject/i;

/** Hosts that a page may reach without TLS, whatever its own scheme is. */
const LOOPBACK = /^(localhost|.*\.localhost|127(\.\d+){3}|\[::1\])$/;

const BAD = 'handshake.bad-url-syntax';

/**
 * The URL to connect to, or an error that says what is wrong with it. Never quotes it.
 *
 * `page` is the page's `location`, if there is a page. A path such as `/chat` is taken below the page's host.
 */
export function checkUrl(given, page) {
  if (typeof given !== 'string' && !(given instanceof URL)) throw failure(BAD, `The URL is ${given === null ? 'null' : typeof given}, not a text.`);
  let text = String(given).trim();
  if (text.startsWith('/') && !text.startsWith('//') && page && /^https?:$/.test(page.protocol)) {
    text = `${page.protocol === 'https:' ? 'wss' : 'ws'}://${page.host}${text}`;
  }
  let url;
  try {
    url = new URL(text);
  } catch {
    throw failure(BAD, 'The URL is relative or malformed. It must begin with wss:// or ws://.');
  }
  if (url.protocol === 'https:' || url.protocol === 'http:') {
    throw failure('handshake.https-scheme', `The URL begins with ${url.protocol}//. Use ${url.protocol === 'https:' ? 'wss' : 'ws'}://.`);
  }
  if (!SCHEMES.includes(url.protocol)) throw failure(BAD, 'The URL must begin with wss:// or ws://.');
  if (text.includes('#')) throw failure(BAD, 'The URL has a fragment (#...). WebSocket URLs have none.');
  if (UNFILLED.test(url.host + url.pathname + url.search)) {
    throw failure(BAD, 'The URL was built from an undefined value, or from a template that was not filled in.');
  }
  if (url.protocol === 'ws:' && page && page.protocol === 'https:' && !LOOPBACK.test(url.hostname)) {
    throw failure('browser.mixed-content', 'A page loaded over https:// may not open ws://. Use wss://.');
  }
  return url;
}

/** The error for headers, which a browser's WebSocket cannot send. */
export const noHeaders = () =>
  failure('browser.headers-unsupported', 'A browser cannot send headers with a WebSocket. Use the query, a cookie or a subprotocol.');

/** The subprotocols as a list, or an error. Absent ones stay absent: `null` would be offered as the name "null". */
export function checkProtocols(given) {
  if (given === undefined || given === null || given === '') return [];
  if (typeof given === 'object' && !Array.isArray(given)) {
    throw noHeaders();
  }
  const list = Array.isArray(given) ? given : [given];
  for (const name of list) {
    if (typeof name === 'object' && name !== null) throw noHeaders();
    if (/^(null|undefined|NaN|\[object .*|)$/.test(String(name))) {
      throw failure('subprotocol.null', 'An empty value was given as a subprotocol. Pass [] or nothing.');
    }
  }
  return list;
}

/**
 * Why the constructor of WebSocket threw. Its own text is not passed on: it quotes the URL.
 *
 * `nLive` is how many sockets this page has through this client.
 */
export function explainConstructor(error, url, protocols, page, nLive) {
  const name = error && error.name;
  if (name === 'SecurityError') {
    if (page && page.protocol === 'https:' && /^ws:/.test(url)) {
      return failure('browser.mixed-content', 'A page loaded over https:// may not open ws://. Use wss://.');
    }
    return new TidegateError('The browser does not permit this connection (SecurityError).');
  }
  if (name === 'SyntaxError') {
    if (/^https?:/.test(url)) return failure('handshake.https-scheme', 'The URL begins with http:// or https://. Use ws:// or wss://.');
    const bad = protocols.some((item) => !/^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(item)) || new Set(protocols).size < protocols.length;
    if (bad) return new TidegateError('A subprotocol has characters that are not permitted, or is there twice.');
    return failure(BAD, 'The browser does not take this URL.');
  }
  return failure('browser.socket-limit', `The browser opens no more sockets; this page has ${nLive} through this client.`);
}

/** Causes that another attempt with the same URL and options cannot change. */
export const isHopeless = (error) =>
  !!error && !!error.diagnosis && /^(handshake\.(https|bad)|browser\.(mixed|headers|csp)|subprotocol\.null)/.test(error.diagnosis.id);
