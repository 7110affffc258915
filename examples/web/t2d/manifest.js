// The facts of a bundle's manifest.json that masks need. docs/segmenter-graph.md tells what else it proves.

import { InputError } from "./errors.js";
import { sha256 } from "./sha256.js";

const SCHEMA_VERSION = 2;
const IMAGE_ENCODER = "image_encoder.onnx";
const LARGE_WEIGHTS = "image_encoder.onnx.data"; // beside the graph of a large model
/** The second one only where the model is large. */
const FOR_WORDS = ["text_encoder.onnx", "text_encoder.onnx.data", "tokenizer.json"];

/**
 * @typedef {object} BundleFile
 * @property {string} path within the bundle
 * @property {string} sha256 hexadecimal
 * @property {number} bytes
 *
 * @typedef {object} Manifest
 * @property {string} precision of the image encoder
 * @property {BundleFile[]} imageEncoder its graph, and its weights where they have a file of their own
 * @property {Record<string, BundleFile>} files all files of the bundle, by their paths
 * @property {string} backbone
 * @property {number} width D of patch tokens and of vectors of words
 * @property {[number, number]} inputSize height and width of the encoder's input, in pixels
 * @property {[number, number]} gridSize height and width in patches
 * @property {number} contextLength most tokens of a prompt
 * @property {number[]} mean of red, green and blue, 0 to 1
 * @property {number[]} std
 * @property {number} shortSide pixels at which a picture is segmented
 * @property {number} maxLongSide
 * @property {number} threshold 0 to 1
 * @property {number} cleaningWeight
 * @property {{dilations: number[], iterations: number}} pamr
 * @property {Record<string, string[]>} promptSets
 * @property {string} digest of the vocabularies that fit
 */

/**
 * Read manifest.json.
 * @param {string} text
 * @param {string} name the file's name in messages
 * @param {string} precision of the image encoder: fp32, or another that the bundle has
 * @returns {Promise<Manifest>}
 * @throws {InputError} where it is not one, or has no image encoder in this precision
 */
export async function readManifest(text, name, precision) {
  try {
    const manifest = JSON.parse(text);
    await checkSeal(manifest, text, name);
    return await parse(manifest, precision);
  } catch (error) {
    // Errors for other JSON, where a key is missing, and for text that is not JSON.
    if (!(error instanceof SyntaxError || error instanceof TypeError)) throw error;
    throw new InputError(`${name} is not a bundle's manifest (${error.message}); export the bundle again`);
  }
}

/** @param {any} manifest @param {string} text @param {string} name */
async function checkSeal({ schema_version: version, content_sha256: stated }, text, name) {
  if (Number.isInteger(version) && version !== SCHEMA_VERSION) {
    const newer = version > SCHEMA_VERSION ? "take a newer version of this program" : "export the bundle again";
    throw new InputError(`${name} is of schema version ${version}, this program reads ${SCHEMA_VERSION}; ${newer}`);
  }
  if (version !== SCHEMA_VERSION) throw new TypeError("it has no schema version");
  if ((await sha256(new TextEncoder().encode(text.replace(stated, "")))) !== stated) {
    throw new TypeError("it was changed since the export: its text does not have its content_sha256");
  }
}

/** @param {any} manifest @param {string} precision @returns {Promise<Manifest>} */
async function parse({ files: records, model, preprocessing, windows, defaults, prompt_sets: promptSets }, precision) {
  /** @type {Record<string, BundleFile>} */
  const files = {};
  for (const [path, { sha256: digest, size_bytes: bytes }] of Object.entries(records)) {
    files[path] = { path, sha256: digest, bytes };
  }
  const folder = precision === "fp32" ? "" : `precisions/${precision}/`;
  const graph = folder + IMAGE_ENCODER;
  if (!(graph in files)) {
    const held = Object.keys(files).filter((path) => path.endsWith(IMAGE_ENCODER));
    throw new InputError(`the bundle has no ${graph}, only ${held.join(", ") || "other files"}; export it with that`);
  }
  const [text, weights, tokenizer] = FOR_WORDS.map((path) => files[path]);
  const [height, width] = model.input_size;
  const [rows, columns] = [height / model.patch_size, width / model.patch_size];
  if (!Number.isInteger(rows) || !Number.isInteger(columns)) throw new TypeError("its input size is no number of patches");
  return {
    precision,
    imageEncoder: [graph, folder + LARGE_WEIGHTS].filter((path) => path in files).map((path) => files[path]),
    files,
    backbone: model.backbone,
    width: model.embed_dim,
    inputSize: [height, width],
    gridSize: [rows, columns],
    contextLength: model.context_length,
    mean: preprocessing.mean,
    std: preprocessing.std,
    shortSide: windows.short_side,
    maxLongSide: windows.max_long_side,
    threshold: defaults.threshold,
    cleaningWeight: defaults.cleaning_weight,
    pamr: { dilations: defaults.pamr.dilations, iterations: defaults.pamr.iterations },
    promptSets,
    digest: await sha256(new TextEncoder().encode(text.sha256 + (weights?.sha256 ?? "") + tokenizer.sha256)),
  };
}

/**
 * Throw an InputError unless a vocabulary was made for this bundle.
 * @param {Manifest} manifest
 * @param {import("./vocabulary.js").Vocabulary} vocabulary
 */
export function checkVocabulary(manifest, vocabulary) {
  const again = "make it again with 't2d classes' and this bundle";
  if (vocabulary.width !== manifest.width) {
    throw new InputError(
      `the vocabulary's vectors have width ${vocabulary.width}, this bundle's have ${manifest.width}; ${again}`,
    );
  }
  if (vocabulary.digest !== manifest.digest) {
    throw new InputError(
      `the vocabulary was made with another text encoder (digest ${vocabulary.digest.slice(0, 12)}…, ` +
        `this bundle's is ${manifest.digest.slice(0, 12)}…); ${again}`,
    );
  }
}
