// Scores and the best k, as spladelite/index/scoring.py defines them: sums in float32, terms ascending; a document scores
// as its best passage; score descending, then the passage that was stored first; never a score of 0.

/** @typedef {{ numbers: Int32Array, values: Uint8Array }} List numbers ascending; values are impacts or frequencies */
/** @typedef {{ passage: number, score: number }} Ranked */

/** The score of each passage. @param {[List, number][]} lists with the query's weights @returns {Float32Array} */
export function passageScores(lists, scales) {
  const sums = new Float32Array(scales.length);
  for (const [{ numbers, values }, weight] of lists) {
    for (let i = 0; i < numbers.length; i++) sums[numbers[i]] += Math.fround(weight * values[i]);
  }
  for (let i = 0; i < sums.length; i++) sums[i] *= scales[i];
  return sums;
}

/**
 * The k best documents, each with its best passage.
 * @param {Float32Array} scores of passages
 * @param {Int32Array | null} firsts number of each document's first passage, and how many passages there are; null where
 *   every passage is a document
 * @param {Uint8Array | null} allowed 1 for documents that may be found
 * @returns {Ranked[]}
 */
export function bestDocuments(scores, firsts, k, minScore, allowed) {
  const best = new Best(k);
  const documents = firsts ? firsts.length - 1 : scores.length;
  for (let document = 0; document < documents; document++) {
    if (allowed && !allowed[document]) continue;
    let passage = firsts ? firsts[document] : document;
    let score = scores[passage];
    if (firsts) {
      for (let i = passage + 1; i < firsts[document + 1]; i++) {
        if (scores[i] > score) [passage, score] = [i, scores[i]];
      }
    }
    if (score > best.least && score >= minScore) best.add(passage, score);
  }
  return best.ranked();
}

/** Keeps the k best of what is added in ascending order of passages. */
class Best {
  constructor(k) {
    this.k = k;
    this.least = 0; // what a score must exceed
    this.heap = []; // the worst first
  }

  add(passage, score) {
    const { heap } = this;
    if (heap.length < this.k) {
      heap.push({ passage, score });
      this.#up(heap.length - 1);
    } else {
      heap[0] = { passage, score };
      this.#down();
    }
    if (heap.length === this.k) this.least = heap[0].score;
  }

  ranked() {
    return this.heap.sort((a, b) => b.score - a.score || a.passage - b.passage);
  }

  #up(i) {
    const { heap } = this;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!worse(heap[i], heap[parent])) return;
      [heap[i], heap[parent]] = [heap[parent], heap[i]];
      i = parent;
    }
  }

  #down() {
    const { heap } = this;
    for (let i = 0; ; ) {
      let next = 2 * i + 1;
      if (next >= heap.length) return;
      if (next + 1 < heap.length && worse(heap[next + 1], heap[next])) next++;
      if (!worse(heap[next], heap[i])) return;
      [heap[i], heap[next]] = [heap[next], heap[i]];
      i = next;
    }
  }
}

const worse = (a, b) => a.score < b.score || (a.score === b.score && a.passage > b.passage);

/** The value of one number in a list, or 0. */
export function valueOf({ numbers, values }, number) {
  let low = 0;
  let high = numbers.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (numbers[middle] < number) low = middle + 1;
    else high = middle;
  }
  return numbers[low] === number ? values[low] : 0;
}
