// The bytes of an export: see spladelite/upkeep/web/lists.py for the grammar.
import { SpladeLiteError } from "./errors.js";

const CRC = Int32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

/** CRC-32 as zlib computes it. */
export function crc32(bytes, end = bytes.length) {
  let value = -1;
  for (let i = 0; i < end; i++) value = CRC[(value ^ bytes[i]) & 255] ^ (value >>> 8);
  return ~value >>> 0;
}

/** The bytes before their checksum; an error that names `what` if they do not have it. */
export function checked(bytes, what) {
  const end = bytes.length - 4;
  if (end < 0 || crc32(bytes, end) !== uint32(bytes, end)) {
    throw new SpladeLiteError(`${what} is damaged: its checksum does not match. Copy the exported folder to the host again`);
  }
  return bytes.subarray(0, end);
}

export function uint32(bytes, start) {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(start, true);
}

/** `count` varints from `start`; gives the numbers, and where the next byte is. */
export function varints(bytes, start, count) {
  const numbers = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    let value = 0;
    let factor = 1;
    let byte;
    do {
      if (start >= bytes.length) throw new SpladeLiteError("a list of numbers ends too early; export again");
      byte = bytes[start++];
      value += (byte & 127) * factor;
      factor *= 128;
    } while (byte > 127);
    numbers[i] = value;
  }
  return { numbers, end: start };
}

function lowBits(count, bound) {
  return 31 - Math.clz32(Math.max(Math.floor(bound / count), 1));
}

/** How many bytes `count` ascending numbers below `bound` take. */
export function ascendingLength(count, bound) {
  if (!count) return 0;
  const bits = lowBits(count, bound);
  return Math.ceil((count * bits) / 8) + Math.ceil((count + ((bound - 1) >>> bits)) / 8);
}

/** Elias–Fano: `count` ascending numbers below `bound`, as an Int32Array. */
export function ascending(bytes, count, bound, what) {
  const numbers = new Int32Array(count);
  if (!count) return numbers;
  const bits = lowBits(count, bound);
  const mask = (1 << bits) - 1;
  let place = Math.ceil((count * bits) / 8); // of the upper bits
  let high = 0;
  let found = 0;
  for (const end = ascendingLength(count, bound); place < end && found < count; place++) {
    const byte = bytes[place];
    for (let bit = 128; bit && found < count; bit >>= 1) {
      if (byte & bit) numbers[found++] = high;
      else high++;
    }
  }
  if (found < count) throw new SpladeLiteError(`${what} contradicts itself; export again`);
  let buffer = 0;
  let held = 0;
  let next = 0;
  let previous = -1;
  for (let i = 0; i < count; i++) {
    while (held < bits) {
      buffer = ((buffer << 8) | bytes[next++]) & 0x3fffffff;
      held += 8;
    }
    held -= bits;
    const number = (numbers[i] << bits) | ((buffer >> held) & mask);
    if (number <= previous || number >= bound) throw new SpladeLiteError(`${what} contradicts itself; export again`);
    previous = numbers[i] = number;
  }
  return numbers;
}

/** `count` numbers from 1 up in unary, as a Uint8Array. */
export function unary(bytes, count, what) {
  const numbers = new Uint8Array(count);
  let found = 0;
  let value = 1;
  for (let place = 0; place < bytes.length && found < count; place++) {
    const byte = bytes[place];
    for (let bit = 128; bit && found < count; bit >>= 1) {
      if (byte & bit) value++;
      else {
        numbers[found++] = value;
        value = 1;
      }
    }
  }
  if (found < count) throw new SpladeLiteError(`${what} contradicts itself; export again`);
  return numbers;
}

/** gunzip; `what` names the file in the error of a damaged one. */
export async function inflate(bytes, what) {
  try {
    const stream = new Response(bytes).body.pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch (error) {
    throw new SpladeLiteError(`${what} is damaged: it cannot be unpacked. Copy the exported folder to the host again`, {
      cause: error,
    });
  }
}

/** A header in JSON and the bytes after it. */
export function container(bytes, what) {
  try {
    const end = 4 + uint32(bytes, 0);
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, end)));
    return { header, rest: bytes.subarray(end) };
  } catch (error) {
    throw new SpladeLiteError(`${what} contradicts itself; export again`, { cause: error });
  }
}
