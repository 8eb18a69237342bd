// The parts that need no exported folder.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ascending, ascendingLength, crc32, unary, varints } from "../src/bytes.js";
import { english } from "../src/english.js";
import { matching, normalPath } from "../src/filters.js";
import { erf } from "../src/graph.js";
import { bestDocuments } from "../src/ranking.js";
import { termId } from "../src/words.js";

test("crc32 is zlib's", () => {
  assert.equal(crc32(new TextEncoder().encode("123456789")), 0xcbf43926);
});

test("varints", () => {
  const { numbers, end } = varints(Uint8Array.of(0, 127, 128, 1, 255, 255, 255, 255, 15), 0, 4);
  assert.deepEqual([...numbers, end], [0, 127, 128, 2 ** 32 - 1, 9]);
  assert.throws(() => varints(Uint8Array.of(128), 0, 1), /ends too early/);
});

test("ascending numbers, written by hand", () => {
  // 3 numbers below 16: two low bits each (01 10 11), upper 10100 1: high parts 0, 1, 3.
  assert.equal(ascendingLength(3, 16), 2);
  const bytes = Uint8Array.of(0b01101100, 0b10100100);
  assert.deepEqual([...ascending(bytes, 3, 16, "x")], [1, 6, 15]);
  assert.throws(() => ascending(Uint8Array.of(0, 0), 3, 16, "the list"), /the list contradicts itself/);
  assert.throws(() => ascending(Uint8Array.of(0, 0b11100000), 3, 16, "the list"), /contradicts/); // not ascending
});

test("unary numbers", () => {
  assert.deepEqual([...unary(Uint8Array.of(0b01011000), 3, "x")], [1, 2, 3]);
  assert.throws(() => unary(Uint8Array.of(255), 1, "the list"), /contradicts/);
});

test("erf", () => {
  for (const [x, value] of [[0, 0], [0.5, 0.5204998778130465], [1, 0.8427007929497149], [2.999, 0.9999777698314002], [4, 0.9999999845827421]]) {
    assert.ok(Math.abs(erf(x) - value) < 1e-15);
    assert.equal(erf(-x), -erf(x));
  }
});

test("stems", () => {
  const stems = { generously: "generous", skies: "sky", dying: "die", hoping: "hope", hopping: "hop", inning: "inning", exceeded: "exceed", relational: "relat", biologist: "biolog", "cat's": "cat", controlled: "control" };
  for (const [word, stem] of Object.entries(stems)) assert.equal(english(word), stem);
});

test("a word's term id is the same in Python", () => {
  assert.equal(termId("bread"), 65788833216389);
  assert.equal(termId("x".repeat(200)), 42473737590862);
});

test("paths of metadata", () => {
  assert.equal(normalPath("a.b"), "a.b");
  assert.equal(normalPath("v1\\.2"), "v1\\.2");
  assert.equal(normalPath("\\$price"), "\\$price");
});

test("strings are compared by code point", () => {
  const columns = new Map([["a", { values: [0, 1, "\u{1f600}", "\uffee"], codes: Uint8Array.of(2, 3) }]]);
  assert.deepEqual([...matching({ a: { $gt: "\uffef" } }, columns, 2)], [1, 0]);
});

test("ties go to the document that was stored first, also among the last of k", () => {
  const scores = Float32Array.of(1, 2, 0, 2, 2, 3);
  const order = (k) => bestDocuments(scores, null, k, 0, null).map(({ passage }) => passage);
  assert.deepEqual(order(2), [5, 1]);
  assert.deepEqual(order(10), [5, 1, 3, 4, 0]);
  const firsts = Int32Array.of(0, 2, 5, 6);
  assert.deepEqual(bestDocuments(scores, firsts, 9, 0, Uint8Array.of(1, 1, 0)), [
    { passage: 1, score: 2 },
    { passage: 3, score: 2 },
  ]);
});
