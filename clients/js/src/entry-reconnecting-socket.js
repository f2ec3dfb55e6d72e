export { ReconnectingSocket, djangoOptions } from './reconnecting-socket.js';
export { TidegateError } from './error.js';
