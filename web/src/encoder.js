// The SPLADE query encoder: a text to weighted terms, as spladelite/encoders/routed.py does it.
import { inflate } from "./bytes.js";
import { Graph, readRow, stacked } from "./graph.js";

/** @typedef {[term: number, weight: number][]} Weights terms ascending */

/** Load the encoder of an export. `onProgress(bytes, of)` is called while it comes. */
export async function loadEncoder(files, settings, tokenizer, onProgress) {
  const bytes = await inflate(await files.all("encoder", onProgress), "the encoder");
  if (settings.kind === "static") {
    return new StaticEncoder(new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2), settings, tokenizer);
  }
  return new GraphEncoder(new Graph(bytes), files, settings, tokenizer);
}

class GraphEncoder {
  constructor(graph, files, settings, tokenizer) {
    Object.assign(this, { graph, files, settings, tokenizer });
    this.excluded = new Set(settings.excluded);
  }

  /** @returns {Promise<Weights>} */
  async encode(text) {
    const windows = windowsOf(text, this.settings, this.tokenizer);
    const merged = new Map();
    for (const ids of windows) {
      const pooled = this.graph.run(ids, await this.#rows(ids));
      for (let term = 0; term < pooled.length; term++) {
        if (!(pooled[term] > 0) || this.excluded.has(term)) continue;
        const weight = activate(pooled[term], this.settings.activation);
        const known = merged.get(term);
        if (known === undefined) merged.set(term, weight);
        else merged.set(term, this.settings.pooling === "sum" ? Math.fround(known + weight) : Math.max(known, weight));
      }
    }
    return limited([...merged], this.settings);
  }

  async #rows(ids) {
    const rows = new Map();
    const distinct = [...new Set(ids)];
    for (const [name, [dtype, , start, length]] of Object.entries(this.graph.rowTables)) {
      const found = await this.files.ranges("rows", distinct.map((id) => [start + id * length, start + (id + 1) * length]));
      const byId = new Map(distinct.map((id, i) => [id, readRow(found[i], dtype, `row ${id} of the encoder`)]));
      rows.set(name, stacked(ids.map((id) => byId.get(id))));
    }
    return rows;
  }
}

class StaticEncoder {
  constructor(weights, settings, tokenizer) {
    Object.assign(this, { weights, settings, tokenizer });
    this.excluded = new Set(settings.excluded);
  }

  /** @returns {Promise<Weights>} */
  async encode(text) {
    const terms = [...new Set(windowsOf(text, this.settings, this.tokenizer).flat())];
    const kept = terms.filter((term) => this.weights[term] > 0 && !this.excluded.has(term));
    return limited(kept.map((term) => [term, this.weights[term]]), this.settings);
  }
}

/** Framed token ids in parts that fit the model; none for a text without a known token. */
function windowsOf(text, { window, prompt }, tokenizer) {
  const { before, after, unknown } = tokenizer.settings;
  let ids = tokenizer.tokenize(text).map(({ term }) => term);
  if (ids.every((id) => id === unknown)) return [];
  if (prompt) ids = tokenizer.tokenize(prompt + text).map(({ term }) => term);
  const count = Math.ceil(ids.length / window);
  const edges = Array.from({ length: count + 1 }, (_, i) => Math.floor((ids.length * i) / count));
  return edges.slice(1).map((end, i) => [...before, ...ids.slice(edges[i], end), ...after]);
}

function activate(value, activation) {
  if (activation === "log1p") return Math.fround(Math.log1p(value));
  if (activation === "log1p_log1p") return Math.fround(Math.log1p(Math.fround(Math.log1p(value))));
  return value;
}

function limited(weights, { maxTerms, minWeight }) {
  let kept = weights.filter(([, weight]) => weight >= minWeight && weight > 0);
  if (maxTerms !== null && kept.length > maxTerms) {
    kept = kept.sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, maxTerms);
  }
  return kept.sort((a, b) => a[0] - b[0]);
}
