// A page of alerts on Tidegate's alerts application: a list, and a map that fetches nothing. No framework, no build step.
// Whatever alerts say is shown as text, never as HTML.

import { ReconnectingSocket } from './reconnecting-socket.js';
import { MapView, mark, place } from './map.js';

const HEARTBEAT_MS = 30000;
const PONG_WITHIN_MS = 10000;
const MAX_ALERTS = 200;
const HISTORY_MS = 24 * 3600 * 1000;
const TOAST_MS = 6000;

/** Where the demo users are until they say otherwise. */
const HOMES = { 1: { lat: 38.722, lon: -9.139 }, 2: { lat: 38.524, lon: -8.893 }, 3: { lat: 38.697, lon: -9.421 } };

const ANSWERS = [['received', 'Received'], ['safe', 'I am safe'], ['evacuating', 'Evacuating'], ['need_help', 'I need help']];

const $ = (selector) => document.querySelector(selector);

/** An element; `props` are properties, or attributes where the name has a dash or is `role`. */
function el(name, props = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === 'data') Object.assign(made.dataset, value);
    else if (key.includes('-') || key === 'role') made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const clockWithSeconds = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const words = (name) => { const text = String(name).replaceAll('_', ' ').trim(); return text.charAt(0).toUpperCase() + text.slice(1); };
const isNumber = (value) => typeof value === 'number' && Number.isFinite(value);

// ---- alerts -------------------------------------------------------------------------

const alerts = new Map();
const answers = new Map();
let selected = null;
let demo = null;
let me = null;
let socket = null;
let lastTime = new Date(Date.now() - HISTORY_MS).toISOString();
let pinged = 0;
let pongTimer = 0;
let map = null;

/** What each known type says, in the page's words. Others are shown by their name. */
const KINDS = {
  sos_alert: (alert) => ({ kind: 'SOS', title: `SOS from ${alert.tourist_name || `person ${alert.tourist_id}`}`, body: alert.message }),
  safety_alert: (alert) => ({ kind: 'Safety', title: `${alert.tourist_name || `Person ${alert.tourist_id}`} may be in danger`, body: alert.message, rows: [['Safety score', alert.safety_score], ['Risk', alert.risk_level], ['Advice', [alert.recommendations].flat().filter(Boolean).join('; ')]] }),
  efir_generated: (alert) => ({ kind: 'Report', title: `Report ${alert.fir_number || ''}`.trim(), body: alert.incident_type && words(alert.incident_type), rows: [['Person', alert.tourist_name], ['Where', typeof alert.location === 'string' ? alert.location : '']] }),
  alert: (alert) => ({ kind: 'Help', title: alert.title || 'Request for help', body: alert.description, rows: [['Person', alert.tourist_name]] }),
  retrain_complete: () => ({ kind: 'System', title: 'Training has ended' }),
  retrain_error: (alert) => ({ kind: 'System', title: 'Training has failed', body: alert.error }),
  broadcast: (alert) => ({ kind: 'Broadcast', title: alert.title, body: alert.message, todo: typeof alert.action_required === 'string' ? alert.action_required : '', rows: [['Until', alert.expires_at && clock.format(new Date(alert.expires_at))]] }),
};

const severityOf = (alert) => ({ info: 'low', low: 'low', medium: 'medium', high: 'high', critical: 'critical' }[String(alert.severity || '').toLowerCase()] || 'low');
const locationOf = (alert) => (alert.location && isNumber(alert.location.lat) && isNumber(alert.location.lon) ? alert.location : null);

function arrived(text) {
  if (text === 'pong') return alive();
  let alert;
  try {
    alert = JSON.parse(text);
  } catch {
    return;
  }
  if (!alert || typeof alert.type !== 'string') return;
  const own = alert.type === 'broadcast' ? alert.broadcast_id : alert.alert_id || alert.efir_id;
  const id = String(own || `${alert.type} ${alert.timestamp}`);
  const isNew = !alerts.has(id);
  const about = (KINDS[alert.type] || (() => ({ kind: words(alert.type), title: alert.title || words(alert.type), body: alert.message })))(alert);
  alerts.set(id, { id, alert, about, severity: severityOf(alert), location: locationOf(alert), time: new Date(alert.timestamp || Date.now()) });
  if (alerts.size > MAX_ALERTS) alerts.delete([...alerts.values()].sort((a, b) => a.time - b.time)[0].id);
  if (alert.timestamp > lastTime) lastTime = alert.timestamp;
  if (isNew) $('#news').textContent = `${words(severityOf(alert))}: ${about.title}`;
  draw();
}

const newestFirst = () => [...alerts.values()].sort((a, b) => b.time - a.time);

function draw() {
  const all = newestFirst();
  const active = document.activeElement && document.activeElement.closest('.alert');
  const focus = active && { id: active.dataset.id, act: document.activeElement.dataset.act };
  $('#no-alerts').hidden = all.length > 0;
  $('#count').textContent = all.length === 1 ? '1 alert' : all.length ? `${all.length} alerts` : '';
  $('#alerts').replaceChildren(...all.map(drawAlert));
  const items = [...document.querySelectorAll('.alert')];
  const current = items.find((item) => focus && item.dataset.id === focus.id);
  const tabbed = current || items.find((item) => item.dataset.id === selected) || items[0];
  if (tabbed) tabbed.tabIndex = 0;
  if (current) ((focus.act && current.querySelector(`[data-act="${focus.act}"]`)) || current).focus({ preventScroll: true });
  const on = all.filter((one) => one.location).reverse();
  map.show(on.map((one) => ({ id: one.id, severity: one.severity, location: one.location, label: labelOf(one) })), selected);
}

function labelOf({ about, severity, location, time }) {
  const area = location.radius_km ? `, ${location.radius_km} km around` : ', at';
  return `${words(severity)}: ${about.title}${area} ${place(location)}, ${clock.format(time)}`;
}

function drawAlert({ id, alert, about, severity, location, time }) {
  const rows = [...(about.rows || [])];
  if (location) rows.push([location.radius_km ? 'Area' : 'Where', location.radius_km ? `${location.radius_km} km around ${place(location)}` : place(location)]);
  const shown = rows.filter(([, value]) => value !== undefined && value !== null && value !== '');
  const item = el('li', { className: 'alert', tabIndex: -1, data: { id, severity }, 'aria-current': id === selected ? 'true' : null },
    el('p', { className: 'kind' }, el('span', { className: 'severity' }, words(severity)), el('span', {}, about.kind), el('time', { dateTime: time.toISOString() }, clock.format(time))),
    el('h3', {}, about.title),
    about.body ? el('p', { className: 'body' }, about.body) : null,
    about.todo ? el('p', { className: 'todo' }, about.todo) : null,
    shown.length ? el('dl', {}, ...shown.flatMap(([name, value]) => [el('dt', {}, name), el('dd', {}, String(value))])) : null);
  item.setAttribute('aria-label', `${words(severity)}. ${about.title}`);
  const isBroadcast = alert.type === 'broadcast' && Boolean(alert.broadcast_id);
  const doing = el('div', { className: 'doing', role: 'group', 'aria-label': isBroadcast ? 'Your answer' : 'Alert' });
  if (isBroadcast) {
    for (const [status, text] of ANSWERS) {
      const button = el('button', { type: 'button', className: status === 'need_help' ? 'help' : '', 'aria-pressed': String(answers.get(id)?.status === status), data: { act: status } }, text);
      button.addEventListener('click', () => answer(id, status));
      doing.append(button);
    }
  }
  if (location) {
    const button = el('button', { type: 'button', data: { act: 'map' } }, 'Show on map');
    button.addEventListener('click', () => { select(id); setView('map'); map.goTo(location); });
    doing.append(button);
  }
  if (doing.childElementCount) item.append(doing);
  const said = answers.get(id);
  if (said) item.append(el('p', { className: 'said', role: 'status' }, said.text));
  return item;
}

function select(id) {
  selected = id;
  draw();
}

// ---- calls --------------------------------------------------------------------------

/** Addresses, users and their tokens. A page of your own asks its own server for a token here. */
async function ask() {
  const reply = await fetch('dev.json', { cache: 'no-store' });
  if (!reply.ok) throw new Error(`dev.json: status ${reply.status}`);
  demo = await reply.json();
  return demo;
}

const ownToken = () => demo.users.find((user) => user.id === me.id).token;

/** A call of the application. Gives its answer, or fails with a sentence for people. */
async function call(method, path, body, tokenOf = ownToken) {
  await ask();
  let reply;
  try {
    reply = await fetch(demo.alerts.base + path, {
      method,
      headers: { Authorization: `Bearer ${tokenOf()}`, 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
    });
  } catch {
    throw new Error('Tidegate does not answer.');
  }
  const said = await reply.json().catch(() => ({}));
  if (!reply.ok) throw new Error(said.field ? `${words(said.field)}: ${said.message}.` : `${said.message || `Status ${reply.status}`}.`);
  return said;
}

async function answer(id, status) {
  const text = ANSWERS.find(([one]) => one === status)[1];
  try {
    const position = homeOf(me.id);
    const said = await call('POST', `/api/broadcasts/${encodeURIComponent(id)}/acknowledge`, { status, ...position });
    answers.set(id, { status, text: `You answered “${text}” at ${clock.format(new Date(said.acknowledged_at || Date.now()))}.` });
  } catch (error) {
    answers.set(id, { status: answers.get(id)?.status, text: `Your answer did not arrive. ${error.message}` });
  }
  draw();
}

function homeOf(id) {
  const kept = sessionStorage.getItem(`position-${id}`);
  return kept ? JSON.parse(kept) : HOMES[id] || HOMES[1];
}

async function moveTo(position, isSaid) {
  const rounded = { lat: Number(position.lat.toFixed(5)), lon: Number(position.lon.toFixed(5)) };
  try {
    await call('PUT', '/api/alerts/position', rounded);
    sessionStorage.setItem(`position-${me.id}`, JSON.stringify(rounded));
    map.me = rounded;
    if (isSaid) toast(`You are at ${place(rounded)}.`);
  } catch (error) {
    toast(`Your position was not taken. ${error.message}`);
  }
}

async function publish(form) {
  const { kind, type, person, title, message, severity, radius, lat, lon } = Object.fromEntries(new FormData(form));
  const position = { lat: Number(lat), lon: Number(lon) };
  const publisher = () => demo.alerts.publisher;
  if (kind === 'broadcast') {
    const body = { title, message, severity, center_latitude: position.lat, center_longitude: position.lon, radius_km: Number(radius) };
    const said = await call('POST', '/api/broadcast/radius', body, publisher);
    return said.tourists_notified === 1 ? 'Sent to one person in the area.' : `Sent to ${said.tourists_notified} people in the area.`;
  }
  const alert = { type, alert_id: crypto.randomUUID(), tourist_id: 'demo', tourist_name: person, severity, location: position };
  if (type === 'alert') Object.assign(alert, { alert_type: 'broadcast_help_request', title: `${person} asks for help`, description: message });
  else alert.message = message;
  if (type === 'safety_alert') alert.safety_score = 30;
  const said = await call('POST', '/api/alerts/publish', { channel: 'authority', alert }, publisher);
  return said.connections === 1 ? 'Sent to one window.' : `Sent to ${said.connections} windows.`;
}

// ---- connection ---------------------------------------------------------------------

function show(state, text) {
  $('#status').dataset.state = state;
  if ($('#status').textContent !== text) $('#status').textContent = text;
}

function ping() {
  if (!socket || socket.readyState !== 1) return;
  socket.send('ping');
  pinged = performance.now();
  clearTimeout(pongTimer);
  pongTimer = setTimeout(() => {
    $('#heartbeat').textContent = 'Heartbeat missed';
    socket.reconnect(4000, 'No pong');
  }, PONG_WITHIN_MS);
}

function alive() {
  clearTimeout(pongTimer);
  $('#heartbeat').textContent = `Heartbeat ${clockWithSeconds.format(new Date())}, ${Math.max(1, Math.round(performance.now() - pinged))} ms`;
}

/** A browser does not tell why a handshake was refused; the same address answers when it is asked without opening. */
async function reason() {
  const reply = await fetch(`${demo.alerts.base}${demo.alerts.path}?token=${ownToken()}`, { headers: { 'Tidegate-Check': '1' } });
  const said = await reply.json();
  return reply.ok || reply.status >= 500 ? null : said.message;
}

function connect() {
  let isOpen = false;
  const url = async () => {
    await ask();
    return `${demo.alerts.url}?token=${ownToken()}&since=${encodeURIComponent(lastTime)}`;
  };
  socket = new ReconnectingSocket(url, [], { minReconnectionDelay: 500, maxReconnectionDelay: 8000, maxEnqueuedMessages: 0 });
  socket.addEventListener('open', () => {
    isOpen = true;
    show('open', 'Connected');
    ping();
    moveTo(homeOf(me.id), false);
  });
  socket.addEventListener('message', (event) => arrived(event.data));
  socket.addEventListener('close', async (event) => {
    clearTimeout(pongTimer);
    const wasOpen = isOpen;
    isOpen = false;
    if (event.code === 1000) show('refused', 'Ended by the server');
    else show('connecting', navigator.onLine === false ? 'You are offline' : 'Reconnecting');
    $('#heartbeat').textContent = 'No heartbeat';
    const why = wasOpen ? null : await reason().catch(() => null);
    if (why && !isOpen) show('refused', why);
  });
  setInterval(ping, HEARTBEAT_MS);
}

// ---- people's doings ----------------------------------------------------------------

let toastTimer = 0;
function toast(text) {
  clearTimeout(toastTimer);
  $('#toast').textContent = text;
  $('#toast').hidden = false;
  toastTimer = setTimeout(() => { $('#toast').hidden = true; }, TOAST_MS);
}

function setView(view) {
  document.body.dataset.view = view;
  for (const button of document.querySelectorAll('.views button')) button.setAttribute('aria-pressed', String(button.dataset.view === view));
}

function drawKind() {
  const kind = $('#publish-dialog form').elements.kind.value;
  for (const part of document.querySelectorAll('#publish-dialog [data-for]')) {
    part.hidden = part.dataset.for !== kind;
    part.querySelectorAll('input, select').forEach((field) => { field.disabled = part.hidden; field.required = !part.hidden; });
  }
}

function listen() {
  $('#alerts').addEventListener('keydown', (event) => {
    const items = [...document.querySelectorAll('.alert')];
    const index = items.indexOf(event.target.closest('.alert'));
    const to = { ArrowDown: index + 1, ArrowUp: index - 1, Home: 0, End: items.length - 1 }[event.key];
    if (event.key === 'Escape' && items[index]) items[index].focus();
    if (index < 0 || to === undefined || !items[to]) return;
    event.preventDefault();
    items[index].tabIndex = -1;
    items[to].tabIndex = 0;
    items[to].focus();
  });
  map.addEventListener('choose', (event) => {
    selected = event.detail;
    setView('list');
    draw();
    const item = document.querySelector(`.alert[data-id="${CSS.escape(selected)}"]`);
    if (item) item.focus();
  });
  $('#zoom-in').addEventListener('click', () => map.zoom(1.6));
  $('#zoom-out').addEventListener('click', () => map.zoom(1 / 1.6));
  $('#fit').addEventListener('click', () => map.fit());
  $('#locate').addEventListener('click', () => map.goTo(homeOf(me.id)));
  $('#move').addEventListener('click', () => moveTo(map.center, true));
  for (const button of document.querySelectorAll('.views button')) button.addEventListener('click', () => setView(button.dataset.view));

  const dialog = $('#publish-dialog');
  const form = dialog.querySelector('form');
  $('#publish').addEventListener('click', () => {
    const { lat, lon } = map.center;
    form.elements.lat.value = lat.toFixed(4);
    form.elements.lon.value = lon.toFixed(4);
    form.querySelector('.error').textContent = '';
    drawKind();
    dialog.showModal();
  });
  form.addEventListener('change', drawKind);
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const button = form.querySelector('button.primary');
    button.disabled = true;
    try {
      const text = await publish(form);
      dialog.close();
      toast(text);
    } catch (error) {
      form.querySelector('.error').textContent = error.message;
    }
    button.disabled = false;
  });
  dialog.addEventListener('click', (event) => { if (event.target === dialog || event.target.closest('[data-close]')) dialog.close(); });
}

async function start() {
  for (const place of document.querySelectorAll('[data-mark]')) place.append(mark(place.dataset.mark));
  map = new MapView($('#map'));
  listen();
  try {
    await ask();
  } catch {
    show('refused', 'Tidegate does not answer');
    setTimeout(() => location.reload(), 3000);
    return;
  }
  const wanted = Number(new URLSearchParams(location.search).get('user'));
  me = demo.users.find((user) => user.id === wanted) || demo.users[0];
  $('#who').replaceChildren(...demo.users.map((user) => el('option', { value: user.id, selected: user.id === me.id }, `${user.name}, ${user.role}`)));
  $('#who').addEventListener('change', () => { location.search = `?user=${$('#who').value}`; });
  map.me = homeOf(me.id);
  map.goTo({ ...homeOf(me.id), radius_km: 60 });
  connect();
}

start();
