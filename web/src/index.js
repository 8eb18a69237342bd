// Search a database that `spladelite export kb.db site/ --web` wrote, from any static host, without a server.
import { ascending, ascendingLength, checked, container, inflate, varints } from "./bytes.js";
import { SpladeLiteError } from "./errors.js";
import { Files } from "./files.js";
import { fieldsOf, matching, readColumn, valueCounts } from "./filters.js";
import { marked } from "./highlight.js";
import { bestDocuments, passageScores, valueOf } from "./ranking.js";
import { Tokenizer } from "./tokenizer.js";

export { SpladeLiteError };

/**
 * Open an exported folder.
 * @param {string | URL} [folder] its address; by default the page's own folder
 * @param {import("./index.d.ts").OpenOptions} [options]
 */
export async function open(folder = "./", options = {}) {
  const base = new URL(folder, globalThis.document?.baseURI);
  if (!base.pathname.endsWith("/")) base.pathname += "/";
  const files = new Files(base, options);
  const contents = await files.open("database.json");
  const boot = container(await inflate(await files.all("boot"), "boot"), "boot");
  return new Database(files, contents, boot);
}

export class Database {
  #files;
  #header;
  #tokenizer;
  #encoder = null;
  #once = new Map(); // parts that are read when they are first needed
  #lists = new Map(); // decoded posting lists, the one used longest ago first
  #columns = new Map();

  constructor(files, contents, { header, rest }) {
    this.#files = files;
    this.#header = header;
    this.contents = contents;
    /** How many there are. */
    this.documents = header.documents;
    this.passages = header.passages;
    /** What the host makes worse than it could be, for people. */
    this.notices = files.notices;
    this.#tokenizer = header.tokenizer && new Tokenizer(header.tokenizer, header.terms);
    const section = (name) => {
      const [start, length] = header.sections[name];
      return rest.subarray(start, start + length);
    };
    const size = header.terms.length;
    this.counts = varints(section("counts"), 0, size).numbers;
    this.dead = header.sections.dead[1] ? varints(section("dead"), 0, size).numbers : null;
    this.starts = new Float64Array(size + 1);
    for (let term = 0; term < size; term++) this.starts[term + 1] = this.starts[term] + listLength(this.counts[term], this.passages);
    this.blocks = readBlocks(section("blocks"));
    this.firsts = header.sections.documents[1] ? readFirsts(section("documents"), this.documents) : null;
  }

  /** What has been fetched since the folder was opened: `{ requests, bytes }`. */
  get traffic() {
    return { ...this.#files.traffic };
  }

  /** What this export can do: the encoders of a SPLADE query, the modes, and the metadata fields for filters. */
  get abilities() {
    return {
      encoders: [...(this.#tokenizer ? ["idf"] : []), ...(this.#header.encoder ? ["model"] : [])],
      modes: ["splade"],
      fields: this.#header.fields.map(([path, distinct]) => ({ path, distinct })),
    };
  }

  /**
   * The k best documents; the same ids and scores as `db.search` in Python.
   * @param {string | Record<number, number>} query a text, or a sparse vector { term id: weight }
   * @param {import("./index.d.ts").SearchOptions} [options]
   * @returns {Promise<import("./index.d.ts").Results>}
   */
  async search(query, options = {}) {
    const { k = 10, where, minScore = 0, encoder = "idf", texts = true, signal } = options;
    if (!Number.isInteger(k) || k < 1) throw new SpladeLiteError(`k is ${k}; give a whole number of at least 1`);
    if (typeof minScore !== "number" || Number.isNaN(minScore)) throw new SpladeLiteError(`minScore is ${minScore}; give a number`);
    const allowed = where === undefined || where === null ? null : this.#allowed(where);
    allowed?.catch(() => {}); // it is awaited below, after the query's weights
    const weights = await this.weigh(query, encoder);
    signal?.throwIfAborted();
    const [lists, scales, mask] = await Promise.all([this.#termLists(weights.map(([term]) => term)), this.#scales(), allowed]);
    signal?.throwIfAborted();
    const weighted = weights.map(([term, weight], i) => [lists[i], weight]);
    const ranked = bestDocuments(passageScores(weighted, scales), this.firsts, k, minScore, mask);
    const own = this.#ownTerms(query);
    const hits = ranked.map(({ passage, score }) => ({
      passageNumber: passage,
      document: this.#documentOf(passage),
      score,
      terms: this.#matches(passage, weights, weighted, scales, own),
      query: weights,
    }));
    if (texts) await this.addTexts(hits);
    signal?.throwIfAborted();
    return { hits, query: weights.map(([term, weight]) => this.#term(term, weight, own)).sort((a, b) => b.weight - a.weight) };
  }

  /** A query's weighted terms, ascending: [term id, weight]. */
  async weigh(query, encoder = "idf") {
    if (typeof query === "object" && query !== null) return this.#vector(query);
    if (typeof query !== "string") throw new SpladeLiteError(`the query is ${query}; give a text, or { term id: weight }`);
    if (!this.#tokenizer) throw new SpladeLiteError(`the terms of this database's model cannot be made of a text here (${this.contents.notes.join("; ")}); give { term id: weight }`);
    if (encoder === "model") return (await this.loadEncoder()).encode(query);
    if (encoder !== "idf") throw new SpladeLiteError(`encoder is "${encoder}"; give "idf" or "model"`);
    const terms = [...new Set(this.tokenize(query).map(({ term }) => term))].sort((a, b) => a - b);
    return terms.map((term) => [term, this.#idf(term)]).filter(([, weight]) => weight > 0);
  }

  /** Load the SPLADE query encoder, some megabytes, before the first search with `encoder: "model"` needs it. */
  async loadEncoder(onProgress) {
    const settings = this.#header.encoder;
    if (!settings) throw new SpladeLiteError(`this export has no SPLADE query encoder (${this.contents.notes.join("; ")}); use encoder: "idf"`);
    this.#encoder ??= import("./encoder.js")
      .then(({ loadEncoder }) => loadEncoder(this.#files, settings, this.#tokenizer, onProgress))
      .catch((error) => {
        this.#encoder = null;
        throw error;
      });
    return this.#encoder;
  }

  /** The model's tokens of a text, with their places. */
  tokenize(text) {
    return this.#tokenizer.tokenize(text);
  }

  /** Add id, metadata and passage to hits of a search with `texts: false`. */
  async addTexts(hits) {
    const blocks = [...new Set(hits.map(({ passageNumber }) => this.#blockOf(passageNumber)))];
    const read = new Map();
    (await this.#readBlocks(blocks)).forEach((block, i) => read.set(blocks[i], block));
    for (const hit of hits) {
      const number = this.#blockOf(hit.passageNumber);
      Object.assign(hit, this.#passageIn(read.get(number), this.blocks.first[number], hit.passageNumber));
    }
    return hits;
  }

  /** A hit's whole document. @returns {Promise<{ id: string, metadata: object, text: string }>} */
  async document(hit) {
    const first = this.firsts ? this.firsts[hit.document] : hit.document;
    const end = this.firsts ? this.firsts[hit.document + 1] : first + 1;
    const numbers = [];
    for (let block = this.#blockOf(first); block <= this.#blockOf(end - 1); block++) numbers.push(block);
    const entries = (await this.#readBlocks(numbers)).flatMap((block) => block.filter(([number]) => number === hit.document));
    const parts = entries.flatMap(([, , , firstHere, passages]) => passages.map((passage, i) => [firstHere + i, passage]));
    let text = "";
    for (const [i, [start, , piece]] of parts) text = i ? text.slice(0, start) + piece : piece;
    return { id: entries[0][1], metadata: entries[0][2], text };
  }

  /** A hit's passage in pieces, those marked that match the query: `[{ text, mark }]`. */
  highlight(hit) {
    const text = hit.passage.text;
    return this.#tokenizer ? marked(text, this.tokenize(text), hit.query) : [{ text, mark: false }];
  }

  /** How many documents have each value of a metadata field: `[[value, count], ...]`, most frequent first. */
  async values(field, where) {
    const [column, allowed] = await Promise.all([this.#column(field), where ? this.#allowed(where) : null]);
    return column ? valueCounts(column, allowed) : [];
  }

  /** Fetch everything now and keep it, so that any search works without a network. */
  async keepOffline(onProgress) {
    const files = ["boot", "lists", "scales", "texts", "fields", "encoder", "rows"];
    await this.#files.keepOffline(files.filter((file) => this.#files.has(file)), onProgress);
  }

  /** How many bytes `keepOffline` has to fetch. */
  get size() {
    return Object.keys(this.contents.files).reduce((sum, file) => sum + this.#files.size(file), 0);
  }

  // --- inside --------------------------------------------------------------------------------------------------------

  #vector(query) {
    return Object.entries(query)
      .map(([key, value]) => {
        const term = Number(key);
        if (!Number.isInteger(term) || term < 0 || term >= this.counts.length) throw new SpladeLiteError(`the query has a term ${key}; term ids are 0 to ${this.counts.length - 1}`);
        if (typeof value !== "number" || !(value >= 0) || value === Infinity) throw new SpladeLiteError(`the query's weight of term ${key} is ${value}; give finite numbers of at least 0`);
        return [term, Math.fround(value)];
      })
      .filter(([, weight]) => weight > 0)
      .sort((a, b) => a[0] - b[0]);
  }

  /** ln(1 + N / df), which is how `encoder="idf"` weighs in Python. */
  #idf(term) {
    const count = Math.min(this.counts[term] + (this.dead ? this.dead[term] : 0), this.#header.indexed);
    return count ? Math.fround(Math.log1p(this.#header.indexed / count)) : 0;
  }

  #ownTerms(query) {
    if (typeof query === "object") return new Set(Object.keys(query).map(Number));
    return new Set(this.tokenize(query).map(({ term }) => term));
  }

  #term(term, weight, own) {
    return { id: term, term: this.#header.terms[term], weight, expansion: !own.has(term) };
  }

  #matches(passage, weights, weighted, scales, own) {
    const matches = [];
    weights.forEach(([term, queryWeight], i) => {
      const documentWeight = valueOf(weighted[i][0], passage) * scales[passage];
      if (documentWeight) matches.push({ ...this.#term(term, queryWeight, own), queryWeight, documentWeight, contribution: queryWeight * documentWeight });
    });
    return matches.sort((a, b) => b.contribution - a.contribution || a.id - b.id);
  }

  async #termLists(terms) {
    const missing = terms.filter((term) => !this.#lists.has(term) && this.counts[term]);
    const bytes = await this.#files.ranges("lists", missing.map((term) => [this.starts[term], this.starts[term + 1]]));
    missing.forEach((term, i) => {
      const what = `the posting list of "${this.#header.terms[term]}"`;
      const count = this.counts[term];
      const content = checked(bytes[i], what);
      const numbers = ascending(content, count, this.passages, what);
      this.#lists.set(term, { numbers, values: content.subarray(content.length - count) });
    });
    const lists = terms.map((term) => this.#lists.get(term) ?? { numbers: new Int32Array(0), values: new Uint8Array(0) });
    for (const term of terms) {
      const list = this.#lists.get(term);
      if (list && this.#lists.delete(term)) this.#lists.set(term, list);
    }
    for (const term of this.#lists.keys()) {
      if (this.#lists.size <= 512) break;
      this.#lists.delete(term);
    }
    return lists;
  }

  #scales() {
    return this.#read("scales", async () => {
      if (!this.passages) return new Float32Array(0);
      const planes = await inflate(await this.#files.all("scales"), "scales");
      const bytes = new Uint8Array(planes.length);
      for (let plane = 0; plane < 4; plane++) {
        for (let i = 0; i < this.passages; i++) bytes[4 * i + plane] = planes[plane * this.passages + i];
      }
      return new Float32Array(bytes.buffer);
    });
  }

  /** The value of `make()`, made once unless it fails. */
  #read(name, make) {
    if (!this.#once.has(name)) {
      const promise = make();
      this.#once.set(name, promise);
      promise.catch(() => this.#once.delete(name));
    }
    return this.#once.get(name);
  }

  async #allowed(where) {
    const columns = new Map();
    await Promise.all(
      fieldsOf(where).map(async (path) => {
        const column = await this.#column(path);
        if (column) columns.set(path, column);
      }),
    );
    return matching(where, columns, this.documents);
  }

  async #column(path) {
    const entry = this.#header.fields.find(([name]) => name === path);
    if (!entry) {
      if (this.#header.otherFields) throw new SpladeLiteError(`the metadata field "${path}" is not among those that this export can filter by`);
      return null;
    }
    return this.#read(`field ${path}`, async () => {
      const [, , start, length] = entry;
      return readColumn(await inflate(await this.#files.range("fields", start, start + length), `the metadata column "${path}"`), this.documents);
    });
  }

  #documentOf(passage) {
    return this.firsts ? lastAtMost(this.firsts, passage, this.documents) : passage;
  }

  #blockOf(passage) {
    return lastAtMost(this.blocks.first, passage, this.blocks.count);
  }

  async #readBlocks(numbers) {
    const { start } = this.blocks;
    const bytes = await this.#files.ranges("texts", numbers.map((i) => [start[i], start[i + 1]]));
    return Promise.all(bytes.map(async (content, i) => JSON.parse(new TextDecoder().decode(await inflate(content, `block ${numbers[i]} of the texts`)))));
  }

  #passageIn(block, firstOfBlock, passage) {
    let before = firstOfBlock;
    for (const [, id, metadata, firstHere, passages] of block) {
      const piece = passages[passage - before];
      if (piece && passage >= before) {
        const [start, end, text] = piece;
        const from = firstHere + passage - before ? start : 0;
        return { id, metadata, passage: { text: text.slice(start - from, end - from), start, end } };
      }
      before += passages.length;
    }
    throw new SpladeLiteError(`the texts have no passage ${passage}; export again`);
  }
}

function listLength(count, bound) {
  return count ? ascendingLength(count, bound) + count + 4 : 0;
}

function readBlocks(bytes) {
  // Two numbers a block; how many blocks there are is told by the bytes.
  let count = 0;
  for (const byte of bytes) if (byte < 128) count++;
  const { numbers } = varints(bytes, 0, count);
  const blocks = count / 2;
  const first = new Float64Array(blocks + 1);
  const start = new Float64Array(blocks + 1);
  for (let i = 0; i < blocks; i++) {
    first[i + 1] = first[i] + numbers[2 * i];
    start[i + 1] = start[i] + numbers[2 * i + 1];
  }
  return { count: blocks, first, start };
}

function readFirsts(bytes, documents) {
  const { numbers } = varints(bytes, 0, documents);
  const firsts = new Int32Array(documents + 1);
  for (let i = 0; i < documents; i++) firsts[i + 1] = firsts[i] + numbers[i];
  return firsts;
}

/** The last i with sorted[i] <= value, below `count`. */
function lastAtMost(sorted, value, count) {
  let low = 0;
  let high = count;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (sorted[middle] <= value) low = middle;
    else high = middle;
  }
  return low;
}
