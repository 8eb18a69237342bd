// Whether the model can read a text, as spladelite/encoders/reading.py tells it.

const LOOKED_AT = 1024; // characters of a long text
const STRETCHES = 4; // in which they are taken

const WORD = /[\p{L}\p{M}\p{N}]/u;
const HAN = /[\p{Unified_Ideograph}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/u;
const DIGIT = /[0-9]/;

/** Whether at least half of a text's letters and digits are in tokens that mean something. */
export function reads(text, tokenizer) {
  const { latin } = tokenizer.settings.reads;
  let characters = Array.from(text);
  if (characters.length > LOOKED_AT) {
    const step = Math.floor(characters.length / STRETCHES);
    const size = LOOKED_AT / STRETCHES;
    text = Array.from({ length: STRETCHES }, (_, i) => characters.slice(i * step, i * step + size).join("")).join(" ");
    characters = Array.from(text);
  }
  if (latin) {
    const letters = characters.filter((character) => /[A-Za-z0-9]/.test(character)).length;
    const others = characters.filter((character) => character.codePointAt(0) > 127).length;
    if (letters >= others) return true;
  }
  return share(text, characters, tokenizer) >= 0.5;
}

function share(text, characters, tokenizer) {
  const { unknown, han } = tokenizer.settings.reads;
  const tokens = tokenizer.tokenize(text);
  // By UTF-16 unit: is it of a word, of one that goes on beside it, and how many of a word's characters are before it.
  const joins = new Uint8Array(text.length + 1);
  const before = new Int32Array(text.length + 1);
  let place = 0;
  const letters = characters.map((character) => {
    const [word, ofHan] = [WORD.test(character), HAN.test(character)];
    const letter = { place, word, ofHan, digit: DIGIT.test(character) };
    for (let i = 0; i < character.length; i++, place++) {
      joins[place] = word && !(han && ofHan) ? 1 : 0;
      before[place + 1] = before[place] + (word && i === 0 ? 1 : 0);
    }
    return letter;
  });
  const kept = new Uint8Array(text.length);
  const lost = new Uint8Array(text.length);
  tokens.forEach(({ term, start, end }, i) => {
    const shared = tokens[i - 1]?.start === start || tokens[i + 1]?.start === start;
    let cut = before[end] - before[start] < 2 && (joins[start - 1] > 0 || joins[end] > 0);
    if (HAN.test(String.fromCodePoint(text.codePointAt(start)))) cut = !han;
    kept.fill(1, start, end);
    if (cut || shared || unknown.includes(term)) lost.fill(1, start, end);
  });
  const total = letters.filter(({ place, word }) => word && kept[place]).length;
  const missing = letters.filter(({ place, word, digit }) => word && !digit && lost[place]).length;
  return total ? 1 - missing / total : 1;
}
