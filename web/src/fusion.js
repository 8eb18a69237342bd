// Fusing SPLADE's and BM25's scores, as spladelite/search/fusion.py does it.
import { SpladeLiteError } from "./errors.js";
import { bestDocuments } from "./ranking.js";

const RRF_DEPTH = 200; // documents of each part that have ranks, at least
const RRF_CONSTANT = 60;
const WORDS_FOR_EQUAL_WEIGHT = 6;
const PARTS = ["splade", "bm25"];

/** The parts' weights: the caller's, or by how many words the query has, and whether the model cannot read it. */
export function partWeights(given, words, unread = false) {
  if (given === undefined || given === null) {
    if (unread) return { splade: 0, bm25: 1 };
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
 * The k best documents by all parts together.
 * @param {Record<string, Float32Array>} scores of each part, one a document
 * @param {Record<string, number>} weights of the parts @param {Uint8Array | null} allowed
 * @returns {{ document: number, score: number, contributions: Record<string, number> }[]}
 */
export function fused(scores, weights, k, fusion, minScore, allowed) {
  if (fusion !== "convex" && fusion !== "rrf") throw new SpladeLiteError(`fusion is ${JSON.stringify(fusion)}; give "convex" or "rrf"`);
  const names = PARTS.filter((name) => name in weights);
  const values = fusion === "convex" ? names.map((name) => sharesOfBest(scores[name])) : reciprocalRanks(names, scores, k, allowed);
  const contributions = names.map((name, i) => {
    const weight = Math.fround(weights[name]);
    return values[i].map((value) => weight * value);
  });
  const total = new Float32Array(contributions[0].length);
  for (const part of contributions) for (let i = 0; i < total.length; i++) total[i] += part[i];
  return bestDocuments(total, null, k, minScore, allowed).map(({ passage: document, score }) => ({
    document,
    score,
    contributions: Object.fromEntries(names.map((name, i) => [name, contributions[i][document]])),
  }));
}

/** Shares of the part's best score, whatever a filter leaves. */
function sharesOfBest(scores) {
  let best = 0;
  for (const score of scores) if (score > best) best = score;
  return best > 0 ? scores.map((score) => score / best) : scores;
}

/** 1 / (60 + rank) among the best of each part; a document that one of them has gets its rank from the others too. */
function reciprocalRanks(names, scores, k, allowed) {
  const candidates = new Set(
    names.flatMap((name) => bestDocuments(scores[name], null, Math.max(k, RRF_DEPTH), 0, allowed).map(({ passage }) => passage)),
  );
  return names.map((name) => {
    const ranked = [...candidates].filter((i) => scores[name][i] > 0).sort((a, b) => scores[name][b] - scores[name][a] || a - b);
    const values = new Float32Array(scores[name].length);
    ranked.forEach((document, rank) => (values[document] = 1 / (RRF_CONSTANT + rank + 1)));
    return values;
  });
}
