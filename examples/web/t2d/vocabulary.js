// Vocabulary files, as `t2d classes ... --output F.safetensors` writes them. docs/segmenter-graph.md has the format.

import { InputError } from "./errors.js";
import { sha256 } from "./sha256.js";

const FORMAT = "t2d-vocabulary";
const VERSION = "1";
const TENSOR = "text_embeds";
const LENGTH_BYTES = 8; // of the header's length, at the start of every safetensors file

/**
 * @typedef {object} Vocabulary
 * @property {string[]} names N words
 * @property {Float32Array} vectors N x D, row after row, each of norm 1
 * @property {number} width D
 * @property {string} digest identity of the text encoder and tokenizer that made the vectors
 */

/**
 * Read a vocabulary file.
 * @param {Uint8Array} bytes the file
 * @param {string} name the file's name in messages
 * @returns {Promise<Vocabulary>}
 * @throws {InputError} for anything else
 */
export async function readVocabulary(bytes, name) {
  try {
    return await parse(bytes);
  } catch (error) {
    // Errors of parsers on other bytes: not JSON, not UTF-8, or another structure.
    if (!(error instanceof SyntaxError || error instanceof TypeError || error instanceof RangeError)) throw error;
    throw new InputError(
      `${name} is not a vocabulary file (${error.message}); make one with 't2d classes --output F.safetensors'`,
    );
  }
}

/** @param {Uint8Array} bytes */
async function parse(bytes) {
  const { header, data } = split(bytes);
  const { format, version, names, digest, sha256: checksum } = header.__metadata__ ?? {};
  if (format !== FORMAT) throw new TypeError(`its format is ${format}, expected ${FORMAT}`);
  if (version !== VERSION) throw new TypeError(`version ${version} of the format, expected ${VERSION}`);

  const { dtype, shape, data_offsets: offsets } = header[TENSOR];
  if (dtype !== "F32" || shape.length !== 2) {
    throw new TypeError(`${TENSOR} is ${dtype} [${shape}], expected F32 [N,D]`);
  }
  const size = shape[0] * shape[1] * Float32Array.BYTES_PER_ELEMENT;
  if (offsets[0] !== 0 || offsets[1] !== size || data.length !== size) {
    throw new RangeError(`${data.length} bytes of vectors, expected ${size}: it is cut short or damaged`);
  }
  const words = JSON.parse(names);
  if (words.length !== shape[0]) throw new RangeError(`${shape[0]} vectors for ${words.length} words`);
  if ((await sha256(new TextEncoder().encode(names), data)) !== checksum) {
    throw new TypeError("its content does not have its checksum: it is damaged");
  }
  return { names: words, vectors: new Float32Array(new Uint8Array(data).buffer), width: shape[1], digest };
}

/**
 * The JSON header of a safetensors file, and the bytes after it.
 * @param {Uint8Array} bytes
 */
function split(bytes) {
  if (bytes.length < LENGTH_BYTES) throw new RangeError(`${bytes.length} bytes`);
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const end = LENGTH_BYTES + length;
  if (end > bytes.length) throw new RangeError("no safetensors header, or it is cut short");
  const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(LENGTH_BYTES, end));
  return { header: JSON.parse(text), data: bytes.subarray(end) };
}

/**
 * The chosen words of a vocabulary, in the order given; case and space do not matter.
 * @param {Vocabulary} vocabulary
 * @param {string[]} words
 * @returns {Vocabulary}
 * @throws {InputError} for none, and for words that the vocabulary does not have
 */
export function chooseWords(vocabulary, words) {
  if (words.length === 0) throw new InputError("expected at least one word, got none");
  const places = new Map(vocabulary.names.map((name, index) => [key(name), index]));
  const missing = words.filter((word) => !places.has(key(word)));
  if (missing.length > 0) throw new InputError(missingWords(missing, vocabulary.names.length));
  const chosen = [...new Set(words.map((word) => places.get(key(word))))];
  const { width } = vocabulary;
  const vectors = new Float32Array(chosen.length * width);
  chosen.forEach((index, row) => {
    vectors.set(vocabulary.vectors.subarray(index * width, (index + 1) * width), row * width);
  });
  return { ...vocabulary, names: chosen.map((index) => vocabulary.names[index]), vectors };
}

/**
 * Advice about words that a vocabulary does not have.
 * @param {string[]} words
 * @param {number} size of the vocabulary
 */
export function missingWords(words, size) {
  const list = words.map((word) => `“${word.trim()}”`).join(", ");
  const again = `t2d classes BUNDLE --classes "${words.map((word) => word.trim()).join(",")}" --output F.safetensors`;
  return `${list}: not among the ${size} words of this vocabulary; make another: ${again}`;
}

/** Words that differ in case or space alone are the same. @param {string} word */
export function key(word) {
  return word.split(/\s+/).filter(Boolean).join(" ").toLowerCase();
}
