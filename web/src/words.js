// From a text to words as BM25 knows them: spladelite/index/words.py, whose docstring has the rules.
import { blake2b } from "./blake2b.js";
import { english } from "./english.js";

const LONGEST = 64; // characters: longer words are not stemmed, longer chunks have no whole
const MOST_QUERY_WORDS = 1024;

const CHUNK = /[\p{L}\p{N}\p{M}_\u200c\u200d]+(?:[.@+:/#-][\p{L}\p{N}\p{M}_\u200c\u200d]+)*/gu;
const PART = /[^._@+:/#-]+/g;
const IDENTIFIER = /[._@]|\d/;
const CAMEL = /[a-z][A-Z]|[A-Z]{2}[a-z]{2}/;
const CAMEL_PART = /[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+/g;
const ASCII = /^[\0-\x7f]*$/;

// Scripts that are written without spaces between words, and Korean, whose particles are written to the words.
const HAN_CLASS = "\\u3005-\\u3007\\u3400-\\u4dbf\\u4e00-\\u9fff\\uf900-\\ufaff\\u{20000}-\\u{3ffff}";
const UNSPACED_CLASS =
  "\\u0e01-\\u0eff\\u1000-\\u109f\\u1100-\\u11ff\\u1780-\\u17d3\\u3031-\\u3035\\u3041-\\u3096\\u3099\\u309a\\u309d-\\u309f" +
  `\\u30a1-\\u30fa\\u30fc-\\u30ff\\u3105-\\u318e\\u31a0-\\u31ff\\uac00-\\ud7a3${HAN_CLASS}`;
const RUN = new RegExp(`[${UNSPACED_CLASS}]+|[^${UNSPACED_CLASS}]+`, "gu");
const UNSPACED = new RegExp(`[${UNSPACED_CLASS}]`, "u");
const HAN = new RegExp(`[${HAN_CLASS}]`, "u");
const ACCENTS = /[\u00ad\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06ed\u200b-\u200f\ufe00-\ufe0f]/g;
const CYRILLIC = /[\u0400-\u052f]/;
const LATIN = /[a-z\u00df-\u024f]/;

// For each script the languages that are written in it; the first one's stemmer serves a file of another script.
const SCRIPTS = [
  [/[\u0600-\u06ff]/, ["arabic", "persian"]],
  [CYRILLIC, ["russian", "serbian"]],
  [/[\u0370-\u03ff]/, ["greek"]],
  [/[\u0900-\u097f]/, ["hindi", "nepali"]],
  [/[\u0b80-\u0bff]/, ["tamil"]],
  [/[\u0530-\u058f]/, ["armenian"]],
  [/[\u0590-\u05ff]/, ["yiddish"]],
];
const NOT_LATIN = new Set(SCRIPTS.flatMap(([, languages]) => languages));

/** @typedef {{ start: number, end: number, word: string }} Place */

export class Analyzer {
  /** @param {string | null} language of the file @param {string[]} stopWords folded */
  constructor(language, stopWords) {
    this.language = language;
    this.stopWords = new Set(stopWords);
    this.stems = new Map(); // by language, "" for the file's own, stems by word
  }

  /** Whether a text may have words whose stems are not English ones; those must be set before. */
  needsStems(text) {
    return this.language !== null && !(this.language === "english" && ASCII.test(text));
  }

  /**
   * The stemmers of other languages than English are not here: the stems come with the database, for the words that its
   * documents have.
   * @param {Record<string, Record<string, string>>} stems
   */
  setStems(stems) {
    this.stems = new Map(Object.entries(stems).map(([language, words]) => [language, new Map(Object.entries(words))]));
  }

  /** The query's distinct words in order, without stop words where there are others: [term id, as written]. */
  query(text) {
    const found = new Map();
    const stops = new Map();
    for (const [chunk] of text.matchAll(CHUNK)) {
      for (const { start, end, word } of this.places(chunk, true)) {
        const part = chunk.slice(start, end).toLowerCase();
        const id = termId(word);
        const target = this.isStopWord(part) ? stops : found;
        if (!target.has(id)) target.set(id, part);
      }
      if (found.size >= MOST_QUERY_WORDS) break;
    }
    return [...(found.size ? found : stops)].slice(0, MOST_QUERY_WORDS);
  }

  isStopWord(word) {
    return this.stopWords.has(fold(word));
  }

  /** Each word of a text with its places; words may overlap. @returns {{ start: number, end: number, id: number }[]} */
  words(text) {
    const found = [];
    for (const match of text.matchAll(CHUNK)) {
      for (const { start, end, word } of this.places(match[0], false)) {
        found.push({ start: match.index + start, end: match.index + end, id: termId(word) });
      }
    }
    return found;
  }

  /** The words of a chunk as they are hashed. @returns {Place[]} */
  places(chunk, inQuery) {
    const found = [];
    const parts = [...chunk.matchAll(PART)];
    const short = characters(chunk) <= LONGEST;
    if (parts.length > 1 && short && IDENTIFIER.test(chunk)) found.push({ start: 0, end: chunk.length, word: fold(chunk) });
    for (const { 0: text, index: start } of parts) {
      if (!ASCII.test(text)) {
        this.#foreign(text, start, inQuery, found);
        continue;
      }
      if (text.length <= LONGEST && CAMEL.test(text)) {
        for (const piece of text.matchAll(CAMEL_PART)) {
          const begin = start + piece.index;
          found.push({ start: begin, end: begin + piece[0].length, word: this.#stem(piece[0].toLowerCase()) });
        }
      }
      found.push({ start, end: start + text.length, word: this.#stem(text.toLowerCase()) });
    }
    return found;
  }

  /** The words of what is not ASCII. */
  #foreign(written, start, inQuery, found) {
    const text = compose(written);
    if (!UNSPACED.test(text)) {
      found.push({ start, end: start + written.length, word: this.#stemAny(text) });
      return;
    }
    for (const { 0: run, index } of text.matchAll(RUN)) {
      const begin = start + index;
      const letters = Array.from(run);
      if (!UNSPACED.test(run)) {
        found.push({ start: begin, end: begin + run.length, word: this.#stemAny(run) });
      } else if (letters.length === 1) {
        found.push({ start: begin, end: begin + run.length, word: run });
      } else {
        let place = begin;
        letters.slice(1).forEach((letter, i) => {
          const pair = letters[i] + letter;
          found.push({ start: place, end: place + pair.length, word: pair });
          if (!inQuery && HAN.test(letters[i])) found.push({ start: place, end: place + letters[i].length, word: letters[i] });
          place += letters[i].length;
        });
        const end = letters[letters.length - 1];
        if (!inQuery && HAN.test(end)) found.push({ start: place, end: place + end.length, word: end });
      }
    }
  }

  /** The stem of a folded word in any script. */
  #stemAny(text) {
    const { language } = this;
    for (const [script, languages] of SCRIPTS) {
      if (script.test(text)) {
        return this.#stem(script === CYRILLIC ? text : fold(text), languages.includes(language) ? language : languages[0]);
      }
    }
    if (language === "english" || NOT_LATIN.has(language) || !LATIN.test(text)) return this.#stem(fold(text));
    return fold(this.#stem(text));
  }

  #stem(word, language) {
    if (this.language === null || characters(word) > LONGEST) return word;
    if (language === undefined && (this.language === "english" || NOT_LATIN.has(this.language))) return english(word);
    return this.stems.get(language ?? "")?.get(word) ?? word;
  }
}

const encoder = new TextEncoder();
const known = new Map();

/** 46 bits of a word's hash. */
export function termId(word) {
  let id = known.get(word);
  if (id === undefined) {
    const digest = blake2b(encoder.encode(word), 6);
    id = 0;
    for (let byte = 0n; byte < 6n; byte++) id = id * 256 + Number((digest >> (8n * byte)) & 255n);
    id = Math.floor(id / 4);
    if (known.size > 50000) known.clear();
    known.set(word, id);
  }
  return id;
}

const characters = (text) => (ASCII.test(text) ? text.length : Array.from(text).length);

// Python's str.casefold where it differs from toLowerCase(toUpperCase()).
function casefold(text) {
  return Array.from(text, (character) => {
    if (character === "\u0131") return character; // the dotless i stays
    if (/[\u13a0-\u13f5\u13f8-\u13fd\uab70-\uabbf]/.test(character)) return character.toUpperCase(); // Cherokee folds up
    return character.toLowerCase().toUpperCase().toLowerCase();
  }).join("").replaceAll("\u03c2", "\u03c3"); // prettier-ignore
}

/** One form for characters that mean the same; lower case. */
function compose(text) {
  return casefold(text.normalize("NFKC")).normalize("NFC");
}

/** Lower case, without accents. */
function fold(text) {
  if (ASCII.test(text)) return text.toLowerCase();
  const composed = compose(text);
  if (CYRILLIC.test(composed)) return composed;
  return composed.normalize("NFD").replace(ACCENTS, "").normalize("NFC");
}

/** For tests. */
export const folding = { casefold, compose, fold };
