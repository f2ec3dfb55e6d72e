export { Tidegate } from './client.js';
export { ReconnectingSocket, djangoOptions } from './reconnecting-socket.js';
export { TidegateError, flatten, hintFor, readServerError } from './error.js';
export { tokenFrom } from './token.js';
export { presets } from './presets.js';
