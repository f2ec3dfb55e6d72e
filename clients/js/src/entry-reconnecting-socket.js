export { ReconnectingSocket } from './reconnecting-socket.js';
export { TidegateError } from './error.js';
