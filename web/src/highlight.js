// Which words of a passage to mark, as spladelite/search/explain.py chooses them.

const LEAST_SHARE = 0.1; // of the strongest weight: every query has some weight on "the"

/**
 * A passage in pieces, so that a page can build elements and never needs to parse HTML.
 * @param {string} text @param {import("./tokenizer.js").Token[]} tokens @param {[number, number][]} weights of the query
 * @returns {{ text: string, mark: boolean }[]}
 */
export function marked(text, tokens, weights) {
  const least = LEAST_SHARE * Math.max(0, ...weights.map(([, weight]) => weight));
  const strong = new Set(weights.filter(([, weight]) => weight >= least).map(([term]) => term));
  const words = [];
  for (const { term, start, end } of tokens) {
    const matters = strong.has(term);
    const last = words[words.length - 1];
    if (last && last.end >= start && isWord(text.slice(start, end)) && isWord(text.slice(start - 1, start))) {
      last.end = end;
      last.mark ||= matters;
    } else words.push({ start, end, mark: matters });
  }
  return pieces(text, words.filter((word) => word.mark));
}

/** The text cut at the given words, which are marked. */
export function pieces(text, words) {
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

const isWord = (text) => /^[\p{L}\p{N}]+$/u.test(text);
