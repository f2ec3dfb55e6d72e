// What can be known before anything is sent: the URL, the subprotocols, the page, and what the browser's constructor says.

import { TidegateError, failure } from './error.js';

/** An `undefined` or `null` as a whole part of host, path or query, or a template that was never filled in. */
const UNFILLED = /(^|[/.:?&=])(undefined|null|NaN)([/.:?&]|$)|\$\{|\$%7B|\[object|%5Bobject/i;

/** Hosts that a page may reach without TLS, whatever its own scheme is. */
const LOOPBACK = /^(localhost|.*\.localhost|127(\.\d+){3}|\[::1\])$/;

/**
 * The URL to connect to, or an error that says what is wrong with it. Never quotes it.
 *
 * `page` is the page's `location`, if there is a page. A path such as `/chat` is taken below the page's host.
 */
export function checkUrl(given, page) {
  const bad = (why) => failure('handshake.bad-url-syntax', `The URL ${why}.`);
  const { protocol, host } = page || {};
  const path = /^\/(?!\/)/.test(given) && /^http/.test(protocol);
  const text = path ? protocol.replace('http', 'ws') + `//${host}${given}` : String(given).trim();
  let url;
  try {
    url = new URL(text);
  } catch {
    throw bad('is relative or malformed; it must begin with wss://');
  }
  if (/^http/.test(url.protocol)) throw failure('handshake.https-scheme', `The URL begins with ${url.protocol}//. Use ${url.protocol.replace('http', 'ws')}//.`);
  if (!/^wss?:/.test(url.protocol)) throw bad('must begin with wss://');
  if (text.includes('#')) throw bad('has a fragment (#...)');
  if (UNFILLED.test(url.host + url.pathname + url.search)) throw bad('was built from an undefined value');
  if (url.protocol === 'ws:' && protocol === 'https:' && !LOOPBACK.test(url.hostname)) throw mixedContent();
  return url;
}

const mixedContent = () => failure('browser.mixed-content', 'A page over https:// may not open ws://. Use wss://.');

/** The error for headers, which a browser's WebSocket cannot send. */
export const noHeaders = () =>
  failure('browser.headers-unsupported', 'A WebSocket of a browser has no headers. Use query, cookie or subprotocol.');

/** The subprotocols as a list, or an error. Absent ones stay absent: `null` would be offered as the name "null". */
export function checkProtocols(given) {
  const list = [].concat(given ?? []);
  for (const name of list) {
    if (name && typeof name === 'object') throw noHeaders();
    if (/^(null|undefined|NaN|\[object .*|)$/.test(name)) throw failure('subprotocol.null', 'An empty value was given as a subprotocol.');
  }
  return list;
}

/**
 * Why the constructor of WebSocket threw. Its own text is not passed on: it quotes the URL.
 *
 * `nLive` is how many sockets this page has through this client.
 */
export function explainConstructor({ name }, url, page, nLive) {
  const isSyntax = name === 'SyntaxError';
  if (isSyntax && /^http/.test(url)) return failure('handshake.https-scheme', 'The URL begins with http. Use wss://.');
  if (isSyntax) return failure('handshake.bad-url-syntax', 'The browser does not take this URL, or a subprotocol.');
  if (name === 'SecurityError') return page && page.protocol === 'https:' && /^ws:/.test(url) ? mixedContent() : new TidegateError('The browser does not permit this connection.');
  return failure('browser.socket-limit', `The browser opens no more sockets; this page has ${nLive}.`);
}

/** Causes that another attempt with the same URL and options cannot change. */
export const isHopeless = (error) =>
  /^(handshake\.(https|bad)|browser\.(mixed|headers)|subprotocol\.null)/.test(error?.diagnosis?.id);
