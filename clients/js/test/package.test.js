// The package: what is built is current, small, complete, and loads without a bundler.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { runInNewContext } from 'node:vm';
import { gzipSync } from 'node:zlib';
import { build, tokenize } from '../scripts/build.js';
import { TidegateError } from '../src/error.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

test('dist is what src makes', () => {
  for (const [name, text] of Object.entries(build())) {
    assert.equal(readFileSync(join(root, 'dist', name), 'utf8'), text, `dist/${name} is not current: run npm run build`);
  }
});

test('each entry is under 10 KB gzip', () => {
  for (const [name, text] of Object.entries(build())) {
    const size = gzipSync(text, { level: 9 }).length;
    assert.ok(size < 10 * 1024, `${name}: ${size} bytes`);
  }
});

test('no dependencies, free of side effects, types named, every exported file is there', () => {
  assert.equal(manifest.dependencies, undefined);
  assert.equal(manifest.sideEffects, false);
  assert.match(readFileSync(join(root, '../../Cargo.toml'), 'utf8'), new RegExp(`^version = "${manifest.version}"`, 'm'));
  const files = Object.values(manifest.exports).flatMap((entry) => (typeof entry === 'string' ? [entry] : Object.values(entry)));
  for (const file of [...files, manifest.main, manifest.types].filter((name) => !name.includes('*'))) assert.ok(existsSync(join(root, file)), file);
});

test('the package resolves by its name, and its entries export what the types say', async () => {
  const types = readFileSync(join(root, 'index.d.ts'), 'utf8');
  const declared = [...types.matchAll(/^export (?:class|function|const) (\w+)/gm)].map(([, name]) => name).sort();
  const all = await import('tidegate-client');
  assert.deepEqual(Object.keys(all).sort(), declared);
  const parts = await Promise.all(['tidegate', 'reconnecting-socket', 'token'].map((entry) => import(`tidegate-client/${entry}`)));
  assert.deepEqual([...new Set(parts.flatMap((part) => Object.keys(part)))].sort(), declared);
});

test('the scripts for pages make one global each and touch nothing else', () => {
  for (const [name, global, member] of [['tidegate', 'TidegateClient', 'Tidegate'], ['reconnecting-socket', 'TidegateSocket', 'ReconnectingSocket'], ['token', 'TidegateToken', 'tokenFrom']]) {
    const page = { URL };
    runInNewContext(readFileSync(join(root, 'dist', `${name}.global.js`), 'utf8'), page);
    assert.deepEqual(Object.keys(page).sort(), ['URL', global].sort());
    assert.equal(typeof page[global][member], 'function');
  }
});

test('the tokenizer of the build reads what it could mistake', () => {
  const source = 'const a = `x ${b ? `y ${c} //` : "}"} /* no */`; // gone\nconst d = /[/"\']`/g.test(e) / 2; /* gone */ class F { #g = 1; }';
  assert.equal(tokenize(source).map(({ text }) => text).join(' '), 'const a = `x ${ b ? `y ${ c } //` : "}" } /* no */` ; const d = /[/"\']`/g . test ( e ) / 2 ; class F { #g = 1 ; }');
});

test('the types hold', (t) => {
  const compiler = join(root, 'node_modules/.bin/tsc');
  if (!existsSync(compiler)) return t.skip('no TypeScript, the types were NOT checked: npm ci');
  execFileSync(compiler, ['--noEmit', '--strict', '--target', 'es2022', '--module', 'nodenext', '--moduleResolution', 'nodenext', '--lib', 'es2022,dom', join(root, 'test/types.ts')], { stdio: 'inherit' });
});

test('an error is one kind of object, with all of its members', () => {
  const error = new TidegateError('sentence', { phase: 'opened', diagnosis: { id: 'x.y', message: '', confidence: 'proven' }, reference: 'ref', cause: 1 });
  assert.equal(error.message, 'sentence [x.y] (reference ref)');
  assert.deepEqual(Object.keys(JSON.parse(JSON.stringify(error))).sort(), ['name', 'message', 'phase', 'code', 'reason', 'reference', 'attempt', 'lastGoodAt', 'diagnosis', 'hint', 'status', 'requestId', 'dryRun', 'detail', 'retryAfter', 'final'].sort());
  assert.equal(error.cause, 1);
});
