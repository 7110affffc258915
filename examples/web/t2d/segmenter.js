// A bundle's image encoder in onnxruntime, and all else in JavaScript and WebAssembly: pictures and words to labels.

import { Bundle, download } from "./bundle.js";
import { checkClasses, classList } from "./classes.js";
import { InputError, WordsError } from "./errors.js";
import { checkVocabulary } from "./manifest.js";
import { MaskWorkers } from "./mask-workers.js";
import { possibleWinners } from "./planes.js";
import { pixelValues, resize, workingSize } from "./preprocess.js";
import { cleanScores, headEmbeddings, patchScores, tokenNorms } from "./scores.js";
import { createSession, readFiles } from "./session.js";
import { NEGATIVE, key } from "./vocabulary.js";
import { WordEncoder } from "./words.js";

/**
 * @typedef {import("./preprocess.js").Picture} Picture
 * @typedef {import("./vocabulary.js").Vocabulary} Vocabulary
 * @typedef {import("./scores.js").Features} Features
 *
 * @typedef {object} OpenOptions
 * @property {any} ort the module onnxruntime-node, or onnxruntime-web
 * @property {string} [precision] of the image encoder: fp32 (default), or another that the bundle has
 * @property {object} [session] more options of the engine's session, such as executionProviders
 * @property {number} [workers] threads that make masks beside each other; default: 1, the caller's own
 * @property {BufferSource} [pamr] bytes of pamr.wasm; default: the file beside this module
 * @property {(progress: {loaded: number, total: number}) => void} [progress] bytes of the image encoder
 * @property {AbortSignal} [signal] gives the loading up
 * @property {(reason: string) => void} [uncached] told why the browser keeps no copy of a file
 * @property {() => Promise<any>} [tokenizers] imports "@huggingface/tokenizers", which words that no vocabulary has need;
 *   default: by that name
 *
 * @typedef {object} LoadOptions
 * @property {(progress: {loaded: number, total: number}) => void} [progress] bytes of the text encoder
 * @property {AbortSignal} [signal] gives the loading up
 *
 * @typedef {Vocabulary & {readings: (import("./words.js").WordReading & {phrase: string})[], missing: number}} Words
 *   encoded, how those phrases were read whose text was repaired, shortened, or may be read another way in Python, and the
 *   number of phrases that no vocabulary had
 *
 * @typedef {object} MaskOptions
 * @property {boolean} [background] label 0 where no word exceeds its threshold
 * @property {number} [threshold] 0 to 1, with background; default: the bundle's
 * @property {boolean} [cleaning] mix scores with the heads' attention; default: as background
 * @property {boolean} [refine] PAMR
 *
 * @typedef {object} Encoding a picture that can be segmented again and again
 * @property {number} width @property {number} height of the picture
 * @property {Picture} resized as it is segmented
 * @property {Features} features
 * @property {Float32Array} norms of the patch tokens
 * @property {Float32Array} heads their embeddings
 * @property {number} number different for each encoding
 * @property {import("./manifest.js").Manifest} manifest of the bundle that encoded it
 *
 * @typedef {object} Segmentation
 * @property {Uint8Array | Uint16Array} labels height x width, row after row
 * @property {string[]} names label -> word; "background" first where there is one
 * @property {boolean} background whether label 0 is background: asked for, or because of negatives
 * @property {number} width
 * @property {number} height
 */

let encodings = 0;

/** One bundle on one engine. */
export class Segmenter {
  /** @type {Map<string, Float32Array>} vectors of known phrases */
  #vectors = new Map();
  /** @type {Map<string, string[]>} phrases of the classes of vocabularies */
  #groups = new Map();
  /** @type {Promise<WordEncoder> | null} */
  #encoder = null;
  #tokenizers;
  #uncached;

  /**
   * @param {any} ort
   * @param {any} session of the image encoder
   * @param {Bundle} bundle
   * @param {MaskWorkers} workers
   * @param {Pick<OpenOptions, "tokenizers" | "uncached">} [options]
   */
  constructor(ort, session, bundle, workers, { tokenizers = namedTokenizers, uncached } = {}) {
    this.ort = ort;
    this.session = session;
    this.bundle = bundle;
    this.workers = workers;
    this.#tokenizers = tokenizers;
    this.#uncached = uncached;
  }

  get manifest() {
    return this.bundle.manifest;
  }

  /**
   * Encode a picture, as one window. This is the expensive part.
   * @param {Picture} picture RGB
   * @returns {Promise<Encoding>}
   */
  async encodeImage(picture) {
    const { width, height, pixels } = picture;
    const whole = Number.isInteger(width) && Number.isInteger(height) && width > 0 && height > 0;
    if (!whole || pixels?.length !== 3 * width * height) {
      throw new InputError(`the picture has ${pixels?.length} bytes, expected ${height} x ${width} x 3`);
    }
    const { manifest, ort } = this;
    const resized = resize(picture, workingSize(picture, manifest));
    const input = new ort.Tensor("float32", pixelValues(resized, manifest), [1, 3, ...manifest.inputSize]);
    const outputs = await this.session.run({ pixel_values: input }, ["patch_tokens", "cls_attention"]);
    const [patchTokens, clsAttention] = [finite(outputs.patch_tokens.data), finite(outputs.cls_attention.data)];
    outputs.patch_tokens.dispose();
    outputs.cls_attention.dispose();
    const [rows, columns] = manifest.gridSize;
    const features = { patchTokens, clsAttention, patches: rows * columns, width: manifest.width };
    return {
      width,
      height,
      resized,
      features,
      norms: tokenNorms(features),
      heads: headEmbeddings(features),
      number: (encodings += 1),
      manifest,
    };
  }

  /**
   * Take the words of a vocabulary file: they need no text encoder. A name of its classes stands for its phrases then.
   * @param {Vocabulary} vocabulary
   */
  addVocabulary(vocabulary) {
    checkVocabulary(this.manifest, vocabulary);
    vocabulary.phrases.forEach((phrase, row) => {
      const { width, vectors } = vocabulary;
      this.#vectors.set(key(phrase), vectors.slice(row * width, (row + 1) * width));
    });
    vocabulary.names.forEach((name, index) => {
      this.#groups.set(
        key(name),
        vocabulary.phrases.filter((_, row) => vocabulary.classIndices[row] === index),
      );
    });
  }

  /**
   * Load the bundle's text encoder: int8 where the bundle has that. `encodeWords` does so at the first word that no
   * vocabulary has.
   * @param {LoadOptions} [options]
   * @returns {Promise<WordEncoder>}
   */
  async loadTextEncoder({ progress, signal } = {}) {
    const load = async () => {
      const tokenizers = await this.#tokenizers();
      const options = { ort: this.ort, tokenizers, session: { executionProviders: this.#textProviders() } };
      return WordEncoder.open(this.bundle, { ...options, progress, signal, uncached: this.#uncached });
    };
    this.#encoder ??= load().catch((error) => {
      this.#encoder = null; // the next word tries again
      throw error;
    });
    return this.#encoder;
  }

  /** Pages run it in WebAssembly: WebGPU gains nothing with int8. */
  #textProviders() {
    return "window" in globalThis || "WorkerGlobalScope" in globalThis ? ["wasm"] : ["cpu"];
  }

  /**
   * Encode classes: names that are their own phrases, or a mapping from names to one phrase or several. Words of
   * vocabularies need no text encoder; others load it.
   * @param {import("./classes.js").ClassNames} words
   * @param {import("./classes.js").ClassOptions & LoadOptions} [options]
   * @returns {Promise<Words>}
   */
  async encodeWords(words, options = {}) {
    const groups = Array.isArray(words) ? words.map((name) => [name, name]) : Object.entries(words);
    const list = classList(
      groups.map(([name, phrases]) => [name, this.#phrasesOf(name, [phrases].flat())]),
      options,
    );
    const missing = [...new Set(list.phrases.filter((phrase) => !this.#vectors.has(key(phrase))))];
    const { found, readings } = await this.#encode(missing, options);
    const { width, digest } = this.manifest;
    const vectors = new Float32Array(list.phrases.length * width);
    list.phrases.forEach((phrase, row) => {
      const vector = this.#vectors.get(key(phrase)) ?? found.get(phrase);
      vectors.set(/** @type {Float32Array} */ (vector), row * width);
    });
    return { ...list, vectors, width, digest, readings, missing: missing.length };
  }

  /**
   * Vectors of phrases that no vocabulary has.
   * @param {string[]} phrases @param {LoadOptions} options
   */
  async #encode(phrases, options) {
    /** @type {Map<string, Float32Array>} */
    const found = new Map();
    if (phrases.length === 0) return { found, readings: [] };
    const encoder = await this.loadTextEncoder(options);
    const { width } = this.manifest;
    const { vectors, readings } = await encoder.encode(phrases, { signal: options.signal }).catch((error) => {
      throw error instanceof InputError ? new WordsError(error.message) : error;
    });
    phrases.forEach((phrase, row) => found.set(phrase, vectors.slice(row * width, (row + 1) * width)));
    const told = readings.map((reading, row) => ({ phrase: phrases[row], ...reading }));
    return { found, readings: told.filter(({ repaired, certain, cut }) => repaired || cut || !certain) };
  }

  /** @param {any} name @param {string[]} phrases */
  #phrasesOf(name, phrases) {
    const alone = typeof name === "string" && phrases.length === 1 && phrases[0] === name;
    return (alone && this.#groups.get(key(name))) || phrases;
  }

  /**
   * Label every pixel with the class whose words fit best, or with background.
   * @param {Encoding} encoding
   * @param {Vocabulary} words from `encodeWords`, or of a vocabulary file
   * @param {MaskOptions} [options]
   * @returns {Promise<Segmentation>}
   */
  async segment(encoding, words, options = {}) {
    const { manifest } = this;
    if (encoding.manifest !== manifest) throw new InputError("the picture was encoded with another bundle; encode it again");
    checkVocabulary(manifest, words);
    const { background = false, threshold = manifest.threshold, cleaning = background, refine = false } = options;
    if (!(threshold >= 0 && threshold <= 1)) throw new InputError(`the threshold is ${threshold}, expected 0 to 1`);
    checkClasses(words, background);

    const { features, norms, heads, resized, width, height } = encoding;
    const scores = patchScores(features, norms, words.vectors);
    if (cleaning) cleanScores(scores, features, heads, words.vectors, manifest.cleaningWeight);
    const least = background ? compete(scores, words, threshold, features.patches) : -Infinity;
    const rows = refine ? possibleWinners(scores, features.patches, least) : [...words.phrases.keys()];
    // A class has the pixels of all its phrases, and background those of negatives.
    const shown = background || words.classIndices.includes(NEGATIVE);
    const first = shown ? 1 : 0;
    const labels = await this.workers.label({
      scores: refine ? chosen(scores, rows, features.patches) : scores,
      grid: { height: manifest.gridSize[0], width: manifest.gridSize[1] },
      names: Uint16Array.from(rows, (row) => words.classIndices[row] + first),
      working: { width: resized.width, height: resized.height },
      picture: { width, height },
      threshold: least,
      refine: refine
        ? { ...manifest.pamr, image: encoding.number, pixels: /** @type {Uint8Array} */ (resized.pixels) }
        : null,
    });
    const names = shown ? ["background", ...words.names] : words.names;
    return { labels: names.length <= 256 ? Uint8Array.from(labels) : labels, names, background: shown, width, height };
  }

  /** End the workers and free the engine's memory. */
  async close() {
    this.workers.close();
    await (await this.#encoder?.catch(() => null))?.close();
    await this.session.release();
  }
}

/**
 * Open a bundle: load its image encoder.
 * @param {string | URL | import("./bundle.js").Source} bundle its address, or what reads its files
 * @param {OpenOptions} options
 * @returns {Promise<Segmenter>}
 * @throws {InputError} where it is no bundle of this version, or has no image encoder in this precision
 */
export async function open(bundle, { ort, precision, session = {}, workers = 1, pamr, progress, signal, ...others }) {
  const opened = await Bundle.open(bundle, precision);
  const { imageEncoder, precision: chosen } = opened.manifest;
  const paths = imageEncoder.map(({ path }) => path);
  const started = startWorkers(pamr, workers);
  started.catch(() => {}); // told below, once the files are there
  try {
    const files = await readFiles(opened, paths, { progress, signal, uncached: others.uncached });
    const makers = await started; // Firefox loses messages of workers that start beside the engine
    const created = await createSession(ort, opened.source, paths, files, chosen, session);
    return new Segmenter(ort, created, opened, makers, others);
  } catch (error) {
    (await started.catch(() => null))?.close();
    throw error;
  }
}

/** @param {BufferSource | undefined} pamr @param {number} count */
async function startWorkers(pamr, count) {
  return MaskWorkers.start(pamr ?? (await ownLoops()), count);
}

async function namedTokenizers() {
  try {
    return await import("@huggingface/tokenizers");
  } catch {
    throw new WordsError("words that no vocabulary has need the package @huggingface/tokenizers; install it");
  }
}

/** The file beside this module. @returns {Promise<BufferSource>} */
async function ownLoops() {
  const url = new URL("./pamr.wasm", import.meta.url); // as bundlers recognise it
  if (url.protocol !== "file:") return /** @type {BufferSource} */ (await download(url, null));
  const { readFile } = await import(/* @vite-ignore */ `node:fs/${"promises"}`);
  return readFile(url);
}

/**
 * The threshold of all rows. Where classes have their own, scores become what exceeds them, in place, and it is 0.
 * @param {Float32Array} scores N x P @param {Vocabulary} words @param {number} threshold @param {number} patches
 */
function compete(scores, { names, classIndices, thresholds }, threshold, patches) {
  if (Object.keys(thresholds).length === 0) return Math.fround(threshold);
  const above = classIndices.map((index) => Math.fround(thresholds[names[index]] ?? threshold));
  if (above.every((value) => value === above[0])) return above[0];
  above.forEach((value, row) => {
    for (let i = row * patches; i < (row + 1) * patches; i++) scores[i] -= value;
  });
  return 0;
}

/** @param {Float32Array} scores N x P @param {number[]} rows @param {number} patches */
function chosen(scores, rows, patches) {
  const kept = new Float32Array(rows.length * patches);
  rows.forEach((row, to) => kept.set(scores.subarray(row * patches, (row + 1) * patches), to * patches));
  return kept;
}

/** @param {Float32Array} values */
function finite(values) {
  for (const value of values) {
    if (!Number.isFinite(value)) {
      throw new InputError("the image encoder gave numbers that are not finite; choose another engine or precision");
    }
  }
  return values;
}
