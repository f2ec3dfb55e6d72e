export { Tidegate } from './client.js';
export { TidegateError, flatten, hintFor, readServerError } from './error.js';
export { presets } from './presets.js';
