// Runs an exported model's graph: the operations that `spladelite models export` writes, in plain JavaScript.
//
// Values are { dims, data }, data a typed array in row-major order. Sums run in double precision and are rounded once,
// so results differ from ONNX Runtime's by its rounding. What depends on constants only is computed when the graph is
// loaded. A large constant matrix is kept as the rows of its transpose, so that a product is a run of dot products over
// neighbouring bytes; the int8 output layer of a vocabulary is most of the work.
import { checked, container } from "./bytes.js";
import { SpladeLiteError } from "./errors.js";

const ARRAYS = { f32: Float32Array, u8: Uint8Array, i8: Int8Array, i32: Int32Array };

/** @typedef {{ dims: number[], data: any, rows?: any }} Value `rows` of a matrix (K, N): its transpose (N, K) */

export class Graph {
  /** @param {Uint8Array} bytes unpacked */
  constructor(bytes) {
    const { header, rest } = container(bytes, "the encoder");
    this.header = header;
    /** Tables of which single rows are fetched: name -> [dtype, dims, start, bytes a row with its checksum] */
    this.rowTables = header.rows;
    const constants = new Map();
    for (const [name, [dtype, dims, start]] of Object.entries(header.tensors)) constants.set(name, tensor(rest, dtype, dims, start));
    this.nodes = [];
    for (const node of header.nodes) {
      if (!(node.op in OPERATIONS)) throw new SpladeLiteError(`this model has an operation ${node.op}, which this module cannot run; use idf queries`);
      if (node.in.every((name) => constants.has(name))) {
        run(node, constants);
      } else this.nodes.push(node);
    }
    const used = new Set(this.nodes.flatMap((node) => node.in));
    this.constants = new Map([...constants].filter(([name]) => used.has(name)));
  }

  /**
   * @param {number[]} ids @param {Map<string, Value>} rows for each table of `rowTables` the rows of `ids`, in order
   * @returns {Float32Array} pooled values over the vocabulary
   */
  run(ids, rows) {
    const values = new Map(this.constants);
    values.set(this.header.input, { dims: [ids.length], data: Int32Array.from(ids) });
    const last = new Map();
    this.nodes.forEach((node, i) => node.in.forEach((name) => last.set(name, i)));
    this.nodes.forEach((node, i) => {
      const table = rows.get(node.in[0]);
      if (table) values.set(node.out[0], table);
      else run(node, values);
      for (const name of node.in) if (last.get(name) === i) values.delete(name);
    });
    return values.get(this.header.output).data;
  }
}

/** One row of a table from its bytes. */
export function readRow(bytes, dtype, what) {
  const content = checked(bytes, what);
  return tensor(content, dtype, [content.length / { f32: 4, f16: 2, u8: 1, i8: 1, i32: 4 }[dtype]], 0).data;
}

/** Rows one under the other. */
export function stacked(rows) {
  const width = rows[0].length;
  const data = new rows[0].constructor(rows.length * width);
  rows.forEach((row, i) => data.set(row, i * width));
  return { dims: [rows.length, width], data };
}

function tensor(bytes, dtype, dims, start) {
  const count = dims.reduce((a, b) => a * b, 1);
  const size = { f32: 4, f16: 2, u8: 1, i8: 1, i32: 4 }[dtype];
  if (!size || start + count * size > bytes.length) throw new SpladeLiteError("the encoder contradicts itself; export again");
  const content = bytes.slice(start, start + count * size).buffer;
  if (dtype !== "f16") return { dims, data: new ARRAYS[dtype](content) };
  return { dims, data: Float32Array.from(new Uint16Array(content), half) };
}

function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function run(node, values) {
  const results = OPERATIONS[node.op](node, ...node.in.map((name) => values.get(name)));
  (Array.isArray(results) ? results : [results]).forEach((result, i) => values.set(node.out[i], result));
}

const product = (dims) => dims.reduce((a, b) => a * b, 1);
const axisOf = (axis, rank) => (axis < 0 ? axis + rank : axis);
const floats = (dims) => new Float32Array(product(dims));

/** Element by element, with NumPy's broadcasting. */
function elementwise(a, b, compute) {
  const rank = Math.max(a.dims.length, b.dims.length);
  const left = [...Array(rank - a.dims.length).fill(1), ...a.dims];
  const right = [...Array(rank - b.dims.length).fill(1), ...b.dims];
  const dims = left.map((size, i) => (size === 1 ? right[i] : size));
  const integers = !(a.data instanceof Float32Array) && !(b.data instanceof Float32Array);
  const data = integers ? new Int32Array(product(dims)) : floats(dims);
  const strides = (of) => {
    let stride = 1;
    return of.map((_, i) => of[rank - 1 - i]).map((size) => {
      const own = size === 1 ? 0 : stride;
      stride *= size;
      return own;
    }).reverse();
  };
  const [sa, sb] = [strides(left), strides(right)];
  const place = new Array(rank).fill(0);
  let [ia, ib] = [0, 0];
  for (let i = 0; i < data.length; i++) {
    data[i] = compute(a.data[ia], b.data[ib]);
    for (let axis = rank - 1; axis >= 0; axis--) {
      ia += sa[axis];
      ib += sb[axis];
      if (++place[axis] < dims[axis]) break;
      ia -= sa[axis] * dims[axis];
      ib -= sb[axis] * dims[axis];
      place[axis] = 0;
    }
  }
  return { dims, data };
}

function map(x, compute) {
  const data = new Float32Array(x.data.length);
  for (let i = 0; i < data.length; i++) data[i] = compute(x.data[i]);
  return { dims: x.dims, data };
}

/** The rows of the transpose of a matrix (K, N), kept with it. */
function rowsOf(matrix) {
  if (!matrix.rows) matrix.rows = transposed(matrix.data, matrix.dims[0], matrix.dims[1]);
  return matrix.rows;
}

function transposed(data, rows, columns) {
  const result = new data.constructor(data.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) result[j * rows + i] = data[i * columns + j];
  return result;
}

/** out (T, N) = x (T, K) · rows (N, K)ᵀ, four rows of x at a time so that each weight is read once for them. */
function dotProducts(x, rows, count, width, size, out, scale, shift) {
  let t = 0;
  for (; t + 4 <= count; t += 4) {
    const [a, b, c, d] = [t * width, (t + 1) * width, (t + 2) * width, (t + 3) * width];
    for (let n = 0, w = 0; n < size; n++) {
      let [s0, s1, s2, s3] = [0, 0, 0, 0];
      for (let k = 0; k < width; k++, w++) {
        const weight = rows[w];
        s0 += x[a + k] * weight;
        s1 += x[b + k] * weight;
        s2 += x[c + k] * weight;
        s3 += x[d + k] * weight;
      }
      const more = shift ? shift[n] : 0;
      out[t * size + n] = s0 * scale + more;
      out[(t + 1) * size + n] = s1 * scale + more;
      out[(t + 2) * size + n] = s2 * scale + more;
      out[(t + 3) * size + n] = s3 * scale + more;
    }
  }
  for (; t < count; t++) {
    const a = t * width;
    for (let n = 0, w = 0; n < size; n++) {
      let sum = 0;
      for (let k = 0; k < width; k++, w++) sum += x[a + k] * rows[w];
      out[t * size + n] = sum * scale + (shift ? shift[n] : 0);
    }
  }
}

const PAIR = 2 ** 26; // sums of products of bytes stay below half of it

/**
 * The same with bytes. Two rows of x share one double, a + b · 2^26: a multiplication does the work of two, and the sums,
 * whole numbers below 2^52, are exact. Three such pairs at a time keep the weights in registers.
 */
function integerDotProducts(x, rows, count, width, size, out, scale) {
  const pairs = Math.ceil(count / 2);
  const packed = new Float64Array(pairs * width);
  for (let t = 0; t < count; t++) {
    for (let k = 0; k < width; k++) packed[(t >> 1) * width + k] += x[t * width + k] * (t & 1 ? PAIR : 1);
  }
  const put = (pair, n, sum) => {
    const high = Math.round(sum / PAIR);
    out[2 * pair * size + n] = (sum - high * PAIR) * scale;
    if (2 * pair + 1 < count) out[(2 * pair + 1) * size + n] = high * scale;
  };
  let pair = 0;
  for (; pair + 3 <= pairs; pair += 3) {
    const [a, b, c] = [pair * width, (pair + 1) * width, (pair + 2) * width];
    for (let n = 0, w = 0; n < size; n++) {
      let s0 = 0, s1 = 0, s2 = 0; // prettier-ignore
      for (let k = 0; k < width; k++, w++) {
        const weight = rows[w];
        s0 += packed[a + k] * weight;
        s1 += packed[b + k] * weight;
        s2 += packed[c + k] * weight;
      }
      put(pair, n, s0);
      put(pair + 1, n, s1);
      put(pair + 2, n, s2);
    }
  }
  for (; pair < pairs; pair++) {
    const a = pair * width;
    for (let n = 0, w = 0; n < size; n++) {
      let sum = 0;
      for (let k = 0; k < width; k++, w++) sum += packed[a + k] * rows[w];
      put(pair, n, sum);
    }
  }
}

function split(node, x, sizes) {
  const axis = axisOf(node.axis ?? 0, x.dims.length);
  const total = x.dims[axis];
  const parts = node.num_outputs ?? node.out.length;
  const each = sizes ? [...sizes.data] : Array.from({ length: parts }, (_, i) => Math.min(Math.ceil(total / parts), total - i * Math.ceil(total / parts)));
  let start = 0;
  return each.map((size) => {
    const part = slice(x, axis, start, start + size);
    start += size;
    return part;
  });
}

function slice(x, axis, start, end) {
  const dims = x.dims.map((size, i) => (i === axis ? end - start : size));
  if (x.rows && axis === 1) {
    const rows = x.rows.subarray(start * x.dims[0], end * x.dims[0]);
    return { dims, rows, get data() { return transposed(rows, dims[1], dims[0]); } };
  }
  const inner = product(x.dims.slice(axis + 1));
  const outer = product(x.dims.slice(0, axis));
  const data = new x.data.constructor(product(dims));
  for (let i = 0; i < outer; i++) {
    const from = (i * x.dims[axis] + start) * inner;
    data.set(x.data.subarray(from, from + (end - start) * inner), i * (end - start) * inner);
  }
  return { dims, data };
}

function transpose(node, x) {
  const rank = x.dims.length;
  const perm = node.perm ?? [...Array(rank).keys()].reverse();
  const dims = perm.map((axis) => x.dims[axis]);
  // Of a matrix, the rows of the transpose's transpose are the matrix itself.
  if (rank === 2 && perm[0] === 1) return { dims, rows: x.data, get data() { return transposed(x.data, ...x.dims); } };
  const strides = x.dims.map((_, i) => product(x.dims.slice(i + 1)));
  const data = new x.data.constructor(x.data.length);
  const place = new Array(rank).fill(0);
  for (let i = 0; i < data.length; i++) {
    let from = 0;
    for (let axis = 0; axis < rank; axis++) from += place[axis] * strides[perm[axis]];
    data[i] = x.data[from];
    for (let axis = rank - 1; axis >= 0 && ++place[axis] === dims[axis]; axis--) place[axis] = 0;
  }
  return { dims, data };
}

function gather(node, table, ids) {
  if ((node.axis ?? 0) !== 0) throw new SpladeLiteError("this model gathers along another axis than the first; use idf queries");
  const width = product(table.dims.slice(1));
  const data = new table.data.constructor(ids.data.length * width);
  ids.data.forEach((id, i) => data.set(table.data.subarray(id * width, (id + 1) * width), i * width));
  return { dims: [...ids.dims, ...table.dims.slice(1)], data };
}

function matmul(a, b) {
  const [count, width] = a.dims.slice(-2);
  const size = b.dims[b.dims.length - 1];
  if (b.dims.length === 2) {
    const all = product(a.dims.slice(0, -1));
    const dims = [...a.dims.slice(0, -1), size];
    const data = floats(dims);
    dotProducts(a.data, rowsOf(b), all, width, size, data, 1, null);
    return { dims, data };
  }
  const batch = product(a.dims.slice(0, -2));
  const dims = [...a.dims.slice(0, -1), size];
  const data = floats(dims);
  for (let i = 0; i < batch; i++) {
    const rows = transposed(b.data.subarray(i * width * size, (i + 1) * width * size), width, size);
    const part = a.data.subarray(i * count * width, (i + 1) * count * width);
    dotProducts(part, rows, count, width, size, data.subarray(i * count * size, (i + 1) * count * size), 1, null);
  }
  return { dims, data };
}

function layerNorm(node, x, gain, bias) {
  const width = x.dims[x.dims.length - 1];
  const data = new Float32Array(x.data.length);
  for (let start = 0; start < data.length; start += width) {
    let mean = 0;
    for (let i = start; i < start + width; i++) mean += x.data[i];
    mean /= width;
    let variance = 0;
    for (let i = start; i < start + width; i++) variance += (x.data[i] - mean) ** 2;
    const factor = 1 / Math.sqrt(variance / width + node.epsilon);
    for (let i = 0; i < width; i++) data[start + i] = (x.data[start + i] - mean) * factor * gain.data[i] + (bias ? bias.data[i] : 0);
  }
  return { dims: x.dims, data };
}

function softmax(node, x) {
  const width = x.dims[x.dims.length - 1];
  const data = new Float32Array(x.data.length);
  for (let start = 0; start < data.length; start += width) {
    let most = -Infinity;
    for (let i = start; i < start + width; i++) most = Math.max(most, x.data[i]);
    let sum = 0;
    for (let i = start; i < start + width; i++) sum += Math.exp(x.data[i] - most);
    for (let i = start; i < start + width; i++) data[i] = Math.exp(x.data[i] - most) / sum;
  }
  return { dims: x.dims, data };
}

/** erf by its series, or its continued fraction where that is shorter; exact to double precision's last few bits. */
export function erf(x) {
  const size = Math.abs(x);
  if (size > 6) return Math.sign(x);
  if (size < 3) {
    let term = x;
    let sum = x;
    for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
      term *= (2 * x * x) / (2 * n + 1);
      sum += term;
    }
    return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
  }
  let fraction = 0;
  for (let n = 60; n > 0; n--) fraction = n / 2 / (size + fraction);
  return Math.sign(x) * (1 - Math.exp(-x * x) / (Math.sqrt(Math.PI) * (size + fraction)));
}

function concat(node, ...parts) {
  const axis = axisOf(node.axis, parts[0].dims.length);
  const dims = [...parts[0].dims];
  dims[axis] = parts.reduce((sum, part) => sum + part.dims[axis], 0);
  const inner = product(dims.slice(axis + 1));
  const outer = product(dims.slice(0, axis));
  const data = new parts[0].data.constructor(product(dims));
  let place = 0;
  for (let i = 0; i < outer; i++) {
    for (const part of parts) {
      const length = part.dims[axis] * inner;
      data.set(part.data.subarray(i * length, (i + 1) * length), place);
      place += length;
    }
  }
  return { dims, data };
}

function reduce(node, x, axes, combine) {
  const axis = axisOf(axes.data[0], x.dims.length);
  const inner = product(x.dims.slice(axis + 1));
  const outer = product(x.dims.slice(0, axis));
  const length = x.dims[axis];
  const data = new Float32Array(outer * inner);
  for (let i = 0; i < outer; i++) {
    for (let j = 0; j < inner; j++) {
      let value = x.data[i * length * inner + j];
      for (let n = 1; n < length; n++) value = combine(value, x.data[(i * length + n) * inner + j]);
      data[i * inner + j] = value;
    }
  }
  const dims = x.dims.slice();
  if (node.keepdims === 0) dims.splice(axis, 1);
  else dims[axis] = 1;
  return { dims, data };
}

function quantize(x, scale, zero) {
  const data = new Uint8Array(x.data.length);
  for (let i = 0; i < data.length; i++) {
    const value = x.data[i] / scale.data[0];
    let rounded = Math.round(value);
    if (rounded - value === 0.5 && rounded % 2) rounded--; // half to even
    data[i] = Math.min(Math.max(rounded + zero.data[0], 0), 255);
  }
  return { dims: x.dims, data };
}

function reshape(x, shape) {
  const dims = [...shape.data].map((size, i) => (size === 0 ? x.dims[i] : size));
  const open = dims.indexOf(-1);
  if (open >= 0) dims[open] = x.data.length / dims.reduce((a, b) => (b === -1 ? a : a * b), 1);
  return { dims, data: x.data };
}

function sliced(x, starts, ends, axes) {
  let result = x;
  starts.data.forEach((start, i) => {
    const axis = axisOf(axes ? axes.data[i] : i, x.dims.length);
    const size = result.dims[axis];
    const bound = (place) => Math.min(place < 0 ? place + size : place, size);
    result = slice(result, axis, bound(start), bound(ends.data[i]));
  });
  return result;
}

/** Operations by name: a function of the node and its inputs. */
const OPERATIONS = {
  Abs: (node, x) => ({ dims: x.dims, data: x.data.map(Math.abs) }),
  Add: (node, a, b) => elementwise(a, b, (x, y) => x + y),
  Sub: (node, a, b) => elementwise(a, b, (x, y) => x - y),
  Mul: (node, a, b) => elementwise(a, b, (x, y) => x * y),
  Greater: (node, a, b) => elementwise(a, b, (x, y) => (x > y ? 1 : 0)),
  Cast: (node, x) => ({ dims: x.dims, data: node.to === 1 || node.to === 10 ? Float32Array.from(x.data) : Int32Array.from(x.data) }),
  Concat: concat,
  Gather: gather,
  Gelu: (node, x) => map(x, (value) => 0.5 * value * (1 + erf(value * Math.SQRT1_2))),
  Gemm: (node, x, matrix, bias) => {
    if (node.transA || (node.alpha ?? 1) !== 1 || (node.beta ?? 1) !== 1) {
      throw new SpladeLiteError("this model has a Gemm that this module cannot run; use idf queries");
    }
    const dims = [x.dims[0], matrix.dims[node.transB ? 0 : 1]];
    const data = floats(dims);
    dotProducts(x.data, node.transB ? matrix.data : rowsOf(matrix), dims[0], x.dims[1], dims[1], data, 1, bias?.data);
    return { dims, data };
  },
  Identity: (node, x) => x,
  LayerNormalization: layerNorm,
  Log: (node, x) => map(x, Math.log),
  MatMul: (node, a, b) => matmul(a, b),
  MatMulIntegerToFloat: (node, a, b, scaleA, scaleB) => {
    const dims = [...a.dims.slice(0, -1), b.dims[1]];
    const data = floats(dims);
    const width = a.dims[a.dims.length - 1];
    integerDotProducts(a.data, rowsOf(b), product(a.dims.slice(0, -1)), width, b.dims[1], data, scaleA.data[0] * scaleB.data[0]);
    return { dims, data };
  },
  QuantizeLinear: (node, x, scale, zero) => quantize(x, scale, zero),
  Range: (node, start, limit, delta) => {
    const count = Math.max(0, Math.ceil((limit.data[0] - start.data[0]) / delta.data[0]));
    return { dims: [count], data: Int32Array.from({ length: count }, (_, i) => start.data[0] + i * delta.data[0]) };
  },
  ReduceMax: (node, x, axes) => reduce(node, x, axes, (a, b) => (b > a ? b : a)),
  ReduceSum: (node, x, axes) => reduce(node, x, axes, (a, b) => a + b),
  Relu: (node, x) => map(x, (value) => Math.max(value, 0)),
  Reshape: (node, x, shape) => reshape(x, shape),
  Shape: (node, x) => ({ dims: [x.dims.length], data: Int32Array.from(x.dims) }),
  Slice: (node, x, starts, ends, axes) => sliced(x, starts, ends, axes),
  Softmax: softmax,
  Split: split,
  Squeeze: (node, x, axes) => {
    const rank = x.dims.length;
    const gone = axes ? [...axes.data].map((axis) => axisOf(axis, rank)) : x.dims.flatMap((size, i) => (size === 1 ? [i] : []));
    return { dims: x.dims.filter((_, i) => !gone.includes(i)), data: x.data };
  },
  Transpose: transpose,
  Unsqueeze: (node, x, axes) => {
    const dims = [...x.dims];
    [...axes.data].sort((a, b) => a - b).forEach((axis) => dims.splice(axisOf(axis, dims.length + 1), 0, 1));
    return { dims, data: x.data };
  },
  Where: (node, condition, a, b) => {
    const dims = condition.dims;
    const pick = (value, i) => value.data[value.data.length === 1 ? 0 : i];
    return { dims, data: Float32Array.from(condition.data, (holds, i) => pick(holds ? a : b, i)) };
  },
};
