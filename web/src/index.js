// Search a database that `spladelite export kb.db site/ --web` wrote, from any static host, without a server.
import { ascending, ascendingLength, checked, container, inflate, varints } from "./bytes.js";
import { SpladeLiteError } from "./errors.js";
import { Files } from "./files.js";
import { fieldsOf, matching, readColumn, valueCounts } from "./filters.js";
import { fused, partWeights } from "./fusion.js";
import { marked } from "./highlight.js";
import { Lexicon, sums } from "./lexicon.js";
import { bestDocuments, documentScores, passageScores, valueOf, wordScore } from "./ranking.js";
import { reads } from "./reading.js";
import { Tokenizer } from "./tokenizer.js";
import { Analyzer } from "./words.js";

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
  #analyzer = null;
  #lexicon = null;
  #encoder = null;
  #once = new Map(); // parts that are read when they are first needed
  #lists = new Map(); // decoded posting lists, the one used longest ago first

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
    this.starts = sums(this.counts.map((count) => listLength(count, this.passages)));
    this.blocks = readBlocks(section("blocks"));
    this.firsts = header.sections.documents[1] ? Int32Array.from(sums(varints(section("documents"), 0, this.documents).numbers)) : null;
    this.unread = header.unread ? ascending(section("unread"), header.unread, this.documents, "the documents that the model cannot read") : [];
    if (header.words) {
      this.#analyzer = new Analyzer(header.words.language, header.words.stopWords);
      this.#lexicon = new Lexicon(files, header.words, section("buckets"), section("frequent"), this.documents, this.starts[size]);
    }
  }

  /** What has been fetched since the folder was opened: `{ requests, bytes }`. */
  get traffic() {
    return { ...this.#files.traffic };
  }

  /** What this export can do: the encoders of a SPLADE query, the modes, and the metadata fields for filters. */
  get abilities() {
    return {
      encoders: [...(this.#tokenizer ? ["idf"] : []), ...(this.#header.encoder ? ["model"] : [])],
      modes: this.#lexicon ? ["hybrid", "splade", "bm25"] : ["splade"],
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
    const { k = 10, where, minScore = 0, encoder = "idf", weights, fusion = "convex", texts = true, signal } = options;
    let mode = this.#mode(query, options.mode);
    if (!Number.isInteger(k) || k < 1) throw new SpladeLiteError(`k is ${k}; give a whole number of at least 1`);
    if (typeof minScore !== "number" || Number.isNaN(minScore)) throw new SpladeLiteError(`minScore is ${minScore}; give a number`);
    if (weights && mode !== "hybrid") throw new SpladeLiteError(`weights are for mode "hybrid", and mode is "${mode}"`);
    const allowed = where === undefined || where === null ? null : this.#allowed(where);
    allowed?.catch(() => {}); // it is awaited below, after the query's weights
    const asked = mode === "hybrid" ? Object.keys(partWeights(weights, 0)) : [mode];
    if (asked.length === 1) [mode] = asked;
    const judged = mode === "hybrid" && !weights;
    const unread = judged && !this.reads(query);
    const words = asked.includes("bm25") ? await this.#words(query) : [];
    const wordsFound = asked.includes("bm25") ? this.#rankWords(words) : null;
    wordsFound?.catch(() => {});
    const terms = asked.includes("splade") && !unread ? await this.weigh(query, encoder) : [];
    signal?.throwIfAborted();
    const [splade, bm25, mask] = await Promise.all([asked.includes("splade") ? this.#rankTerms(terms) : null, wordsFound, allowed]);
    signal?.throwIfAborted();
    if (judged) for (const document of this.unread) splade.scores.fill(0, this.#firstOf(document), this.#firstOf(document + 1));
    const part = { splade, bm25, mask, terms, words };
    let ranked;
    if (mode === "splade") ranked = bestDocuments(splade.scores, this.firsts, k, minScore, mask);
    else if (mode === "bm25") ranked = bestDocuments(bm25.scores, null, k, minScore, mask).map(({ passage, score }) => ({ document: passage, score }));
    else ranked = this.#fuse(part, partWeights(weights, words.length, unread), k, fusion, minScore);
    const own = this.#ownTerms(query);
    const hits = ranked.map((entry) => this.#hit(entry, part, own));
    if (texts) {
      await this.#showWords(hits.filter((hit) => hit.passageNumber === null), words);
      await this.addTexts(hits);
    }
    signal?.throwIfAborted();
    return { hits, query: terms.map(([term, weight]) => this.#term(term, weight, own)).sort((a, b) => b.weight - a.weight), words: words.map(([, word]) => word), unread };
  }

  /** A query's weighted terms, ascending: [term id, weight]. */
  async weigh(query, encoder = "idf") {
    if (typeof query === "object") return this.#vector(query);
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

  /** Whether the model can read most of a text; see `unread` of a search's results. */
  reads(text) {
    return !this.#tokenizer || reads(text, this.#tokenizer);
  }

  /** Add id, metadata and passage to hits of a search with `texts: false`. */
  async addTexts(hits) {
    for (const hit of hits) hit.passageNumber ??= this.#firstOf(hit.document);
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
    const passages = await this.#passagesOf(hit.document);
    const { id, metadata } = passages[0];
    return { id, metadata, text: passages.reduce((text, { from, piece }) => text.slice(0, from) + piece, "") };
  }

  /** A hit's passage in pieces, those marked that match the query: `[{ text, mark }]`. */
  highlight(hit) {
    const text = hit.passage.text;
    const wanted = new Set(hit.words.map(([id]) => id));
    const words = wanted.size ? this.#analyzer.words(text).filter(({ id }) => wanted.has(id)) : [];
    const tokens = this.#tokenizer && hit.query.length ? this.tokenize(text) : [];
    return marked(text, tokens, hit.query, words, (word) => this.#analyzer?.isStopWord(word) ?? false);
  }

  /** How many documents have each value of a metadata field: `[[value, count], ...]`, most frequent first. */
  async values(field, where) {
    const [column, allowed] = await Promise.all([this.#column(field), where ? this.#allowed(where) : null]);
    return column ? valueCounts(column, allowed) : [];
  }

  /** Fetch everything now and keep it, so that any search works without a network. */
  async keepOffline(onProgress) {
    await this.#files.keepOffline(Object.keys(this.contents.files), onProgress);
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

  #mode(query, mode) {
    const { modes } = this.abilities;
    if (typeof query !== "string" && (typeof query !== "object" || query === null)) {
      throw new SpladeLiteError(`the query is ${query}; give a text, or { term id: weight }`);
    }
    if (typeof query === "object") {
      if (mode !== undefined && mode !== "splade") throw new SpladeLiteError(`mode "${mode}" needs a text, and the query is a sparse vector`);
      return "splade";
    }
    if (mode === undefined) return modes[0];
    if (!modes.includes(mode)) throw new SpladeLiteError(`mode is "${mode}"; this database has ${modes.join(", ")}`);
    return mode;
  }

  /** What BM25 looks for: [term id, word], ids ascending. */
  async #words(query) {
    if (this.#files.has("stems") && this.#analyzer.needsStems(query)) {
      await this.#read("stems", async () => {
        const bytes = await inflate(await this.#files.all("stems"), "the words' stems");
        this.#analyzer.setStems(JSON.parse(new TextDecoder().decode(bytes)));
      });
    }
    return this.#analyzer.query(query).sort((a, b) => a[0] - b[0]);
  }

  async #rankTerms(terms) {
    const [lists, scales] = await Promise.all([this.#termLists(terms.map(([term]) => term)), this.#scales()]);
    const weighted = terms.map(([, weight], i) => [lists[i], weight]);
    return { lists: weighted, scales, scores: passageScores(weighted, scales) };
  }

  async #rankWords(words) {
    const [lists, norms] = await Promise.all([this.#lexicon.lists(words.map(([id]) => id)), this.#lexicon.norms()]);
    const weighted = lists.map((list) => [list, this.#lexicon.weight(list.numbers.length)]);
    return { lists: weighted, norms, scores: documentScores(weighted, norms) };
  }

  /** The best by both parts, whose scores of every document are known. */
  #fuse({ splade, bm25, mask }, weights, k, fusion, minScore) {
    const scores = { bm25: bm25.scores, splade: splade.scores };
    if (this.firsts) scores.splade = Float32Array.from({ length: this.documents }, (_, i) => splade.scores[this.#bestPassage(i, splade.scores)]);
    const best = fused(scores, weights, k, fusion, minScore, mask);
    return best.map((entry) => ({ ...entry, passage: this.#bestPassage(entry.document, splade.scores) }));
  }

  #bestPassage(document, scores) {
    let best = this.#firstOf(document);
    for (let passage = best + 1; passage < this.#firstOf(document + 1); passage++) if (scores[passage] > scores[best]) best = passage;
    return best;
  }

  /** A hit without its texts. */
  #hit({ document, passage, score, contributions }, { splade, bm25, terms, words }, own) {
    document ??= this.#documentOf(passage);
    const known = splade && passage !== undefined && splade.scores[passage] > 0;
    // Where BM25 alone knows a document of several passages, its texts tell which to show.
    const single = this.#firstOf(document + 1) - this.#firstOf(document) === 1;
    const hit = { passageNumber: known ? passage : single ? this.#firstOf(document) : null, document, score, terms: [], parts: [], query: terms, words };
    if (splade) {
      if (known) hit.terms = this.#matches(passage, terms, splade, own);
      hit.parts.push({ part: "splade", score: known ? splade.scores[passage] : 0 });
    }
    if (bm25) {
      const ofWords = [];
      words.forEach(([, word], i) => {
        const [list, weight] = bm25.lists[i];
        const frequency = valueOf(list, document);
        if (frequency) ofWords.push({ word, contribution: wordScore(weight, frequency, bm25.norms[document]) });
      });
      hit.parts.push({ part: "bm25", score: bm25.scores[document], words: ofWords.sort((a, b) => b.contribution - a.contribution) });
    }
    for (const part of hit.parts) part.contribution = contributions ? contributions[part.part] : part.score;
    return hit;
  }

  #matches(passage, weights, { lists, scales }, own) {
    const matches = [];
    weights.forEach(([term, queryWeight], i) => {
      const documentWeight = valueOf(lists[i][0], passage) * scales[passage];
      if (documentWeight) matches.push({ ...this.#term(term, queryWeight, own), queryWeight, documentWeight, contribution: queryWeight * documentWeight });
    });
    return matches.sort((a, b) => b.contribution - a.contribution || a.id - b.id);
  }

  /** Choose the passages with the most of the query's words. */
  async #showWords(hits, words) {
    const wanted = new Set(words.map(([id]) => id));
    await Promise.all(
      hits.map(async (hit) => {
        const first = this.#firstOf(hit.document);
        let most = -1;
        (await this.#passagesOf(hit.document)).forEach(({ text }, i) => {
          const count = new Set(this.#analyzer.words(text).map(({ id }) => id).filter((id) => wanted.has(id))).size; // prettier-ignore
          if (count > most) [most, hit.passageNumber] = [count, first + i];
        });
      }),
    );
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

  #firstOf(document) {
    return this.firsts ? this.firsts[document] : document;
  }

  /** All passages of a document: `text`, and the `piece` of the document that begins at `from`. */
  async #passagesOf(document) {
    const [first, end] = [this.#firstOf(document), this.#firstOf(document + 1)];
    const numbers = [];
    for (let block = this.#blockOf(first); block <= this.#blockOf(end - 1); block++) numbers.push(block);
    return (await this.#readBlocks(numbers)).flatMap((block) =>
      block
        .filter(([number]) => number === document)
        .flatMap(([, id, metadata, firstHere, passages]) =>
          passages.map(([start, stop, piece], i) => {
            const from = firstHere + i ? start : 0;
            return { id, metadata, from, piece, text: piece.slice(start - from, stop - from) };
          }),
        ),
    );
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
