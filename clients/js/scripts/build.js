#!/usr/bin/env node
// Makes dist/ out of src/: one file for `import`, one for a <script> tag, for each entry. No dependencies.
//
//   node scripts/build.js           writes dist/
//   node scripts/build.js --check   exits with 1 when dist/ is not what src/ makes
//
// It joins the modules, drops comments and blanks, and shortens names. That is safe for this source alone, which keeps to
// what is assumed here: every statement ends in a semicolon, top-level names are unique over all modules, imports name
// what they import, objects have no shorthand methods.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');

/** Entry modules of src/, and the name of the global each of them makes. */
const ENTRIES = { tidegate: 'TidegateClient', 'reconnecting-socket': 'TidegateSocket', token: 'TidegateToken' };

const KEYWORDS = new Set(
  ('async await break case catch class const continue default delete do else export extends finally for from function get if import in ' +
    'instanceof let new null of return set static super switch this throw true false try typeof undefined void while with yield arguments constructor').split(' '),
);

/**
 * Members that only this source knows, and that are shortened everywhere. None is a name of the platform or of what
 * pages see.
 */
const INTERNAL = new Set(
  ('nFailures timedOut openedAt isStopping plan offered checkUrl isRepeated expiry prepare opened closed judge report failed verdict explain ' +
    'epoch position socket start stop deliver sentAt due off proven lateAt grace listenerFailed drop kick delay refuse done timer payload members until ask ' +
    '').split(' '),
);

const WORD = /[\w$]/;

/** Splits source into tokens `{kind, text}`; kinds are word, private, number, string, template, regex, mark. */
export function tokenize(source) {
  const tokens = [];
  const add = (kind, text) => tokens.push({ kind, text });
  let at = 0;
  // How many braces are open in each `${` that is being read.
  const templates = [];
  /** Reads from a backtick, or from the brace that ends an expression, to the next of either kind. */
  const template = () => {
    const start = at++;
    while (source[at] !== '`' && !source.startsWith('${', at)) at += source[at] === '\\' ? 2 : 1;
    if (source[at] === '$') templates.push(0);
    at += source[at] === '$' ? 2 : 1;
    add('template', source.slice(start, at));
  };
  while (at < source.length) {
    const rest = source.slice(at, at + 2);
    const character = source[at];
    const last = tokens[tokens.length - 1];
    if (/\s/.test(character)) at++;
    else if (rest === '//') at = (source.indexOf('\n', at) + 1 || source.length + 1) - 1;
    else if (rest === '/*') at = source.indexOf('*/', at) + 2;
    else if (character === "'" || character === '"') {
      const start = at++;
      while (source[at] !== character) at += source[at] === '\\' ? 2 : 1;
      add('string', source.slice(start, ++at));
    } else if (character === '`') {
      template();
    } else if (character === '}' && templates.length && templates[templates.length - 1] === 0) {
      templates.pop();
      template();
    } else if (character === '/' && (!last || (last.kind === 'mark' && !/[)\]}]/.test(last.text)) || /^(return|typeof|case|of|in)$/.test(last.text))) {
      const start = at++;
      let inClass = false;
      while (inClass || source[at] !== '/') {
        if (source[at] === '\\') at++;
        else if (source[at] === '[') inClass = true;
        else if (source[at] === ']') inClass = false;
        at++;
      }
      at++;
      while (WORD.test(source[at])) at++;
      add('regex', source.slice(start, at));
    } else if (WORD.test(character) || character === '#') {
      const start = at++;
      const isNumber = /\d/.test(character);
      while (WORD.test(source[at] || '') || (isNumber && source[at] === '.')) at++;
      const text = source.slice(start, at);
      add(character === '#' ? 'private' : isNumber ? 'number' : 'word', text);
    } else {
      if (templates.length && character === '{') templates[templates.length - 1]++;
      if (templates.length && character === '}') templates[templates.length - 1]--;
      const mark = ['...', '=>', '?.', '??', '**', '&&', '||', '++', '--'].find((text) => source.startsWith(text, at)) || character;
      add('mark', mark);
      at += mark.length;
    }
  }
  return tokens;
}

/** The modules that `name` needs, itself last, without their imports and exports; and what the entry exports. */
function gather(name, seen = new Map()) {
  const source = readFileSync(join(root, 'src', `${name}.js`), 'utf8');
  if (seen.has(name)) return seen;
  seen.set(name, null);
  for (const [, from] of source.matchAll(/from '\.\/([\w-]+)\.js'/g)) gather(from, seen);
  seen.delete(name);
  const body = source.replace(/^(import|export) \{[^}]*\} from '[^']*';$/gm, '').replace(/^export (?=(async )?(function|class|const|let))/gm, '');
  return seen.set(name, body);
}

const exportsOf = (name) => [...readFileSync(join(root, 'src', `${name}.js`), 'utf8').matchAll(/^export \{([^}]*)\} from/gm)].flatMap(([, list]) => list.split(',').map((item) => item.trim())).filter(Boolean);

/** Short names out of these letters: one letter, then two. */
function* names(letters) {
  yield* letters;
  for (const first of letters) for (const second of letters) yield first + second;
}

const UPPER = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ';
const LOWER = 'abcdefghijklmnopqrstuvwxyz';

/**
 * What each word is: a `variable` or its `shorthand` in an object, else nothing; and its unit, the function of the module
 * or member of a class that it is in. A name that the module does not declare is local to its unit, and free in others.
 */
function classify(tokens) {
  const stack = [];
  const top = new Set();
  let unit = 0;
  let classAhead = false;
  tokens.forEach((token, index) => {
    const before = (tokens[index - 1] || { text: '' }).text;
    const after = (tokens[index + 1] || { text: '' }).text;
    token.unit = unit;
    if (token.kind === 'template') {
      if (!token.text.startsWith('`')) stack.pop();
      if (token.text.endsWith('${')) stack.push('${');
    } else if (token.kind === 'mark') {
      if ('([{'.includes(token.text)) {
        stack.push(token.text === '{' && classAhead ? 'class' : token.text);
        if (token.text === '{') classAhead = false;
      } else if (')]}'.includes(token.text)) stack.pop();
      const inside = stack[stack.length - 1];
      if ((token.text === ';' || token.text === '}') && (inside === undefined || inside === 'class')) unit++;
    } else if (token.kind === 'word') {
      const inside = stack[stack.length - 1];
      const isMember = before === '.' || before === '?.';
      if (token.text === 'class' && !isMember) classAhead = true;
      if (!stack.length && /^(const|let|function|class)$/.test(before)) top.add(token.text);
      const startsPart = inside === '{' && (before === '{' || before === ',');
      if (isMember || KEYWORDS.has(token.text)) token.role = null;
      else if (inside === 'class') token.role = 'fixed';
      else if (startsPart && after === ':') token.role = null;
      else if (startsPart && [',', '}', '='].includes(after)) token.role = 'shorthand';
      else token.role = 'variable';
    }
  });
  return top;
}

/** Gives names their short form, in place. */
function shorten(tokens, keep) {
  const top = classify(tokens);
  const isOurs = (text) => text.length > 1 && !(text in globalThis) && !keep.includes(text) && !KEYWORDS.has(text);
  const ranked = (list) => {
    const counts = new Map();
    for (const text of list) counts.set(text, (counts.get(text) || 0) + 1);
    return [...counts].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1)).map(([text]) => text);
  };
  const fixed = new Set(tokens.filter(({ role, text }) => role === 'fixed' || (role === 'shorthand' && top.has(text))).map(({ text }) => text));
  const isGlobal = ({ kind, role, text }) => kind === 'word' && isOurs(text) && (INTERNAL.has(text) || ((role === 'variable' || role === 'shorthand') && top.has(text) && !fixed.has(text)));
  const assign = (list, letters, taken) => {
    const short = new Map();
    const free = names(letters);
    for (const text of list) {
      let candidate;
      do candidate = free.next().value;
      while (taken.has(candidate) || candidate in globalThis || KEYWORDS.has(candidate));
      short.set(text, candidate);
    }
    return short;
  };
  const words = new Set(tokens.filter(({ kind }) => kind === 'word').map(({ text }) => text));
  const privates = assign(ranked(tokens.filter(({ kind }) => kind === 'private').map(({ text }) => text)), LOWER + UPPER, new Set());
  const globals = assign(ranked(tokens.filter(isGlobal).map(({ text }) => text)), UPPER, words);
  const locals = new Map();
  const units = new Map();
  for (const token of tokens) units.set(token.unit, [...(units.get(token.unit) || []), token]);
  for (const [unit, list] of units) {
    const shorthand = new Set(list.filter(({ role }) => role === 'shorthand').map(({ text }) => text));
    const own = list.filter((token) => token.role === 'variable' && isOurs(token.text) && !isGlobal(token) && !top.has(token.text) && !shorthand.has(token.text) && !fixed.has(token.text));
    const stay = new Set(list.filter((token) => token.kind === 'word' && !own.includes(token)).map(({ text }) => text));
    locals.set(unit, assign([...new Set(own.map(({ text }) => text))], LOWER, stay));
  }
  for (const token of tokens) {
    if (token.kind === 'private') token.text = `#${privates.get(token.text)}`;
    else if (isGlobal(token)) token.text = globals.get(token.text);
    else if (token.role === 'variable') token.text = locals.get(token.unit).get(token.text) || token.text;
  }
}

/** `const a = 1; const b = 2;` as one statement. */
function joinConstants(tokens) {
  const isConstant = [false];
  tokens.forEach((token, index) => {
    const { kind, text } = token;
    if ((kind === 'mark' && '([{'.includes(text)) || (kind === 'template' && text.endsWith('${') && text.startsWith('`'))) isConstant.push(false);
    else if ((kind === 'mark' && ')]}'.includes(text)) || (kind === 'template' && !text.startsWith('`') && text.endsWith('`'))) isConstant.pop();
    else if (text === 'const') isConstant[isConstant.length - 1] = true;
    else if (text === ';') {
      const next = tokens[index + 1];
      if (isConstant[isConstant.length - 1] && next && next.text === 'const') {
        token.text = ',';
        next.text = '';
      } else isConstant[isConstant.length - 1] = false;
    }
  });
  return tokens.filter(({ text }) => text !== '');
}

/** `if (a) { b(); }` without its braces, where the block is one plain statement and no `else` could change hands. */
function dropBraces(tokens) {
  const openers = [];
  tokens.forEach((token, index) => {
    if (token.kind === 'template') {
      if (!token.text.startsWith('`')) openers.pop();
      if (token.text.endsWith('${')) openers.push(index);
    }
    if (token.kind !== 'mark') return;
    if ('([{'.includes(token.text)) openers.push(index);
    else if (')]}'.includes(token.text)) token.opener = openers.pop();
    if (token.text !== '}') return;
    const start = token.opener;
    const head = tokens[start - 1] || {};
    const ofLoop = head.text === ')' && /^(if|for)$/.test((tokens[head.opener - 1] || {}).text);
    const first = (tokens[start + 1] || {}).text;
    const semicolons = tokens.slice(start + 1, index).filter(({ text }) => text === ';').length;
    const isPlain = semicolons === 1 && tokens[index - 1].text === ';' && !/^(if|for|const|let|try|class|function|async)$/.test(first);
    if ((ofLoop || head.text === 'else') && isPlain && !tokens.slice(start, index).some(({ text }) => text === '')) tokens[start].text = token.text = '';
  });
  return tokens.filter(({ text }) => text !== '');
}

function print(tokens) {
  let text = '';
  for (const token of joinConstants(dropBraces(tokens))) {
    const end = text[text.length - 1] || '';
    const begin = token.text[0];
    const needsBlank = (WORD.test(end) && (WORD.test(begin) || begin === '#')) || (/[+-]/.test(end) && end === begin);
    if (!token.role && token.kind === 'word' && /[^.]$/.test(text)) token.text = token.text === 'true' ? '!0' : token.text === 'false' ? '!1' : token.text;
    // The last semicolon of a block says nothing; a class field's does not hurt.
    if (token.text === '}' && end === ';') text = text.slice(0, -1);
    text += (needsBlank ? ' ' : '') + token.text;
  }
  return text;
}

/** All files of dist/ by name. */
export function build() {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const files = {};
  for (const [entry, global] of Object.entries(ENTRIES)) {
    const exported = exportsOf(`entry-${entry}`);
    const tokens = tokenize([...gather(`entry-${entry}`).values()].join('\n'));
    shorten(tokens, exported);
    const code = print(tokens);
    const banner = `/*! ${entry} ${version}, Apache-2.0 */\n`;
    files[`${entry}.js`] = `${banner}${code}export{${exported.join(',')}};\n`;
    files[`${entry}.global.js`] = `${banner}var ${global}=(()=>{${code}return{${exported.join(',')}}})();\n`;
  }
  return files;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const isCheck = process.argv.includes('--check');
  let isStale = false;
  mkdirSync(join(root, 'dist'), { recursive: true });
  for (const [name, text] of Object.entries(build())) {
    const path = join(root, 'dist', name);
    if (!isCheck) writeFileSync(path, text);
    else {
      let have = '';
      try {
        have = readFileSync(path, 'utf8');
      } catch {
        // Missing is stale.
      }
      if (have !== text) {
        console.error(`dist/${name} is not current: run npm run build`);
        isStale = true;
      }
    }
  }
  process.exitCode = isStale ? 1 : 0;
}
