// A chat page on Tidegate's chat application. It runs as it is: no framework, no build step.
// What the server sends is drawn by `draw*`; what people do becomes events through `send`.

import { ReconnectingSocket } from './reconnecting-socket.js';

const PAGE_SIZE = 30;
const MAX_PRELOADED_ROOMS = 40;
const TYPING_EVERY_MS = 2000;
const TYPING_SHOWN_MS = 4000;
const TOAST_MS = 6000;
const REACTIONS = ['❤', '😀', '😂', '😮', '😢', '✔'];

const $ = (selector) => document.querySelector(selector);

/** An element; `props` are properties, or attributes where the name has a dash or is `role`. */
function el(name, props = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === 'data') Object.assign(node.dataset, value);
    else if (key.includes('-') || key === 'role') node.setAttribute(key, value);
    else node[key] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  use.setAttribute('href', `#i-${name}`);
  svg.setAttribute('aria-hidden', 'true');
  svg.append(use);
  return svg;
}

// ---- text ---------------------------------------------------------------------------

const ELEMENTS = new Set(['B', 'I', 'STRONG', 'EM', 'SPAN', 'P', 'UL', 'OL', 'LI', 'BR']);
const parseHtml = (html) => new DOMParser().parseFromString(html, 'text/html').body;

/** The server has cleaned this HTML; the page still builds it anew, out of the few elements that messages may have. */
function rebuilt(html) {
  const copy = (from, to) => {
    for (const node of from.childNodes) {
      if (node.nodeType === Node.TEXT_NODE) to.append(node.data);
      if (node.nodeType !== Node.ELEMENT_NODE) continue;
      let made = to;
      if (ELEMENTS.has(node.tagName)) made = el(node.tagName.toLowerCase());
      const link = node.tagName === 'A' && /^(https?:|mailto:)/i.test(node.getAttribute('href') || '');
      if (link) made = el('a', { href: node.getAttribute('href'), target: '_blank', rel: 'noopener noreferrer' });
      copy(node, made);
      if (made !== to) to.append(made);
    }
    return to;
  };
  return copy(parseHtml(html), document.createDocumentFragment());
}

/** Its text alone, lines as lines. */
function plain(html) {
  const body = parseHtml(html);
  for (const line of body.querySelectorAll('br')) line.replaceWith('\n');
  for (const block of body.querySelectorAll('p, li')) block.append('\n');
  return body.textContent.trim();
}

/** What somebody typed, as the HTML that shows just that. */
function asHtml(text) {
  const entities = { '&': '&amp;', '<': '&lt;', '>': '&gt;' };
  const safe = text.replace(/[&<>]/g, (sign) => entities[sign]);
  const linked = safe.replace(/https?:\/\/[^\s<"]+[^\s<".,;:!?)]/g, (url) => `<a href="${url}">${url}</a>`);
  return linked.replace(/\n/g, '<br>');
}

const FIELDS = { name: 'Name', content: 'Message', participants: 'People', subscribers: 'People', members: 'People' };
const SENTENCES = [
  [/send message to this room/, 'Only some members may write here.'],
  [/modify this message/, 'Only its author can change this message.'],
  [/access this message/, 'You are not a member of the room of this message.'],
  [/access this room|Resource not found/, 'This is not there, or not for you.'],
  [/add new members/, 'Only admins add people here.'],
  [/remove members/, 'Only admins remove people here.'],
  [/not the creator/, 'Only its creator deletes a room.'],
  [/not an admin/, 'Only admins change this room.'],
  [/Chat already exists/, 'There is a chat with this person already.'],
  [/Channel is private/, 'This channel is private. Ask a member to add you.'],
  [/Ask an admin/, 'A group is joined by being added. Ask a member.'],
  [/only have 2 participants/, 'Choose one person for a direct chat.'],
  [/Maximum number/, 'This room is full.'],
  [/valid UUID|badly formed|Invalid room_id/i, 'This is not the id of a channel.'],
  [/Internal server error/, 'The server could not do that. Try again.'],
];

/** An error as a sentence for people, whatever form its detail has. */
function inWords(error) {
  const flat = (detail, name = '') => {
    if (Array.isArray(detail)) return detail.map((one) => flat(one, name)).join(' ');
    if (detail && typeof detail === 'object') return Object.entries(detail).map(([key, value]) => flat(value, key)).join(' ');
    const known = SENTENCES.find(([pattern]) => pattern.test(String(detail)));
    if (known) return known[1];
    return FIELDS[name] ? `${FIELDS[name]}: ${detail}` : String(detail);
  };
  return typeof error === 'string' ? `The server does not know what that was: ${error}.` : flat(error.detail);
}

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
const shortDay = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });
const dayOf = (time) => new Date(time).toDateString();
const isToday = (time) => dayOf(time) === new Date().toDateString();

const nameOf = (user) => [user.first_name, user.last_name].filter(Boolean).join(' ') || user.username;
const initials = (name) => name.split(/\s+/).map((word) => [...word][0] || '').slice(0, 2).join('').toUpperCase();
const list = (names) => new Intl.ListFormat('en').format(names);

function avatar(name, tone, isGroup = false) {
  return el('span', { className: isGroup ? 'avatar group' : 'avatar', 'aria-hidden': 'true', data: { tone: tone % 4 } }, initials(name));
}

// ---- state --------------------------------------------------------------------------

const rooms = new Map();
let demo = null;
let me = null;
let socket = null;
let openId = null;
let context = null; // { kind: 'reply' | 'edit', message }
let expected = null; // what a dialog waits for
let typists = new Map();
let lastTyped = 0;
let wantsFocus = null;

function send(event_type, data = {}) {
  if (socket && socket.readyState === 1) socket.send(JSON.stringify({ event_type, data }));
  else toast('Not connected. Try again in a moment.');
}

const isMine = (message) => message.sender && message.sender.id === me.id;
const isRead = (message) => message.read_receipts.some((receipt) => receipt.reader.id === me.id);
const others = (room) => (room.participants || room.subscribers || []).filter((user) => user.id !== me.id);
const membersOf = (room) => room.participants || room.subscribers || [];

function roomOf(id) {
  if (!rooms.has(id)) rooms.set(id, { id, messages: new Map(), hasOlder: false, isLoaded: false, asked: new Set() });
  return rooms.get(id);
}

const sorted = (room) => [...room.messages.values()].sort((a, b) => (a.created_at < b.created_at ? -1 : a.created_at > b.created_at ? 1 : 0));
const unread = (room) => sorted(room).filter((message) => !isMine(message) && !isRead(message) && !room.asked.has(message.id));
const newest = (room) => sorted(room).at(-1) || (room.last_message && room.last_message.id && room.last_message) || null;

function titleOf(room) {
  if (room.type !== 'OneToOneChat') return room.name || 'Room';
  const peer = room.peer || others(room)[0];
  return peer ? nameOf(peer) : 'Direct chat';
}
const toneOf = (room) => (room.type === 'OneToOneChat' ? ((room.peer || others(room)[0] || {}).id || 0) : (room.name || '').length + 1);

function isManager(room) {
  const managers = [room.creator, ...(room.admins || []), ...(room.moderators || [])].filter(Boolean);
  return managers.some((user) => user.id === me.id);
}
const mayWrite = (room) => (room.type !== 'Channel' && !room.group_locked) || isManager(room);

// ---- what arrives -------------------------------------------------------------------

const arrivals = {
  'chat.notifications'(pending) {
    const ids = Object.values(pending).flat().map((one) => one.message && one.message.id).filter(Boolean);
    if (ids.length) acknowledge([...new Set(ids)]);
    const missed = Object.values(pending).flat().filter((one) => one.notification_type !== 'REACTION').length;
    if (missed) toast(missed === 1 ? 'One new message while you were away.' : `${missed} new messages while you were away.`);
  },
  'roomlist.dispatch'(entries) {
    const known = new Set(entries.map((entry) => entry.id));
    for (const id of [...rooms.keys()]) if (!known.has(id)) forget(id);
    for (const entry of entries) Object.assign(roomOf(entry.id), entry);
    for (const entry of entries.slice(0, MAX_PRELOADED_ROOMS)) history(entry.id, 1);
    if (openId) send('room.info', { room_id: openId });
    drawRooms();
  },
  'roominfo.dispatch': learn,
  'roomupdate.dispatch': learn,
  'roomcreate.dispatch'(detail) {
    const room = learn(detail);
    room.isLoaded = true;
    if (expected && expected.kind === 'create' && expected.fits(detail)) {
      closeDialog();
      openRoom(detail.id);
    } else if (!(detail.creator && detail.creator.id === me.id)) {
      announce(`New room: ${titleOf(room)}`);
    }
  },
  'roommessages.dispatch'({ has_next, page, data }) {
    const room = roomOf(data.room_id);
    if (page === 1) prune(room, data.messages, has_next);
    for (const message of data.messages) keep(room, message);
    room.isLoaded = true;
    const oldest = data.messages.at(-1);
    if (!oldest || sorted(room)[0].id === oldest.id) room.hasOlder = Boolean(has_next);
    const undelivered = data.messages.filter((message) => !isMine(message) && !message.delivered_to.includes(me.username));
    if (undelivered.length) acknowledge(undelivered.map((message) => message.id));
    drawRooms();
    if (room.id === openId) drawRoom();
  },
  'message.dispatch'(message) {
    const room = roomOf(message.room.id);
    keep(room, message);
    if (!isMine(message)) {
      acknowledge([message.id]);
      typists.delete(message.sender.username);
      announce(`${nameOf(message.sender)}: ${plain(message.content)}`);
    }
    drawRooms();
    if (room.id === openId) drawRoom(isMine(message) || isAtEnd());
  },
  'messagedelivered.dispatch': (messages) => messages.forEach(replace),
  'readreceipt.dispatch': (messages) => [messages].flat().forEach(replace),
  'reaction.dispatch': ({ message }) => replace(message),
  'messagemodification.dispatch'({ message, message_ids: gone }) {
    if (message) replace(message);
    for (const room of gone ? rooms.values() : []) {
      const count = gone.filter((id) => room.messages.delete(id)).length;
      for (const other of count ? room.messages.values() : []) {
        if (other.parent_message && gone.includes(other.parent_message.id)) other.parent_message = null;
      }
      if (room.last_message && gone.includes(room.last_message.id)) room.last_message = null;
      if (count && context && gone.includes(context.message.id)) setContext(null);
      if (count && room.id === openId) drawRoom();
    }
    drawRooms();
  },
  'messagetyping.dispatch'({ username, room_id }) {
    if (username === me.username) return;
    clearTimeout((typists.get(username) || {}).timer);
    const timer = setTimeout(() => { typists.delete(username); drawTyping(); }, TYPING_SHOWN_MS);
    typists.set(username, { timer, room: room_id });
    drawTyping();
  },
  'roomaddmembers.dispatch'({ room: detail, new_members, added_by }) {
    const isNew = new_members.includes(me.username) || !rooms.has(detail.id);
    const room = learn(detail);
    if (isNew) history(room.id, 1);
    if (expected && expected.kind === 'join' && expected.id === room.id) {
      closeDialog();
      openRoom(room.id);
    } else if (isNew && added_by !== 'self') {
      toast(`${nameOfUsername(room, added_by)} added you to ${titleOf(room)}.`);
    }
  },
  'roomremovemembers.dispatch': ({ room }) => learn(room),
  'roomexit.dispatch'({ room, message }) {
    forget(room.id);
    drawRooms();
    toast(`${message}.`);
  },
  'roomdelete.dispatch'({ room_id }) {
    const name = rooms.has(room_id) ? titleOf(rooms.get(room_id)) : 'A room';
    forget(room_id);
    drawRooms();
    toast(`${name} was deleted.`);
  },
};

function arrived(text) {
  const frame = JSON.parse(text);
  if (frame.error) return failed(frame.error);
  const handle = arrivals[frame.eventType];
  if (handle) handle(frame.data);
}

function failed(error) {
  // Another window of the same person was faster to read.
  if (error.code === 4005 && error.detail === 'Database constraint violated.') return;
  const text = inWords(error);
  const place = document.querySelector('dialog[open] .error');
  if (place) place.textContent = text;
  else toast(text);
  expected = null;
}

function learn(detail) {
  const room = Object.assign(roomOf(detail.id), detail);
  drawRooms();
  if (room.id === openId) drawRoom();
  if ($('#details-dialog').open && room.id === openId) drawDetails();
  return room;
}

function keep(room, message) {
  if (!message.is_deleted) room.messages.set(message.id, message);
}

/** What the newest page says counts: others may have deleted messages, or written more than a page, while this one was away. */
function prune(room, page, hasMore) {
  const [last, first] = [page[0], page.at(-1)];
  const ids = new Set(page.map((message) => message.id));
  if (hasMore && !page.some((message) => room.messages.has(message.id))) room.messages.clear();
  for (const { id, created_at: at } of [...room.messages.values()]) {
    if (first && at >= first.created_at && at <= last.created_at && !ids.has(id)) room.messages.delete(id);
  }
}

function replace(message) {
  const room = rooms.get(message.room.id);
  if (!room || !room.messages.has(message.id)) return;
  room.messages.set(message.id, message);
  for (const other of room.messages.values()) {
    if (other.parent_message && other.parent_message.id === message.id) other.parent_message = message;
  }
  drawRooms();
  if (room.id === openId) drawRoom();
}

function forget(id) {
  rooms.delete(id);
  if (id !== openId) return;
  closeDialog();
  closeRoom();
}

const acknowledge = (ids) => send('message.acknowledged', { message_id: ids });
const history = (room_id, page) => send('room.messages', { room_id, paginate: { page, size: PAGE_SIZE } });

/** Tells the others that what is on the screen was read. */
function read(room) {
  const isSeen = document.visibilityState === 'visible' && getComputedStyle($('#main')).display !== 'none';
  if (!isSeen || !socket || socket.readyState !== 1) return;
  const ids = unread(room).map((message) => message.id);
  if (!ids.length) return;
  ids.forEach((id) => room.asked.add(id));
  send('message.read', { message_id: ids });
}

// ---- drawing ------------------------------------------------------------------------

function drawRooms() {
  const all = [...rooms.values()].filter((room) => room.type);
  const at = (room) => (newest(room) || room).created_at || '';
  all.sort((a, b) => (at(a) < at(b) ? 1 : -1));
  const focused = document.activeElement && document.activeElement.closest('.room');
  const items = all.map((room) => {
    const last = newest(room);
    const count = room.id === openId && document.visibilityState === 'visible' ? 0 : unread(room).length;
    const name = titleOf(room);
    const author = last && isMine(last) ? 'You: ' : last && last.sender && room.type !== 'OneToOneChat' ? `${last.sender.first_name || last.sender.username}: ` : '';
    const more = room.hasOlder && count >= PAGE_SIZE ? '+' : '';
    const button = el('button', { type: 'button', className: count ? 'room has-unread' : 'room', data: { id: room.id }, 'aria-current': room.id === openId ? 'true' : null, tabIndex: -1 },
      avatar(name, toneOf(room), room.type !== 'OneToOneChat'),
      el('span', { className: 'what' },
        el('span', { className: 'name' }, name),
        last ? el('time', { dateTime: last.created_at }, isToday(last.created_at) ? clock.format(new Date(last.created_at)) : shortDay.format(new Date(last.created_at))) : el('span'),
        el('span', { className: 'last' }, last ? author + plain(last.content) : 'No messages yet'),
        count ? el('span', { className: 'unread' }, `${count}${more}`, el('span', { className: 'unseen' }, ' unread')) : null));
    button.addEventListener('click', () => openRoom(room.id));
    return el('li', {}, button);
  });
  $('#rooms').replaceChildren(...items);
  const buttons = [...document.querySelectorAll('.room')];
  const current = buttons.find((button) => focused && button.dataset.id === focused.dataset.id);
  (current || buttons.find((button) => button.dataset.id === openId) || buttons[0] || {}).tabIndex = 0;
  if (current) current.focus();
  $('#no-rooms').hidden = all.length > 0;
  const total = all.reduce((sum, room) => sum + (room.id === openId ? 0 : unread(room).length), 0);
  document.title = total ? `(${total}) Chat` : 'Chat';
}

const isAtEnd = () => $('#scroll').scrollHeight - $('#scroll').scrollTop - $('#scroll').clientHeight < 80;

function drawRoom(toEnd = isAtEnd()) {
  const room = rooms.get(openId);
  if (!room) return;
  read(room);
  const name = titleOf(room);
  $('#room-name').textContent = name;
  $('#room-avatar').replaceWith(Object.assign(avatar(name, toneOf(room), room.type !== 'OneToOneChat'), { id: 'room-avatar' }));
  const kinds = { OneToOneChat: 'Direct chat', GroupChat: 'Group', Channel: room.is_public ? 'Public channel' : 'Channel' };
  const people = membersOf(room).map((user) => (user.id === me.id ? 'you' : user.first_name || user.username));
  $('#room-about').textContent = room.type === 'OneToOneChat' || !people.length ? kinds[room.type] : `${kinds[room.type]}: ${list(people)}`;
  const may = mayWrite(room);
  $('#composer').hidden = !may;
  $('#read-only').hidden = may;
  $('#read-only').textContent = room.type === 'Channel' ? 'Only moderators write in this channel.' : 'Only admins write in this group now.';
  $('#older').hidden = !room.hasOlder;
  const messages = sorted(room);
  $('#no-messages').hidden = messages.length > 0 || !room.isLoaded;

  const scroll = $('#scroll');
  const fromEnd = scroll.scrollHeight - scroll.scrollTop;
  const active = document.activeElement && document.activeElement.closest('.message');
  const focus = wantsFocus || (active && { id: active.dataset.id, act: document.activeElement.dataset.act });
  wantsFocus = null;
  const palette = document.querySelector('.message[data-palette]');
  const items = [];
  messages.forEach((message, index) => {
    const before = messages[index - 1];
    const after = messages[index + 1];
    if (!before || dayOf(before.created_at) !== dayOf(message.created_at)) {
      const day = new Date(message.created_at);
      items.push(el('li', { className: 'day' }, isToday(day) ? 'Today' : weekday.format(day)));
    }
    const same = (other) => other && other.sender?.id === message.sender?.id && dayOf(other.created_at) === dayOf(message.created_at);
    const item = drawMessage(room, message, !same(before), !same(after));
    if (palette && palette.dataset.id === message.id) showPalette(item, message);
    items.push(item);
  });
  $('#messages').replaceChildren(...items);
  const last = document.querySelector('.message:last-child');
  const chosen = focus && document.querySelector(`.message[data-id="${CSS.escape(focus.id)}"]`);
  for (const item of document.querySelectorAll('.message')) item.tabIndex = item === (chosen || last) ? 0 : -1;
  if (chosen) ((focus.act && chosen.querySelector(`[data-act="${CSS.escape(focus.act)}"]`)) || chosen).focus({ preventScroll: true });
  scroll.scrollTop = toEnd ? scroll.scrollHeight : scroll.scrollHeight - fromEnd;
  drawTyping();
}

function drawMessage(room, message, isFirst, isLast) {
  const mine = isMine(message);
  const author = message.sender ? nameOf(message.sender) : 'System';
  const bubble = el('div', { className: 'bubble' });
  if (!mine && isFirst && room.type !== 'OneToOneChat') bubble.append(el('p', { className: 'author' }, author));
  const quoted = message.parent_message || message.forwarded_from;
  if (quoted) {
    const whose = quoted.sender ? (isMine(quoted) ? 'You' : nameOf(quoted.sender)) : 'System';
    bubble.append(el('blockquote', { className: 'quote' }, el('strong', {}, whose), el('span', {}, quoted.is_deleted ? 'Deleted' : plain(quoted.content))));
  }
  if (message.attachments.length === 0 || message.content !== 'Media Files') bubble.append(el('div', { className: 'content' }, rebuilt(message.content)));
  for (const attachment of message.attachments) {
    const isLink = /^https?:/i.test(attachment.media_url);
    bubble.append(el(isLink ? 'a' : 'span', { className: 'attachment', ...(isLink && { href: attachment.media_url, target: '_blank', rel: 'noopener noreferrer' }) }, attachment.caption || `${attachment.media_type}: ${attachment.media_url}`));
  }
  bubble.append(el('p', { className: 'meta' }, message.is_edited ? el('span', {}, 'edited') : null,
    el('time', { dateTime: message.created_at }, clock.format(new Date(message.created_at))), mine ? ticks(room, message) : null));
  const item = el('li', { className: ['message', mine && 'mine', isFirst && 'first', isLast && 'last'].filter(Boolean).join(' '), data: { id: message.id }, tabIndex: -1 });
  item.setAttribute('aria-label', `${mine ? 'You' : author}, ${clock.format(new Date(message.created_at))}: ${plain(message.content)}`);
  if (!mine) item.append(isLast ? avatar(author, message.sender?.id || 0) : el('span'));
  item.append(bubble, drawActs(room, message));
  if (message.reactions.length) item.append(drawReactions(message));
  return item;
}

function ticks(room, message) {
  const readers = message.read_receipts.map((receipt) => nameOf(receipt.reader));
  const state = readers.length ? 'read' : message.delivered_to.some((name) => name !== me.username) ? 'delivered' : 'sent';
  const text = readers.length ? `Read by ${list(readers)}` : state === 'delivered' ? `Delivered to ${list(message.delivered_to.filter((name) => name !== me.username).map((name) => nameOfUsername(room, name)))}` : 'Sent';
  return el('span', { className: state, title: text, data: { state } }, icon(state === 'sent' ? 'sent' : 'delivered'), el('span', { className: 'unseen' }, text));
}

function nameOfUsername(room, username) {
  const user = membersOf(room).find((one) => one.username === username) || demo.users.find((one) => one.username === username);
  return user ? user.name && !user.first_name ? user.name : nameOf(user) : username;
}

function drawReactions(message) {
  const groups = Map.groupBy ? Map.groupBy(message.reactions, (one) => one.reaction_content) : grouped(message.reactions);
  return el('div', { className: 'reactions' }, ...[...groups].map(([content, all]) => {
    const own = all.some((one) => one.user.id === me.id);
    const label = `${content} from ${list(all.map((one) => (one.user.id === me.id ? 'you' : nameOf(one.user))))}. ${own ? 'Remove yours' : 'React likewise'}`;
    const button = el('button', { type: 'button', 'aria-pressed': String(own), 'aria-label': label, title: label, data: { act: `chip-${content}` } }, `${content} ${all.length}`);
    button.addEventListener('click', () => react(message, content));
    return button;
  }));
}

function grouped(reactions) {
  const groups = new Map();
  for (const one of reactions) groups.set(one.reaction_content, [...(groups.get(one.reaction_content) || []), one]);
  return groups;
}

function act(name, label, does) {
  const button = el('button', { type: 'button', className: 'icon', 'aria-label': label, title: label, data: { act: name } }, icon(name));
  button.addEventListener('click', does);
  return button;
}

function drawActs(room, message) {
  const acts = el('div', { className: 'acts', role: 'group', 'aria-label': 'What can be done' });
  if (mayWrite(room)) acts.append(act('reply', 'Reply', () => setContext({ kind: 'reply', message })));
  acts.append(act('react', 'React', (event) => {
    const item = event.currentTarget.closest('.message');
    showPalette(item, message);
    item.querySelector('.acts button').focus();
  }));
  if (isMine(message)) {
    acts.append(act('edit', 'Edit', () => setContext({ kind: 'edit', message })));
    acts.append(act('delete', 'Delete', () => confirm('Delete this message?', 'It disappears for everybody.', () => send('message.modify', { action: 'delete', message_id: message.id }))));
  }
  return acts;
}

function showPalette(item, message) {
  item.dataset.palette = '';
  const buttons = REACTIONS.map((content) => {
    const button = el('button', { type: 'button', className: 'icon', 'aria-label': `React with ${content}`, data: { act: `react-${content}` } }, content);
    button.addEventListener('click', () => { delete item.dataset.palette; wantsFocus = { id: message.id }; react(message, content); item.focus(); });
    return button;
  });
  item.querySelector('.acts').replaceChildren(...buttons);
}

function react(message, content) {
  const own = message.reactions.find((one) => one.user.id === me.id);
  if (own && own.reaction_content === content) send('message.react', { type: 'remove', message_id: message.id });
  else send('message.react', { type: 'add', message_id: message.id, reaction_content: content });
}

function drawTyping() {
  const room = rooms.get(openId);
  const names = room ? [...typists].filter(([username, { room: id }]) => (id ? id === openId : membersOf(room).some((user) => user.username === username))).map(([username]) => nameOfUsername(room, username)) : [];
  const text = names.length ? `${list(names)} ${names.length === 1 ? 'is' : 'are'} typing …` : '';
  if ($('#typing').textContent !== text) $('#typing').textContent = text;
}

function announce(text) {
  $('#news').textContent = text.slice(0, 300);
}

let toastTimer = 0;
function toast(text) {
  clearTimeout(toastTimer);
  $('#toast').textContent = text;
  $('#toast').hidden = false;
  toastTimer = setTimeout(() => { $('#toast').hidden = true; }, TOAST_MS);
}

// ---- rooms --------------------------------------------------------------------------

function openRoom(id) {
  if (!rooms.has(id)) return;
  openId = id;
  document.body.dataset.view = 'room';
  $('#welcome').hidden = true;
  $('#room').hidden = false;
  setContext(null);
  $('#text').value = '';
  if (!rooms.get(id).isLoaded) history(id, 1);
  if (!membersOf(rooms.get(id)).length) send('room.info', { room_id: id });
  drawRoom(true);
  drawRooms();
  const isPhone = getComputedStyle($('#back')).display !== 'none';
  if ($('#composer').hidden || isPhone) $('#room-name').focus();
  else $('#text').focus();
}

function closeRoom() {
  const id = openId;
  openId = null;
  document.body.dataset.view = 'rooms';
  $('#room').hidden = true;
  $('#welcome').hidden = false;
  drawRooms();
  const button = id && document.querySelector(`.room[data-id="${CSS.escape(id)}"]`);
  (button || $('#new-room')).focus();
}

function setContext(next) {
  if (!next && context && context.kind === 'edit') $('#text').value = '';
  context = next;
  $('#context').hidden = !next;
  if (!next) return;
  const isEdit = next.kind === 'edit';
  $('#context-title').textContent = isEdit ? 'Edit your message' : `Reply to ${isMine(next.message) ? 'yourself' : nameOf(next.message.sender)}`;
  $('#context-text').textContent = plain(next.message.content);
  if (isEdit) $('#text').value = plain(next.message.content);
  $('#text').focus();
}

function sendText() {
  const text = $('#text').value.trim();
  if (!text || socket.readyState !== 1 || !openId) return;
  const content = asHtml(text);
  if (context && context.kind === 'edit') send('message.modify', { action: 'update', message_id: context.message.id, extra_fields: { content } });
  else if (context) send('message.send', { room_id: openId, content, extra_fields: { parent_message_id: context.message.id } });
  else send('message.send', { room_id: openId, content });
  setContext(null);
  $('#text').value = '';
  lastTyped = 0;
}

// ---- dialogs ------------------------------------------------------------------------

function openDialog(id) {
  const dialog = $(id);
  dialog.querySelectorAll('.error').forEach((place) => { place.textContent = ''; });
  if (!dialog.open) dialog.showModal();
  return dialog;
}

function closeDialog() {
  expected = null;
  document.querySelectorAll('dialog[open]').forEach((dialog) => dialog.close());
}

let confirmed = null;
function confirm(title, text, does, word = 'Delete') {
  confirmed = does;
  $('#confirm-title').textContent = title;
  $('#confirm-text').textContent = text;
  $('#confirm').textContent = word;
  openDialog('#confirm-dialog');
}

function drawKind() {
  const kind = $('#new-dialog form').elements.kind.value;
  $('#new-name').hidden = kind === 'OneToOneChat';
  $('#name').required = kind !== 'OneToOneChat';
  $('#new-public').hidden = kind !== 'Channel';
  for (const box of document.querySelectorAll('#people input')) {
    const type = kind === 'OneToOneChat' ? 'radio' : 'checkbox';
    if (box.type !== type) Object.assign(box, { type, checked: false });
  }
}

function startRoom() {
  const form = $('#new-dialog form');
  const type = form.elements.kind.value;
  const people = [...document.querySelectorAll('#people input:checked')].map((box) => Number(box.value));
  const error = form.querySelector('.error');
  error.textContent = '';
  if (type === 'OneToOneChat') {
    if (!people.length) { error.textContent = 'Choose one person for a direct chat.'; return; }
    const known = [...rooms.values()].find((room) => room.type === type && ((room.peer || others(room)[0] || {}).id === people[0]));
    if (known) { closeDialog(); openRoom(known.id); return; }
    expected = { kind: 'create', fits: (detail) => detail.type === type && detail.participants.some((user) => user.id === people[0]) };
    send('room.create', { type, participants: people });
    return;
  }
  const name = form.elements.name.value.trim();
  if (!name) { error.textContent = 'A name is missing.'; form.elements.name.focus(); return; }
  expected = { kind: 'create', fits: (detail) => detail.type === type && detail.name === name && detail.creator.id === me.id };
  const members = type === 'Channel' ? { subscribers: people, is_public: form.elements.public.checked } : { participants: people };
  send('room.create', { type, name, ...members });
}

function drawDetails() {
  const room = rooms.get(openId);
  if (!room) return;
  const isDirect = room.type === 'OneToOneChat';
  const manages = !isDirect && isManager(room);
  $('#details-title').textContent = titleOf(room);
  $('#details-about').textContent = isDirect ? 'Direct chat' : room.type === 'GroupChat' ? 'Group. Admins add and remove people.' : room.is_public ? 'Public channel. Whoever has its id may join.' : 'Private channel. Moderators add and remove people.';
  $('#details-id').hidden = room.type !== 'Channel';
  $('#room-id').value = room.id;
  const managers = new Set([...(room.admins || []), ...(room.moderators || [])].map((user) => user.id));
  $('#members').replaceChildren(...membersOf(room).map((user) => {
    const isCreator = room.creator && room.creator.id === user.id;
    const role = isCreator ? 'started this room' : managers.has(user.id) ? (room.type === 'GroupChat' ? 'admin' : 'moderator') : '';
    const item = el('li', {}, avatar(nameOf(user), user.id), el('div', {}, nameOf(user) + (user.id === me.id ? ' (you)' : ''), el('small', {}, role || `@${user.username}`)));
    if (manages && !isCreator && user.id !== me.id) {
      const button = el('button', { type: 'button', 'aria-label': `Remove ${nameOf(user)}` }, 'Remove');
      button.addEventListener('click', () => send('room.remove_members', { room_id: room.id, members: [user.id] }));
      item.append(button);
    }
    return item;
  }));
  const absent = demo.users.filter((user) => !membersOf(room).some((member) => member.id === user.id));
  $('#add-member').hidden = !manages || !absent.length;
  $('#add').replaceChildren(...absent.map((user) => el('option', { value: user.id }, user.name)));
  $('#leave').hidden = isDirect;
  $('#delete-room').hidden = !(isDirect || (room.creator && room.creator.id === me.id));
}

// ---- people's doings ----------------------------------------------------------------

/** Arrow keys move in a list of which one item is in the order of Tab. */
function rove(container, selector) {
  container.addEventListener('keydown', (event) => {
    const items = [...container.querySelectorAll(selector)];
    const index = items.indexOf(event.target.closest(selector));
    const to = { ArrowDown: index + 1, ArrowUp: index - 1, Home: 0, End: items.length - 1 }[event.key];
    if (index < 0 || to === undefined || !items[to]) return;
    event.preventDefault();
    items[index].tabIndex = -1;
    items[to].tabIndex = 0;
    items[to].focus();
    items[to].scrollIntoView({ block: 'nearest' });
  });
}

function listen() {
  rove($('#rooms'), '.room');
  rove($('#messages'), '.message');
  $('#messages').addEventListener('keydown', (event) => {
    const item = event.target.closest('.message');
    if (!item) return;
    if (event.key === 'Enter' && event.target === item) {
      event.preventDefault();
      item.querySelector('.acts button').focus();
    } else if (event.key === 'Escape') {
      event.stopPropagation();
      const hadPalette = 'palette' in item.dataset;
      delete item.dataset.palette;
      if (hadPalette) { drawRoom(); document.querySelector(`.message[data-id="${CSS.escape(item.dataset.id)}"]`).focus(); }
      else if (event.target !== item) item.focus();
      else ($('#composer').hidden ? $('#room-name') : $('#text')).focus();
    } else if (['ArrowLeft', 'ArrowRight'].includes(event.key) && event.target.closest('.acts')) {
      const buttons = [...item.querySelectorAll('.acts button')];
      const next = buttons[buttons.indexOf(event.target) + (event.key === 'ArrowRight' ? 1 : -1)];
      if (next) next.focus();
    }
  });
  $('#composer').addEventListener('submit', (event) => { event.preventDefault(); sendText(); });
  $('#text').addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    sendText();
  });
  $('#text').addEventListener('input', () => {
    if (!$('#text').value.trim() || Date.now() - lastTyped < TYPING_EVERY_MS || socket.readyState !== 1) return;
    lastTyped = Date.now();
    send('message.typing', { room_id: openId });
  });
  $('#back').addEventListener('click', closeRoom);
  $('#context-cancel').addEventListener('click', () => { setContext(null); $('#text').focus(); });
  $('#older').addEventListener('click', () => {
    const room = rooms.get(openId);
    history(room.id, Math.floor(room.messages.size / PAGE_SIZE) + 1);
    $('#room-name').focus();
  });
  document.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || document.querySelector('dialog[open]')) return;
    if (context) { setContext(null); $('#text').focus(); } else if (openId) closeRoom();
  });
  document.addEventListener('pointerdown', (event) => {
    const item = document.querySelector('.message[data-palette]');
    if (!item || item.contains(event.target)) return;
    delete item.dataset.palette;
    drawRoom();
  });
  document.addEventListener('visibilitychange', () => { if (openId) drawRoom(); drawRooms(); });

  $('#new-room').addEventListener('click', () => {
    const form = $('#new-dialog form');
    form.reset();
    $('#people').replaceChildren(...demo.users.filter((user) => user.id !== me.id).map((user) => el('label', {}, el('input', { type: 'radio', name: 'person', value: user.id }), avatar(user.name, user.id), user.name)));
    drawKind();
    openDialog('#new-dialog');
  });
  $('#new-dialog').addEventListener('change', drawKind);
  $('#join-room').addEventListener('click', () => { $('#join-dialog form').reset(); openDialog('#join-dialog'); });
  $('#details').addEventListener('click', () => { send('room.info', { room_id: openId }); drawDetails(); openDialog('#details-dialog'); });
  $('#add-button').addEventListener('click', () => send('room.add_members', { room_id: openId, members: [Number($('#add').value)] }));
  $('#leave').addEventListener('click', () => confirm('Leave this room?', 'You no longer get its messages.', () => send('room.leave', { room_id: openId }), 'Leave'));
  $('#delete-room').addEventListener('click', () => confirm('Delete this room?', 'Its messages disappear for everybody.', () => send('room.modify', { room_id: openId, action: 'delete' })));

  const submits = {
    'new-dialog': startRoom,
    'join-dialog': (form) => {
      const id = form.elements.id.value.trim().toLowerCase();
      form.querySelector('.error').textContent = '';
      expected = { kind: 'join', id };
      send('room.join', { room_id: id });
    },
    'details-dialog': () => $('#details-dialog').close(),
    'confirm-dialog': () => {
      const does = confirmed;
      closeDialog();
      does();
    },
  };
  for (const dialog of document.querySelectorAll('dialog')) {
    dialog.addEventListener('submit', (event) => { event.preventDefault(); submits[dialog.id](event.target); });
    dialog.addEventListener('close', () => { expected = null; });
    dialog.addEventListener('click', (event) => { if (event.target === dialog || event.target.closest('[data-close]')) dialog.close(); });
  }
}

// ---- connection ---------------------------------------------------------------------

/** Addresses, users and their tokens. A page of your own asks its own server for a token here. */
async function ask() {
  const answer = await fetch('dev.json', { cache: 'no-store' });
  if (!answer.ok) throw new Error(`dev.json: status ${answer.status}`);
  demo = await answer.json();
  return demo;
}

function show(state, text) {
  $('#status').dataset.state = state;
  if ($('#status').textContent !== text) $('#status').textContent = text;
  $('#send').disabled = state !== 'open';
}

function connect() {
  const url = async () => {
    await ask();
    return `${demo.chat.url}?token=${demo.users.find((user) => user.id === me.id).token}`;
  };
  socket = new ReconnectingSocket(url, [], { minReconnectionDelay: 500, maxReconnectionDelay: 8000, maxEnqueuedMessages: 0 });
  socket.addEventListener('open', () => {
    show('open', 'Connected');
    for (const room of rooms.values()) room.asked.clear();
    send('room.list');
  });
  socket.addEventListener('message', (event) => arrived(event.data));
  socket.addEventListener('close', (event) => {
    if (event.code === 4001) show('refused', 'Not signed in');
    else if (event.code === 1000) show('refused', 'Ended by the server');
    else show('connecting', navigator.onLine === false ? 'You are offline' : 'Reconnecting');
  });
}

async function start() {
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
  $('#who').replaceChildren(...demo.users.map((user) => el('option', { value: user.id, selected: user.id === me.id }, user.name)));
  $('#who').addEventListener('change', () => { location.search = `?user=${$('#who').value}`; });
  connect();
}

start();
