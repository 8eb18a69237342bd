// Porter's second stemmer for English, as Snowball 3.1 defines it (snowballstem.org/algorithms/english/stemmer.html):
// the stems that PyStemmer gives. Words come in lower case.

const INVARIANT = ["andes", "atlas", "bias", "cosmos", "howe", "news", "sky"];
const SPECIAL = new Map([
  ...INVARIANT.map((word) => [word, word]),
  ["skis", "ski"], ["skies", "sky"], ["idly", "idl"], ["gently", "gentl"],
  ["ugly", "ugli"], ["early", "earli"], ["only", "onli"], ["singly", "singl"],
]); // prettier-ignore
const PREFIX = /^(arsen|commun|emerg|gener|inter|later|organ|past|univers)/;
const VOWEL = /[aeiouy]/;
const KEEPS_ING = new Set(["even", "cann", "inn", "earr", "herr", "out"]);

const STEP_2 = endings({
  tional: "tion", enci: "ence", anci: "ance", abli: "able", entli: "ent", izer: "ize", ization: "ize", ational: "ate",
  ation: "ate", ator: "ate", alism: "al", aliti: "al", alli: "al", fulness: "ful", fulli: "ful", ousli: "ous",
  ousness: "ous", iveness: "ive", iviti: "ive", biliti: "ble", bli: "ble", ogi: "og", ogist: "og", lessli: "less", li: "",
}); // prettier-ignore
const STEP_3 = endings({
  tional: "tion", ational: "ate", alize: "al", icate: "ic", iciti: "ic", ical: "ic", ful: "", ness: "", ative: "",
}); // prettier-ignore
const STEP_4 = endings(Object.fromEntries(
  "al ance ence er ic able ible ant ement ment ent ism ate iti ous ive ize ion".split(" ").map((ending) => [ending, ""]),
)); // prettier-ignore

/** [ending, what takes its place], longest first. */
function endings(table) {
  return Object.entries(table).sort((a, b) => b[0].length - a[0].length);
}

/** The stem of a word. */
export function english(word) {
  if (SPECIAL.has(word)) return SPECIAL.get(word);
  if (word.length < 3) return word;
  let stem = markedY(word.replace(/^'/, ""));
  const [r1, r2] = regions(stem);
  stem = plural(stem.replace(/('|'s|'s')$/, ""));
  stem = past(stem, r1);
  if (/[^aeiouy][yY]$/.test(stem) && stem.length > 2) stem = `${stem.slice(0, -1)}i`;
  stem = replaced(stem, STEP_2, r1, (ending, before) => {
    if (ending === "ogi") return before.endsWith("l");
    return ending !== "li" || /[cdeghkmnrt]$/.test(before);
  });
  stem = replaced(stem, STEP_3, r1, (ending, before) => ending !== "ative" || before.length >= r2);
  stem = replaced(stem, STEP_4, r2, (ending, before) => ending !== "ion" || /[st]$/.test(before));
  stem = last(stem, r1, r2);
  return stem.replaceAll("Y", "y");
}

/** A y that begins the word or follows a vowel is a consonant: Y. */
function markedY(word) {
  let marked = "";
  for (const letter of word) {
    const consonant = letter === "y" && (!marked || VOWEL.test(marked[marked.length - 1]));
    marked += consonant ? "Y" : letter;
  }
  return marked;
}

/** Where R1 and R2 begin: after the first consonant that follows a vowel, and after the next such one. */
function regions(word) {
  const prefix = PREFIX.exec(word);
  const r1 = prefix ? prefix[0].length : after(word, 0);
  return [r1, after(word, r1)];
}

function after(word, start) {
  const found = /[aeiouy][^aeiouy]/.exec(word.slice(start));
  return found ? start + found.index + 2 : word.length;
}

function isShort(word) {
  return /[^aeiouy][aeiouy][^aeiouywxY]$/.test(word) || /^[aeiouy][^aeiouy]$/.test(word) || word.endsWith("past");
}

function plural(word) {
  if (word.endsWith("sses")) return word.slice(0, -2);
  if (/ie[ds]$/.test(word)) return word.slice(0, word.length > 4 ? -2 : -1);
  if (/us$|ss$/.test(word)) return word;
  return word.endsWith("s") && VOWEL.test(word.slice(0, -2)) ? word.slice(0, -1) : word;
}

function past(word, r1) {
  const ending = /(eedly|eed|ingly|edly|ing|ed)$/.exec(word)?.[0];
  if (!ending) return word;
  const before = word.slice(0, -ending.length);
  if (ending.startsWith("eed")) {
    const kept = before.length < r1 || ["succ", "proc", "exc"].includes(before);
    return kept ? word : `${before}ee`;
  }
  if (ending === "ing") {
    if (/^[^aeiouy]y$/.test(before)) return `${before[0]}ie`;
    if (KEEPS_ING.has(before)) return word;
  }
  if (!VOWEL.test(before)) return word;
  if (/(at|bl|iz)$/.test(before)) return `${before}e`;
  if (/(bb|dd|ff|gg|mm|nn|pp|rr|tt)$/.test(before)) return /^[aeo]..$/.test(before) ? before : before.slice(0, -1);
  return before.length === r1 && isShort(before) ? `${before}e` : before;
}

/** The longest ending that the word has gives way if it lies in the region from `start` on and `allowed` says so. */
function replaced(word, table, start, allowed) {
  const found = table.find(([ending]) => word.endsWith(ending));
  if (!found) return word;
  const before = word.slice(0, -found[0].length);
  return before.length >= start && allowed(found[0], before) ? before + found[1] : word;
}

function last(word, r1, r2) {
  const before = word.slice(0, -1);
  if (word.endsWith("e")) return before.length >= r2 || (before.length >= r1 && !isShort(before)) ? before : word;
  return word.endsWith("ll") && before.length >= r2 ? before : word;
}
