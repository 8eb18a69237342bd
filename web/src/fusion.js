// Fusing SPLADE's and BM25's scores, as spladelite/search/fusion.py does it.
import { SpladeLiteError } from "./errors.js";

/** How many of each part's best documents are candidates, at least. */
export const DEPTH = 200;
const RRF_CONSTANT = 60;
const WORDS_FOR_EQUAL_WEIGHT = 7;
const PARTS = ["splade", "bm25"];

/** The parts' weights: the caller's, or by how many words the query has. */
export function partWeights(given, words) {
  if (given === undefined || given === null) {
    const lexical = Math.min(words / WORDS_FOR_EQUAL_WEIGHT, 1) / 2;
    return { splade: 1 - lexical, bm25: lexical };
  }
  const names = Object.keys(given);
  const wrong = names.find((name) => !PARTS.includes(name) || !(given[name] >= 0) || given[name] === Infinity);
  if (wrong !== undefined || !names.some((name) => given[name] > 0)) {
    throw new SpladeLiteError(`weights is ${JSON.stringify(given)}; give finite numbers of at least 0, not all 0, for splade and bm25`);
  }
  return given;
}

/**
 * The k best of some documents by all parts together.
 * @param {number[]} documents ascending @param {Record<string, Float32Array>} scores of each part, one a document
 * @returns {{ document: number, score: number, contributions: Record<string, number> }[]}
 */
export function fused(documents, scores, weights, k, fusion) {
  if (fusion !== "convex" && fusion !== "rrf") throw new SpladeLiteError(`fusion is ${JSON.stringify(fusion)}; give "convex" or "rrf"`);
  const names = PARTS.filter((name) => name in weights);
  const total = new Float32Array(documents.length);
  const known = new Uint8Array(documents.length);
  const contributions = {};
  for (const name of names) {
    const weight = Math.fround(weights[name]);
    const values = (fusion === "rrf" ? reciprocalRanks : sharesOfBest)(scores[name]);
    contributions[name] = values.map((value) => weight * value);
    for (let i = 0; i < total.length; i++) {
      total[i] += contributions[name][i];
      if (weight > 0 && scores[name][i] > 0) known[i] = 1;
    }
  }
  return documents
    .map((document, i) => ({
      document,
      score: total[i],
      known: known[i],
      contributions: Object.fromEntries(names.map((name) => [name, contributions[name][i]])),
    }))
    .filter((entry) => entry.known)
    .sort((a, b) => b.score - a.score || a.document - b.document)
    .slice(0, k);
}

function sharesOfBest(scores) {
  const best = scores.reduce((a, b) => Math.max(a, b), 0);
  return best > 0 ? scores.map((score) => score / best) : scores;
}

function reciprocalRanks(scores) {
  const ranked = [...scores.keys()].filter((i) => scores[i] > 0).sort((a, b) => scores[b] - scores[a] || a - b);
  const values = new Float32Array(scores.length);
  ranked.forEach((i, rank) => (values[i] = 1 / (RRF_CONSTANT + rank + 1)));
  return values;
}
