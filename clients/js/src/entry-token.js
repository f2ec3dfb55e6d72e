export { tokenFrom } from './token.js';
