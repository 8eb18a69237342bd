// BERT's WordPiece tokenizer, as the `tokenizers` library runs it, with places in the original text.

const CHINESE = /[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u{20000}-\u{2a6df}\u{2a700}-\u{2b81f}\u{2b820}-\u{2ceaf}\u{2f800}-\u{2fa1f}]/u;
const REMOVED = /[\0\ufffd\p{C}]/u;
const SPACE = /[\t\n\r\p{Z}]/u;
const PUNCTUATION = /[!-/:-@[-`{-~\p{P}]/u;

/** @typedef {{ term: number, start: number, end: number }} Token places count UTF-16 units */

export class Tokenizer {
  /** @param {object} settings of boot.bin @param {string[]} terms the vocabulary */
  constructor(settings, terms) {
    this.settings = settings;
    this.terms = new Map();
    terms.forEach((term, id) => term && this.terms.set(term, id));
    this.known = new Map(); // character: what it becomes
  }

  /** @returns {Token[]} */
  tokenize(text) {
    const tokens = [];
    let word = [];
    const finish = () => {
      if (word.length) this.#pieces(word, tokens);
      word = [];
    };
    let place = 0;
    for (const character of text) {
      const end = place + character.length;
      for (const part of this.#normalized(character)) {
        if (part === " ") finish();
        else if (part.alone) {
          finish();
          this.#pieces([{ text: part.text, start: place, end }], tokens);
        } else word.push({ text: part.text, start: place, end });
      }
      place = end;
    }
    finish();
    return tokens;
  }

  /** The characters that one character becomes: " " ends a word, `alone` is a word of its own. */
  #normalized(character) {
    let parts = this.known.get(character);
    if (!parts) {
      parts = this.#normalize(character);
      if (this.known.size < 20000) this.known.set(character, parts);
    }
    return parts;
  }

  #normalize(character) {
    const { cleanText, chinese, stripAccents, lowercase } = this.settings;
    let text = character;
    if (cleanText) {
      if (SPACE.test(text)) return [" "];
      if (REMOVED.test(text)) return [];
    }
    const alone = chinese && CHINESE.test(text);
    if (stripAccents) text = text.normalize("NFD").replace(/\p{Mn}/gu, "");
    if (lowercase) text = Array.from(text, (part) => part.toLowerCase()).join("");
    const parts = Array.from(text, (part) =>
      SPACE.test(part) ? " " : { text: part, alone: alone || PUNCTUATION.test(part) },
    );
    return alone ? [" ", ...parts, " "] : parts;
  }

  /** Greedy longest match first; a word with a part that the vocabulary lacks is one unknown token. */
  #pieces(word, tokens) {
    const { prefix, longestWord, unknown } = this.settings;
    const whole = { term: unknown, start: word[0].start, end: word[word.length - 1].end };
    if (word.length > longestWord) {
      if (unknown !== null) tokens.push(whole);
      return;
    }
    const found = [];
    for (let start = 0; start < word.length; ) {
      let end = word.length;
      let term;
      for (; end > start; end--) {
        let text = start ? prefix : "";
        for (let i = start; i < end; i++) text += word[i].text;
        term = this.terms.get(text);
        if (term !== undefined) break;
      }
      if (term === undefined) {
        if (unknown !== null) tokens.push(whole);
        return;
      }
      found.push({ term, start: word[start].start, end: word[end - 1].end });
      start = end;
    }
    tokens.push(...found);
  }
}
