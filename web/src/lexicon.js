// BM25's words: where their lists are, documents' lengths, weights. spladelite/upkeep/web/words.py has the format.
import { ascending, ascendingLength, checked, inflate, unary, varints } from "./bytes.js";
import { SpladeLiteError } from "./errors.js";

const HASH = 2 ** 46;

/** @typedef {{ numbers: Int32Array, values: Uint8Array }} List documents, and how often each has the word */

export class Lexicon {
  #lengths = null;

  /**
   * @param {import("./files.js").Files} files @param {object} settings `words` of boot
   * @param {Uint8Array} buckets, frequent sections of boot @param {number} documents how many
   * @param {number} start where the words' lists begin in the file of lists
   */
  constructor(files, settings, buckets, frequent, documents, start) {
    Object.assign(this, { files, settings, documents });
    let count = 0;
    for (const byte of buckets) if (byte < 128) count++;
    this.bucketStarts = sums(varints(buckets, 0, count).numbers);
    const { numbers: [known], end } = varints(frequent, 0, 1); // prettier-ignore
    const { numbers } = varints(frequent, end, 3 * known);
    /** Frequent words: id -> [documents, sum of frequencies, start in the file of lists] */
    this.frequent = new Map();
    let id = 0;
    for (let i = 0; i < known; i++) {
      id += numbers[i];
      const [count, total] = [numbers[known + i], numbers[2 * known + i]];
      this.frequent.set(id, [count, total, start]);
      start += contentLength(count, total, documents) + 4;
    }
  }

  /** The list of each word, in order; an empty one for a word that no document has. @returns {Promise<List[]>} */
  async lists(ids) {
    const [frequent, rare] = [[], []];
    ids.forEach((id) => (this.frequent.has(id) ? frequent : rare).push(id));
    const buckets = [...new Set(rare.map((id) => this.#bucketOf(id)))];
    const starts = this.bucketStarts;
    const [ofFrequent, ofBuckets] = await Promise.all([
      this.files.ranges("lists", frequent.map((id) => this.#rangeOf(id))),
      this.files.ranges("words", buckets.map((bucket) => [starts[bucket], starts[bucket + 1]])),
    ]); // prettier-ignore
    const found = new Map();
    frequent.forEach((id, i) => {
      const [count, total] = this.frequent.get(id);
      found.set(id, decode(checked(ofFrequent[i], "the posting list of a word"), 0, count, total, this.documents));
    });
    buckets.forEach((bucket, i) => this.#readBucket(bucket, ofBuckets[i], new Set(rare), found));
    return ids.map((id) => found.get(id) ?? { numbers: new Int32Array(0), values: new Uint8Array(0) });
  }

  /** idf · (k1 + 1) of a word that `count` documents have. */
  weight(count) {
    return Math.fround(Math.log1p((this.documents - count + 0.5) / (count + 0.5)) * (this.settings.k1 + 1));
  }

  /** k1 · (1 - b + b · length / average length) of each document. @returns {Promise<Float32Array>} */
  norms() {
    this.#lengths ??= this.#readNorms().catch((error) => {
      this.#lengths = null;
      throw error;
    });
    return this.#lengths;
  }

  async #readNorms() {
    const bytes = await inflate(await this.files.all("lengths"), "the documents' lengths");
    const { k1, b, averageLength } = this.settings;
    const [base, slope] = [Math.fround(k1 * (1 - b)), Math.fround((k1 * b) / averageLength)];
    return Float32Array.from(varints(bytes, 0, this.documents).numbers, (length) => base + Math.fround(slope * length));
  }

  #bucketOf(id) {
    return Math.floor((id / HASH) * (this.bucketStarts.length - 1));
  }

  #rangeOf(id) {
    const [count, total, start] = this.frequent.get(id);
    return [start, start + contentLength(count, total, this.documents) + 4];
  }

  #readBucket(bucket, bytes, wanted, found) {
    const content = checked(bytes, `bucket ${bucket} of the words`);
    const { numbers: [words], end } = varints(content, 0, 1); // prettier-ignore
    const { numbers, end: listsStart } = varints(content, end, 3 * words);
    let id = (bucket * HASH) / (this.bucketStarts.length - 1);
    let place = listsStart;
    for (let i = 0; i < words; i++) {
      id += numbers[i];
      const [count, total] = [numbers[words + i], numbers[2 * words + i]];
      if (wanted.has(id)) found.set(id, decode(content, place, count, total, this.documents));
      place += contentLength(count, total, this.documents);
    }
    if (place !== content.length) throw new SpladeLiteError(`bucket ${bucket} of the words contradicts itself; export again`);
  }
}

function contentLength(count, total, documents) {
  return ascendingLength(count, documents) + Math.ceil(total / 8);
}

function decode(bytes, start, count, total, documents) {
  const what = "the posting list of a word";
  const end = start + ascendingLength(count, documents);
  return {
    numbers: ascending(bytes.subarray(start, end), count, documents, what),
    values: unary(bytes.subarray(end, end + Math.ceil(total / 8)), count, what),
  };
}

/** 0, a, a + b, … */
export function sums(numbers) {
  const result = new Float64Array(numbers.length + 1);
  for (let i = 0; i < numbers.length; i++) result[i + 1] = result[i] + numbers[i];
  return result;
}
