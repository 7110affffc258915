// A bundle's text encoder: words to vectors, as `encode_classes` of the Python runtime makes them.

import { readText } from "./cleaning.js";
import { InputError } from "./errors.js";
import { createSession, readFiles } from "./session.js";
import { Tokenizer } from "./tokenizer.js";

const TEXT_ENCODER = "text_encoder.onnx";
const LARGE_WEIGHTS = "text_encoder.onnx.data"; // beside the graph of a large model
const TOKENIZER = "tokenizer.json";
const DEFAULT_PROMPTS = "subset";

const MOST_TOKENS = 2048; // encoded at a time
const MOST_KNOWN = 16384; // vectors kept for words that come again
const MOST_LETTERS = 1000; // of a word: far more than the 75 tokens that are read
const LENGTH_TOLERANCE = 0.02; // of vectors, as in the Python runtime

/** Signs without a shape, as come along where words are copied from web pages. Joiners belong to some words, inside. */
const UNSEEN = /[\xad\u200b\u200e\u200f\u2060\u202a-\u202e\u2066-\u2069]|^[\u200c\u200d]+|[\u200c\u200d]+$/;

/**
 * @typedef {object} WordEncoderOptions
 * @property {any} ort the module onnxruntime-node, or onnxruntime-web
 * @property {any} [tokenizers] the module "@huggingface/tokenizers"; default: it is imported by that name
 * @property {string} [precision] of the text encoder; default: int8 where the bundle has it, a quarter of fp32's bytes
 * @property {object} [session] more options of the engine's session, such as executionProviders
 * @property {(progress: {loaded: number, total: number}) => void} [progress] bytes of the text encoder and tokenizer
 * @property {AbortSignal} [signal] gives the loading up
 * @property {(reason: string) => void} [uncached] told why the browser keeps no copy of a file
 *
 * @typedef {import("./cleaning.js").Reading & {cut: boolean}} WordReading how a word was read; `cut` where it is too long
 *   for the encoder, and its end has no effect
 *
 * @typedef {object} EncodedWords
 * @property {Float32Array} vectors N x D, row after row, each of norm 1
 * @property {WordReading[]} readings of each word
 */

/** A text encoder on one engine. Keeps the vectors of words that it knows. */
export class WordEncoder {
  /** @type {Map<string, Float32Array>} */
  #known = new Map();
  /** @type {Promise<unknown>} the engine runs once at a time */
  #last = Promise.resolve();

  /**
   * @param {any} ort
   * @param {any} session of the text encoder
   * @param {Tokenizer} tokenizer
   * @param {import("./manifest.js").Manifest} manifest
   * @param {string} precision
   */
  constructor(ort, session, tokenizer, manifest, precision) {
    this.ort = ort;
    this.session = session;
    this.tokenizer = tokenizer;
    this.manifest = manifest;
    this.precision = precision;
  }

  /**
   * Load a bundle's text encoder. In a browser its files are kept for the next time.
   * @param {import("./bundle.js").Bundle} bundle
   * @param {WordEncoderOptions} options
   * @returns {Promise<WordEncoder>}
   * @throws {InputError} where the bundle has none in this precision, or a file is not the exported one
   */
  static async open(bundle, { ort, tokenizers, precision, session = {}, progress, signal, uncached }) {
    const { manifest } = bundle;
    const chosen = precision ?? defaultPrecision(manifest);
    const paths = textFiles(manifest, chosen);
    const [library, [json, ...files]] = await Promise.all([
      tokenizers ?? import("@huggingface/tokenizers"),
      readFiles(bundle, paths, { progress, signal, uncached }),
    ]);
    const tokenizer = new Tokenizer(json, manifest.contextLength, library);
    const created = await createSession(ort, bundle.source, paths.slice(1), files, chosen, session);
    const encoder = new WordEncoder(ort, created, tokenizer, manifest, chosen);
    try {
      await encoder.#run([[tokenizer.encode("a first run takes longer").ids]], signal);
    } catch (error) {
      await encoder.close();
      throw error;
    }
    return encoder;
  }

  /**
   * Encode words.
   * @param {string[]} words
   * @param {object} [options]
   * @param {string | string[]} [options.prompts] name of a set of the bundle, or templates with "{}" for the word
   * @param {AbortSignal} [options.signal] gives the encoding up
   * @returns {Promise<EncodedWords>}
   * @throws {InputError} for a blank word, one with signs that are not seen, two that are read the same, and for prompts
   *   that there are not
   */
  async encode(words, { prompts = DEFAULT_PROMPTS, signal } = {}) {
    const templates = this.#templates(prompts);
    const readings = checkWords(words);
    const key = (/** @type {string} */ word) => JSON.stringify([word, templates]);
    const found = new Map(words.map((word) => [word, this.#known.get(key(word))]));
    const texts = words.map((word) => templates.map((template) => template.replaceAll("{}", () => word)));
    const tokens = texts.map((prompts_) => prompts_.map((text) => this.tokenizer.encode(text)));
    const missing = [...words.keys()].filter((row) => !found.get(words[row]));
    if (this.#known.size + missing.length > MOST_KNOWN) this.#known.clear();
    for (const rows of batches(tokens, missing)) {
      const vectors = await this.#run(rows.map((row) => tokens[row].map(({ ids }) => ids)), signal);
      rows.forEach((row, index) => {
        found.set(words[row], vectors[index]);
        this.#known.set(key(words[row]), vectors[index]);
      });
    }
    const { width } = this.manifest;
    const result = new Float32Array(words.length * width);
    words.forEach((word, row) => result.set(/** @type {Float32Array} */ (found.get(word)), row * width));
    const cut = tokens.map((of) => of.some((one) => one.cut));
    return { vectors: result, readings: readings.map((reading, row) => ({ ...reading, cut: cut[row] })) };
  }

  /** Free the engine's memory. */
  async close() {
    await this.#last;
    await this.session.release();
  }

  /**
   * @param {number[][][]} ids of words, prompts and tokens
   * @param {AbortSignal} [signal]
   * @returns {Promise<Float32Array[]>} a vector of each word
   */
  #run(ids, signal) {
    const result = this.#last.then(async () => {
      signal?.throwIfAborted();
      const length = Math.max(...ids.flat().map((row) => row.length));
      const padded = new BigInt64Array(ids.length * ids[0].length * length);
      ids.flat().forEach((row, index) => padded.set(row.map(BigInt), index * length));
      const input = new this.ort.Tensor("int64", padded, [ids.length, ids[0].length, length]);
      const { text_embeds: output } = await this.session.run({ input_ids: input });
      const { width } = this.manifest;
      const vectors = ids.map((_, row) => Float32Array.from(output.data.subarray(row * width, (row + 1) * width)));
      output.dispose();
      vectors.forEach(checkLength);
      return vectors;
    });
    this.#last = result.catch(() => {});
    return result;
  }

  /** @param {string | string[]} prompts */
  #templates(prompts) {
    const { promptSets } = this.manifest;
    if (typeof prompts === "string") {
      if (Object.hasOwn(promptSets, prompts)) return promptSets[prompts];
      const known = Object.keys(promptSets).sort().join(", ");
      throw new InputError(`no prompt set is called ${prompts}, expected one of ${known}, or a list of templates`);
    }
    if (prompts.length === 0) throw new InputError("expected one or more prompt templates, got none");
    const wrong = prompts.find((template) => !template.includes("{}"));
    if (wrong !== undefined) {
      throw new InputError(`the prompt template “${wrong}” has no place for the word; write it as {}`);
    }
    return prompts;
  }
}

/** @param {import("./manifest.js").Manifest} manifest */
function defaultPrecision(manifest) {
  return `precisions/int8/${TEXT_ENCODER}` in manifest.files ? "int8" : "fp32";
}

/**
 * The tokenizer's file, the encoder's, and its weights where they have one.
 * @param {import("./manifest.js").Manifest} manifest @param {string} precision
 */
function textFiles({ files }, precision) {
  const folder = precision === "fp32" ? "" : `precisions/${precision}/`;
  for (const path of [TOKENIZER, folder + TEXT_ENCODER]) {
    if (!(path in files)) throw new InputError(`the bundle has no ${path}; export it with that precision`);
  }
  return [TOKENIZER, folder + TEXT_ENCODER, folder + LARGE_WEIGHTS].filter((path) => path in files);
}

/** @param {string[]} words @returns {import("./cleaning.js").Reading[]} */
function checkWords(words) {
  if (words.length === 0) throw new InputError("expected at least one word, got none");
  /** @type {Map<string, string>} */
  const first = new Map();
  return words.map((word) => {
    if (typeof word !== "string") throw new InputError(`a word is ${JSON.stringify(word)}, expected text`);
    if (word.length > MOST_LETTERS) {
      throw new InputError(`“${word.slice(0, 40)}…” has ${word.length} letters, expected at most ${MOST_LETTERS}`);
    }
    const reading = readText(word);
    if (reading.read === "") throw new InputError(`“${word}” is blank, expected a word`);
    const unseen = reading.read.match(UNSEEN)?.[0].codePointAt(0);
    if (unseen !== undefined) {
      const code = unseen.toString(16).toUpperCase().padStart(4, "0");
      throw new InputError(`“${word}” has a sign that is not seen (U+${code}) but would be read; leave it out`);
    }
    const other = first.get(reading.read);
    if (other !== undefined) throw new InputError(`“${other}” and “${word}” are the same; give each one once`);
    first.set(reading.read, word);
    return reading;
  });
}

/**
 * Rows of words of similar length.
 * @param {import("./tokenizer.js").Tokens[][]} tokens of each row's prompts
 * @param {number[]} rows
 * @returns {number[][]}
 */
function batches(tokens, rows) {
  const length = (/** @type {number} */ row) => Math.max(...tokens[row].map(({ ids }) => ids.length));
  /** @type {number[][]} */
  const found = [];
  for (const row of [...rows].sort((one, other) => length(one) - length(other))) {
    const batch = found.at(-1);
    const full = !batch || (batch.length + 1) * tokens[row].length * length(row) > MOST_TOKENS;
    if (full) found.push([row]);
    else batch.push(row);
  }
  return found;
}

/** @param {Float32Array} vector */
function checkLength(vector) {
  const length = Math.hypot(...vector);
  if (!(Math.abs(length - 1) <= LENGTH_TOLERANCE)) {
    throw new InputError(`the text encoder gave a vector of length ${length}, expected 1; choose another precision`);
  }
}
