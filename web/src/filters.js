// `where` as in Python, over the columns of the metadata: see spladelite/documents/filters.py for what holds when.
import { container } from "./bytes.js";
import { SpladeLiteError } from "./errors.js";

const OPERATORS = "$eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $exists, $not";
const MISSING = Symbol("missing");
const OTHER = Symbol("a list or an object");

/** @typedef {{ values: unknown[], codes: Uint8Array | Uint16Array | Uint32Array }} Column */

/** @returns {Column} */
export function readColumn(bytes, documents) {
  const { header, rest } = container(bytes, "a metadata column");
  const Codes = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array }[header.width];
  const codes = new Codes(rest.slice(0, documents * header.width).buffer);
  if (codes.length !== documents) throw new SpladeLiteError("a metadata column contradicts itself; export again");
  return { values: [MISSING, OTHER, ...header.values], codes };
}

/** How many documents have each value: [value, count], most frequent first. */
export function valueCounts({ values, codes }, allowed) {
  const counts = new Uint32Array(values.length);
  for (let i = 0; i < codes.length; i++) if (!allowed || allowed[i]) counts[codes[i]]++;
  return values
    .map((value, code) => [value, counts[code]])
    .filter(([value, count]) => count && value !== MISSING && value !== OTHER)
    .sort((a, b) => b[1] - a[1]);
}

/** The metadata fields that a filter names, as paths. */
export function fieldsOf(where) {
  const fields = new Set();
  walk(where, (path) => fields.add(path));
  return [...fields];
}

/**
 * Which documents match.
 * @param {object} where @param {Map<string, Column>} columns by path; a field that no document has may be missing
 * @returns {Uint8Array} 1 for each document that does
 */
export function matching(where, columns, documents) {
  const all = new Uint8Array(documents).fill(1);
  for (const [key, operand] of Object.entries(checkedObject(where))) {
    if (key === "$and" || key === "$or") {
      const parts = list(key, operand).map((part) => matching(part, columns, documents));
      and(all, parts.reduce((left, right) => (key === "$and" ? and(left, right) : or(left, right))));
    } else if (key === "$not") and(all, complement(matching(operand, columns, documents)));
    else {
      const column = columns.get(normalPath(key));
      const holds = valueTest(key, operand);
      if (!column) {
        if (!holds(MISSING)) all.fill(0);
        continue;
      }
      const table = Uint8Array.from(column.values, (value) => (holds(value) ? 1 : 0));
      for (let i = 0; i < documents; i++) all[i] &= table[column.codes[i]];
    }
  }
  return all;
}

function walk(where, field) {
  for (const [key, operand] of Object.entries(checkedObject(where))) {
    if (key === "$and" || key === "$or") list(key, operand).forEach((part) => walk(part, field));
    else if (key === "$not") walk(operand, field);
    else if (key.startsWith("$")) {
      throw new SpladeLiteError(`"${key}" is not an operator that holds conditions; known are $and, $or, $not (inside a key: ${OPERATORS}; a key that begins with $ is written "\\\\${key}")`);
    } else {
      valueTest(key, operand);
      field(normalPath(key));
    }
  }
}

/** A test of one value of the field. */
function valueTest(path, operand) {
  if (!isObject(operand)) return equals(path, "$eq", operand);
  const entries = Object.entries(operand);
  if (!entries.length) throw new SpladeLiteError(`"${path}": an empty object has no operator; use one of ${OPERATORS}`);
  const tests = entries.map(([operator, value]) => {
    if (operator === "$eq") return equals(path, operator, value);
    if (operator === "$ne") return not(equals(path, operator, value));
    if (operator === "$in") return member(path, operator, value);
    if (operator === "$nin") return not(member(path, operator, value));
    if (operator === "$exists") {
      if (typeof value !== "boolean") throw new SpladeLiteError(`"${path}": $exists takes true or false, not ${show(value)}`);
      return (found) => (found !== MISSING) === value;
    }
    if (operator === "$not") {
      if (!isObject(value)) throw new SpladeLiteError(`"${path}": $not takes an object of operators, not ${show(value)}; or use $ne`);
      return not(valueTest(path, value));
    }
    if (["$gt", "$gte", "$lt", "$lte"].includes(operator)) return range(path, operator, value);
    throw new SpladeLiteError(`"${path}": unknown operator ${show(operator)}; known are ${OPERATORS}; a field of a nested object is reached by a dot: "a.b"`);
  });
  return (value) => tests.every((test) => test(value));
}

function equals(path, operator, wanted) {
  if (wanted === null) return (value) => value === null || value === MISSING;
  checkedScalar(path, operator, wanted);
  return (value) => value === wanted; // of one type, so that 1 is neither true nor "1"
}

function member(path, operator, values) {
  if (!Array.isArray(values)) throw new SpladeLiteError(`"${path}": ${operator} takes a list of values, not ${show(values)}`);
  const tests = values.map((value) => equals(path, operator, value));
  return (value) => tests.some((test) => test(value));
}

function range(path, operator, bound) {
  if (typeof bound !== "number" && typeof bound !== "string") {
    throw new SpladeLiteError(`"${path}": ${operator} compares numbers or strings; ${show(bound)} has no order`);
  }
  checkedScalar(path, operator, bound);
  const holds = { $gt: (o) => o > 0, $gte: (o) => o >= 0, $lt: (o) => o < 0, $lte: (o) => o <= 0 }[operator];
  return (value) => typeof value === typeof bound && holds(typeof bound === "number" ? value - bound : codeOrder(value, bound));
}

/** Order by code point, which is SQLite's; JavaScript's own is by UTF-16 unit. */
function codeOrder(a, b) {
  if (a === b) return 0;
  let i = 0;
  while (i < a.length && a[i] === b[i]) i++;
  if (i >= a.length || i >= b.length) return a.length - b.length;
  if (i && isLow(a.charCodeAt(i)) && isLow(b.charCodeAt(i))) i--;
  return a.codePointAt(i) - b.codePointAt(i);
}

const isLow = (unit) => unit >= 0xdc00 && unit <= 0xdfff;

/** A path as the columns are named: a backslash before dots inside a key, and before a dollar sign at its beginning. */
export function normalPath(path) {
  return path
    .split(/(?<!\\)\./)
    .map((label) => label.replace(/\\([.$])/g, "$1").replaceAll(".", "\\.").replace(/^\$/, "\\$"))
    .join(".");
}

function checkedScalar(path, operator, value) {
  const fits = typeof value === "boolean" || typeof value === "string" || (typeof value === "number" && Number.isFinite(value));
  if (!fits) throw new SpladeLiteError(`"${path}": ${operator} takes a string, a finite number, true, false or null, not ${show(value)}`);
}

function checkedObject(where) {
  if (typeof where === "string") throw new SpladeLiteError('a SQL condition works in Python only; give an object, such as { year: 2020 }');
  if (!isObject(where)) throw new SpladeLiteError(`${show(where)} stands where a filter was expected; give an object, such as { year: 2020 }`);
  return where;
}

function list(key, operand) {
  if (!Array.isArray(operand) || !operand.length) throw new SpladeLiteError(`${key} takes a list of at least one object, not ${show(operand)}`);
  return operand;
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const not = (test) => (value) => !test(value);
const show = (value) => (typeof value === "symbol" || typeof value === "function" ? String(value) : JSON.stringify(value))?.slice(0, 80);

function and(left, right) {
  for (let i = 0; i < left.length; i++) left[i] &= right[i];
  return left;
}

function or(left, right) {
  for (let i = 0; i < left.length; i++) left[i] |= right[i];
  return left;
}

function complement(mask) {
  for (let i = 0; i < mask.length; i++) mask[i] ^= 1;
  return mask;
}
