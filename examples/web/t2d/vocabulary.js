// Vocabulary files, as `t2d classes ... --output F.safetensors` writes them. docs/segmenter-graph.md has the format.

import { InputError, WordsError } from "./errors.js";
import { sha256 } from "./sha256.js";

const FORMAT = "t2d-vocabulary";
const PLAIN = "1"; // names alone
const WITH_PHRASES = "2";
/** Class index of a phrase that competes, and whose pixels become background. */
export const NEGATIVE = -1;
const TENSOR = "text_embeds";
const LENGTH_BYTES = 8; // of the header's length, at the start of every safetensors file

/**
 * @typedef {object} Vocabulary
 * @property {string[]} names N words, or classes of several phrases
 * @property {string[]} phrases P phrases: class after class, then negatives; the names where each is its own phrase
 * @property {number[]} classIndices the class of each phrase, or -1: it competes, and its pixels become background
 * @property {Record<string, number>} thresholds the score from 0 to 1 that a class must exceed to win over background,
 *   of the classes that have their own
 * @property {Float32Array} vectors P x D, row after row, each of norm 1
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
  const { format, version, digest, sha256: checksum, ...metadata } = header.__metadata__ ?? {};
  if (format !== FORMAT) throw new TypeError(`its format is ${format}, expected ${FORMAT}`);
  if (version !== PLAIN && version !== WITH_PHRASES) {
    throw new TypeError(`version ${version} of the format, expected ${PLAIN} or ${WITH_PHRASES}`);
  }

  const { dtype, shape, data_offsets: offsets } = header[TENSOR];
  if (dtype !== "F32" || shape.length !== 2) {
    throw new TypeError(`${TENSOR} is ${dtype} [${shape}], expected F32 [N,D]`);
  }
  const size = shape[0] * shape[1] * Float32Array.BYTES_PER_ELEMENT;
  if (offsets[0] !== 0 || offsets[1] !== size || data.length !== size) {
    throw new RangeError(`${data.length} bytes of vectors, expected ${size}: it is cut short or damaged`);
  }
  const fields = version === PLAIN ? ["names"] : ["names", "phrases", "class_indices", "thresholds"];
  const texts = fields.map((field) => metadata[field]);
  const [names, ...grouped] = texts.map((text) => JSON.parse(text));
  const words = readWords(names, ...grouped);
  if (words.phrases.length !== shape[0]) throw new RangeError(`${shape[0]} vectors for ${words.phrases.length} words`);
  if ((await sha256(new TextEncoder().encode(texts.join("")), data)) !== checksum) {
    throw new TypeError("its content does not have its checksum: it is damaged");
  }
  return { ...words, vectors: new Float32Array(new Uint8Array(data).buffer), width: shape[1], digest };
}

/**
 * Names, phrases, class indices and thresholds; where there are no phrases, each name is its own.
 * @param {string[]} names
 * @param {string[]} phrases
 * @param {number[]} indices
 * @param {Record<string, number>} thresholds
 */
function readWords(names, phrases = [], indices = [], thresholds = {}) {
  if (phrases.length === 0) [phrases, indices] = [names, names.map((_, index) => index)];
  const classes = indices.filter((index) => index !== NEGATIVE);
  const steps = classes.map((index, row) => index - (classes[row - 1] ?? -1));
  const rising = steps.every((step) => step === 0 || step === 1) && indices.slice(classes.length).every((i) => i < 0);
  if (indices.length !== phrases.length || !rising || classes.at(-1) !== names.length - 1) {
    throw new TypeError(`class indices ${indices}, expected one for each phrase, rising, then -1 for negatives`);
  }
  for (const [name, value] of Object.entries(thresholds)) {
    if (!names.includes(name) || !(value >= 0 && value <= 1)) {
      throw new TypeError(`the threshold of ${name} is ${value}, expected one of a class, from 0 to 1`);
    }
  }
  return { names, phrases, classIndices: indices, thresholds };
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
 * The chosen words of a vocabulary, in the order given, with their phrases and thresholds, and all negatives.
 *
 * Case and space do not matter.
 * @param {Vocabulary} vocabulary
 * @param {string[]} words
 * @returns {Vocabulary}
 * @throws {InputError} for none, and for words that the vocabulary does not have
 */
export function chooseWords(vocabulary, words) {
  if (words.length === 0) throw new WordsError("expected at least one word, got none");
  const places = new Map(vocabulary.names.map((name, index) => [key(name), index]));
  const missing = words.filter((word) => !places.has(key(word)));
  if (missing.length > 0) throw new WordsError(missingWords(missing, vocabulary.names.length));
  const chosen = [...new Set(words.map((word) => /** @type {number} */ (places.get(key(word)))))];
  const { width, classIndices } = vocabulary;
  const rows = [...chosen, NEGATIVE].flatMap((index) => classIndices.flatMap((of, row) => (of === index ? [row] : [])));
  const vectors = new Float32Array(rows.length * width);
  rows.forEach((row, place) => {
    vectors.set(vocabulary.vectors.subarray(row * width, (row + 1) * width), place * width);
  });
  const names = chosen.map((index) => vocabulary.names[index]);
  return {
    ...vocabulary,
    names,
    phrases: rows.map((row) => vocabulary.phrases[row]),
    classIndices: rows.map((row) => (classIndices[row] === NEGATIVE ? NEGATIVE : chosen.indexOf(classIndices[row]))),
    thresholds: Object.fromEntries(Object.entries(vocabulary.thresholds).filter(([name]) => names.includes(name))),
    vectors,
  };
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
