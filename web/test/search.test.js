// Against an exported folder, with what Python finds in it: tests/test_web_export.py makes both and runs this.
import assert from "node:assert/strict";
import fs from "node:fs";
import { test } from "node:test";
import { open, SpladeLiteError } from "../src/index.js";

const hosts = JSON.parse(process.env.SPLADELITE_HOSTS ?? "null");
const expected = hosts && JSON.parse(fs.readFileSync(process.env.SPLADELITE_EXPECTED, "utf8"));
const options = { skip: hosts ? false : "needs an exported folder: run tests/test_web_export.py" };

const silent = { onNotice: () => {} };
const near = (found, wanted) => Math.abs(found - wanted) <= 1e-5 * Math.abs(wanted);

async function compare(db, cases) {
  for (const { query, options, hits } of cases) {
    const found = (await db.search(query, options)).hits;
    const name = JSON.stringify([query, options]).slice(0, 100);
    assert.deepEqual(found.map(({ id }) => id), hits.map(({ id }) => id), name); // prettier-ignore
    for (const [i, hit] of hits.entries()) {
      assert.ok(near(found[i].score, hit.score), `${name}: ${found[i].score} for ${hit.score}`);
      assert.deepEqual(found[i].metadata, hit.metadata);
      assert.deepEqual(found[i].passage, hit.passage);
      const marked = db.highlight(found[i]).map(({ text, mark }) => (mark ? `\ue000${text}\ue001` : text));
      assert.equal(marked.join(""), hit.highlight, name);
      const document = await db.document(found[i]);
      assert.deepEqual(document, { id: hit.id, metadata: hit.metadata, text: hit.text });
    }
  }
}

test("the same hits as Python", options, async () => {
  const db = await open(`${hosts.ranges}site/`);
  await compare(db, expected.cases);
  assert.deepEqual(db.notices, []);
});

test("a slim database", options, async () => {
  await compare(await open(`${hosts.ranges}slim/`), expected.slim);
});

test("files in many parts", options, async () => {
  await compare(await open(`${hosts.ranges}split/`), expected.cases.filter(({ options }) => options.encoder !== "model"));
});

test("a database of another language", options, async () => {
  await compare(await open(`${hosts.ranges}russian/`), expected.russian);
});

test("what the model can read", options, async () => {
  const db = await open(`${hosts.ranges}site/`);
  for (const [text, readable] of expected.readable) assert.equal(db.reads(text), readable, text);
  const mixed = await open(`${hosts.ranges}russian/`);
  assert.deepEqual([...mixed.unread], [0, 1, 3]);
  assert.equal((await mixed.search("дом собаки")).unread, true);
  assert.equal((await mixed.search("дом собаки", { mode: "splade" })).unread, false);
});

test("contributions sum to the score and are Python's", options, async () => {
  const db = await open(`${hosts.ranges}site/`);
  for (const { query, id, terms, parts } of expected.explanations) {
    const hit = (await db.search(query)).hits.find((hit) => hit.id === id);
    const rows = hit.terms.map((term) => [term.term, term.queryWeight, term.documentWeight, term.contribution]);
    assert.deepEqual(rows.map(([term]) => term), terms.map(([term]) => term)); // prettier-ignore
    rows.forEach((row, i) => row.slice(1).forEach((value, j) => assert.ok(near(value, terms[i][j + 1]))));
    const sum = (of) => of.reduce((sum, { contribution }) => sum + contribution, 0);
    assert.ok(near(sum(hit.parts), hit.score));
    assert.ok(near(sum(hit.terms), hit.parts[0].score));
    parts.forEach(([part, score, contribution, words], i) => {
      assert.equal(hit.parts[i].part, part);
      assert.ok(near(hit.parts[i].score, score) && near(hit.parts[i].contribution, contribution));
      const found = Object.fromEntries((hit.parts[i].words ?? []).map(({ word, contribution }) => [word, contribution]));
      assert.deepEqual(Object.keys(found).sort(), Object.keys(words).sort());
      for (const word of Object.keys(words)) assert.ok(near(found[word], words[word]));
    });
  }
});

test("an empty database", options, async () => {
  const db = await open(`${hosts.ranges}empty/`);
  assert.deepEqual((await db.search("anything")).hits, []);
  assert.deepEqual((await db.search("anything", { encoder: "model" })).hits, []);
});

test("a host that sends whole files works, and is told", options, async () => {
  const notices = [];
  const db = await open(`${hosts.whole}site/`, { onNotice: (text) => notices.push(text) });
  await compare(db, expected.cases.slice(0, 6));
  assert.match(notices[0], /answers range requests for \w+-\w+\.bin with the whole file/);
  const { requests } = db.traffic;
  await db.search("another question about weather and gold");
  assert.equal(db.traffic.requests, requests);
});

test("a host that compresses is told", options, async () => {
  const notices = [];
  const db = await open(`${hosts.compressing}site/`, { onNotice: (text) => notices.push(text) });
  await compare(db, expected.cases.slice(0, 4));
  assert.match(notices[0], /compresses it \(gzip\)/);
});

test("what was fetched is not fetched again", options, async () => {
  const db = await open(`${hosts.ranges}site/`);
  await db.search("the price of gold");
  const before = db.traffic;
  await db.search("the price of gold");
  assert.deepEqual(db.traffic, before);
});

/** A fetch that lets `change(name, response)` spoil answers. */
function spoiled(change) {
  return async (url, request) => {
    const response = await fetch(url, request);
    return (await change(url.slice(url.lastIndexOf("/") + 1), response)) ?? response;
  };
}

async function changed(response, edit) {
  const bytes = edit(new Uint8Array(await response.arrayBuffer()));
  return new Response(bytes, { status: response.status, headers: response.headers });
}

// Every byte: a range may hold more than what is read of it.
const flipped = (bytes) => bytes.map((byte) => byte ^ 1);

test("damage in any file is an error in words, never another answer", options, async () => {
  for (const name of ["boot", "lists", "scales", "texts", "fields", "words", "lengths", "encoder", "rows", "database"]) {
    for (const edit of [flipped, (bytes) => bytes.slice(0, -3), () => new Uint8Array(0)]) {
      const fetch = spoiled((file, response) => (file.startsWith(name) ? changed(response, edit) : null));
      await assert.rejects(
        async () => {
          const db = await open(`${hosts.ranges}site/`, { fetch, ...silent });
          const encoder = /encoder|rows/.test(name) ? "model" : "idf";
          await db.search("the price of gold", { encoder, where: { year: 1991 } });
        },
        (error) => {
          if (name === "database" && edit === flipped) return true; // whatever the flipped bit says
          assert.ok(error instanceof SpladeLiteError, `${name}: ${error.stack}`);
          assert.match(error.message, /damaged|truncated|contradicts|no JSON/);
          return true;
        },
        `${name} ${edit}`,
      );
    }
  }
});

test("a file that is gone, or shorter, or a host that is not there", options, async () => {
  const failing = (status) => spoiled((file) => (file.startsWith("lists") ? new Response("", { status }) : null));
  for (const [status, words] of [[404, /is not there; if the site was published again/], [416, /truncated/], [503, /answers 503/]]) {
    const db = await open(`${hosts.ranges}site/`, { fetch: failing(status), ...silent });
    await assert.rejects(db.search("bread"), words);
  }
  const unreachable = () => Promise.reject(new TypeError("fetch failed"));
  await assert.rejects(open(`${hosts.ranges}site/`, { fetch: unreachable }), /cannot be reached/);
  await assert.rejects(open(`${hosts.ranges}nothing/`), /database.json is not there/);
});

test("after an error the same search may succeed", options, async () => {
  let broken = true;
  const fetch = spoiled((file) => (broken && /^(lists|scales|lengths|words|encoder)/.test(file) ? new Response("", { status: 500 }) : null));
  const db = await open(`${hosts.ranges}site/`, { fetch, ...silent });
  await assert.rejects(db.search("bread", { encoder: "model" }), /answers 500/);
  broken = false;
  assert.ok((await db.search("bread", { encoder: "model" })).hits.length);
});

test("callers' mistakes are told", options, async () => {
  const db = await open(`${hosts.ranges}site/`);
  for (const [query, options, words] of [
    ["bread", { k: 0 }, /k is 0/],
    ["bread", { encoder: "bert" }, /encoder is "bert"/],
    [7, {}, /the query is 7/],
    ["bread", { mode: "dense" }, /this database has hybrid, splade, bm25/],
    ["bread", { weights: { dense: 1 } }, /weights is/],
    ["bread", { mode: "bm25", weights: { bm25: 1 } }, /weights are for mode "hybrid"/],
    ["bread", { fusion: "sum" }, /fusion is "sum"/],
    [{ 5: 1 }, { mode: "bm25" }, /needs a text/],
    [{ 999999: 1 }, {}, /term 999999/],
    [{ 5: -1 }, {}, /weight of term 5 is -1/],
    ["bread", { where: "year > 3" }, /Python only/],
    ["bread", { where: { year: { $near: 3 } } }, /unknown operator "\$near"/],
    ["bread", { where: { $or: [] } }, /\$or takes a list/],
  ]) {
    await assert.rejects(db.search(query, options), words);
  }
  const { signal } = Object.assign(new AbortController(), {});
  await assert.rejects(db.search("bread", { signal: AbortSignal.abort() }), { name: "AbortError" });
  assert.ok(signal);
});

test("counts of a metadata field's values", options, async () => {
  const db = await open(`${hosts.ranges}site/`);
  const counts = Object.fromEntries(await db.values("author.name"));
  assert.equal(Object.values(counts).reduce((a, b) => a + b), db.documents - 2);
  assert.deepEqual(await db.values("flag", { year: "1991" }), [[true, 1]]);
});
