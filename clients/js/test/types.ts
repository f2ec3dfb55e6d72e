// Compiled, never run: what a page in TypeScript writes.
import { ReconnectingSocket, Tidegate, TidegateError, djangoOptions, flatten, hintFor, presets, readServerError, tokenFrom } from '../index.js';

const client = new Tidegate('wss://ws.example.com', {
  ...presets.alerts, getToken: tokenFrom('/ws-token', { csrfCookie: null }), channels: ['news'], resume: true, presence: true, heartbeat: { interval: 20 },
  onError: (error) => console.log(error.diagnosis?.id, error.phase === 'opened', error.hint),
});
const off: () => void = client.on('message', ({ channel, id, data }) => console.log(channel, id, data));
client.on('error', ({ error }) => error instanceof TidegateError && console.log(error.reference));
client.on('lost', ({ channel }) => console.log(channel));
client.subscribe<{ title: string }>('news', (data) => console.log(data.title));
const sum: Promise<{ sum: number }> = client.request<{ sum: number }>({ action: 'sum' });
client.send({ a: 1 }).then(() => client.publish('news', 1)).then(({ id }) => id);
client.presence('news').then(({ userIds }) => userIds.length);
// @ts-expect-error There is no such event.
client.on('nonsense', () => {});

const socket = new ReconnectingSocket(async () => 'wss://ws.example.com', [], { ...djangoOptions, maxRetries: 3 });
socket.onmessage = ({ data }) => socket.send(data);
socket.addEventListener('error', ({ error }) => console.log(error.message));
// A page's own type for what it gets is the browser's.
const like: Pick<WebSocket, 'readyState' | 'send' | 'close' | 'url' | 'protocol' | 'extensions' | 'bufferedAmount' | 'binaryType'> = socket;
console.log(off, sum, like, flatten(['x']), hintFor(1006), readServerError({})?.text);
