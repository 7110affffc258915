// The facts about a bundle's graph in its manifest.json.

import { InputError } from "./errors.js";
import { sha256 } from "./sha256.js";

const SCHEMA_VERSION = 2;
const GRAPH = "segmenter.onnx";
const LARGE_WEIGHTS = "image_encoder.onnx.data"; // beside the graph where protobuf could not hold them
const TEXT_ENCODER = "text_encoder.onnx";
const TOKENIZER = "tokenizer.json";

/**
 * @typedef {{path: string, sha256: string, bytes: number}} BundleFile
 *
 * @typedef {object} Manifest
 * @property {BundleFile[]} files the graph, and its weights where they have a file of their own
 * @property {number} width D of the vectors it takes
 * @property {string} digest of the vocabularies it takes
 * @property {number} threshold 0 to 1
 * @property {number} cleaningWeight
 * @property {number} pamrIterations
 * @property {string} precision
 */

/**
 * Read manifest.json.
 * @param {string} text
 * @param {string} name the file's name in messages
 * @param {string} precision of the graph: fp32, or another that the bundle has
 * @returns {Promise<Manifest>}
 * @throws {InputError} where it is not one, or has no graph in this precision
 */
export async function readManifest(text, name, precision) {
  try {
    const manifest = JSON.parse(text);
    await checkSeal(manifest, text);
    return await parse(manifest, precision);
  } catch (error) {
    // Errors for other JSON, where a key is missing, and for text that is not JSON.
    if (!(error instanceof SyntaxError || error instanceof TypeError)) throw error;
    throw new InputError(`${name} is not a bundle's manifest (${error.message}); export the bundle again`);
  }
}

/** @param {object} manifest @param {string} text */
async function checkSeal({ schema_version: version, content_sha256: stated }, text) {
  if (version !== SCHEMA_VERSION) throw new TypeError(`schema version ${version}, expected ${SCHEMA_VERSION}`);
  if ((await sha256(new TextEncoder().encode(text.replace(stated, "")))) !== stated) {
    throw new TypeError("it was changed since the export: its text does not have its content_sha256");
  }
}

/** @param {object} manifest @param {string} precision */
async function parse({ files, model, defaults }, precision) {
  const folder = precision === "fp32" ? "" : `precisions/${precision}/`;
  const paths = [folder + GRAPH, folder + LARGE_WEIGHTS].filter((path) => path in files);
  if (paths[0] !== folder + GRAPH) {
    throw new InputError(`the bundle has no ${folder + GRAPH}; export it with 't2d-export bundle --fused'`);
  }
  return {
    files: paths.map((path) => ({ path, sha256: files[path].sha256, bytes: files[path].size_bytes })),
    width: model.embed_dim,
    digest: await sha256(new TextEncoder().encode(files[TEXT_ENCODER].sha256 + files[TOKENIZER].sha256)),
    threshold: defaults.threshold,
    cleaningWeight: defaults.cleaning_weight,
    pamrIterations: defaults.pamr.iterations,
    precision,
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
