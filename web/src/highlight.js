// Which words of a passage to mark, as spladelite/search/explain.py chooses them.

const LEAST_SHARE = 0.1; // of the strongest weight: every query has some weight on "the"

/**
 * A passage in pieces, so that a page can build elements and never needs to parse HTML.
 * @param {string} text @param {import("./tokenizer.js").Token[]} tokens of the model @param {[number, number][]} weights
 *   of the query's terms @param {{ start: number, end: number }[]} words of the query, where they stand
 * @param {(word: string) => boolean} isStopWord those are marked only where nothing else is
 * @returns {{ text: string, mark: boolean }[]}
 */
export function marked(text, tokens, weights, words, isStopWord) {
  const least = LEAST_SHARE * weights.reduce((most, [, weight]) => Math.max(most, weight), 0);
  const strong = new Set(weights.filter(([, weight]) => weight >= least).map(([term]) => term));
  const spans = [...words];
  if (weights.length) {
    const runs = [];
    for (const { term, start, end } of tokens) {
      const matters = strong.has(term) && !PUNCTUATION.test(text.slice(start, end));
      const last = runs[runs.length - 1];
      if (last && last.end >= start && isWord(text.slice(start, end)) && isWord(text.slice(start - 1, start))) {
        last.end = end;
        last.matters ||= matters;
      } else runs.push({ start, end, matters });
    }
    const matching = runs.filter(({ matters }) => matters);
    spans.push(...matching.filter(({ start, end }) => !isStopWord(text.slice(start, end))));
    if (!spans.length) spans.push(...matching);
  }
  return pieces(text, joined(spans.sort((a, b) => a.start - b.start || a.end - b.end)));
}

/** Spans in order, those that overlap as one. */
function joined(spans) {
  const result = [];
  for (const { start, end } of spans) {
    const last = result[result.length - 1];
    if (last && start < last.end) last.end = Math.max(last.end, end);
    else result.push({ start, end });
  }
  return result;
}

/** The text cut at the given words, which are marked. */
function pieces(text, words) {
  const result = [];
  let place = 0;
  for (const { start, end } of words) {
    if (start > place) result.push({ text: text.slice(place, start), mark: false });
    result.push({ text: text.slice(start, end), mark: true });
    place = end;
  }
  if (place < text.length) result.push({ text: text.slice(place), mark: false });
  return result;
}

// Models give the full stop weights; nobody looks for it.
const PUNCTUATION = /^[.,;:!?'"()[\]{}<>/\\|`~_-]+$/;

const isWord = (text) => /^[\p{L}\p{N}]+$/u.test(text);
