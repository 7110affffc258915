// The engine, in a thread of its own: it downloads and opens a bundle, encodes pictures and words, and makes masks.

import { InputError, open, readVocabulary } from "./t2d/index.js";

const MODULES = {
  wasm: "./onnxruntime/ort.wasm.bundle.min.mjs",
  webgpu: "./onnxruntime/ort.webgpu.bundle.min.mjs",
};
const NO_MEMORY = /out of memory|bad_alloc|allocation failed|could not allocate|invalid array length|memory\.grow/i;

let segmenter;
let picture;
let encoding = null; // of the picture, once it is needed
let declined = false; // whether the visitor gave the text encoder up
let loading = null; // what gives it up

const calls = {
  /** @param {{base: string, precision: string, engine: "wasm" | "webgpu", threads: number}} settings */
  async open({ base, precision, engine, threads }) {
    const ort = await import(MODULES[engine]).catch(() => {
      throw new InputError(`${MODULES[engine].slice(2)} cannot be loaded; 'npm ci' in this folder makes it`);
    });
    ort.env.wasm.numThreads = threads;
    const session = { executionProviders: [engine] };
    segmenter = await open(base, {
      ort,
      precision,
      session,
      workers: threads,
      progress: (model) => postMessage({ progress: { model } }),
      uncached: (reason) => postMessage({ progress: { uncached: reason } }),
      tokenizers: () => import("./onnxruntime/tokenizers.min.mjs"),
    });
    const { threshold, backbone, imageEncoder } = segmenter.manifest;
    const files = performance.getEntriesByType("resource").map(({ name }) => name);
    // The bundle's files are kept already, but for the manifest.
    const loaded = files.filter((name) => !name.startsWith(base) || name.endsWith("/manifest.json"));
    return { loaded: [...loaded, new URL("onnxruntime/tokenizers.min.mjs", import.meta.url).href], threshold, backbone, bytes: imageEncoder.reduce((sum, { bytes }) => sum + bytes, 0) };
  },

  /** @param {{bytes: Uint8Array, name: string}} file */
  async addVocabulary({ bytes, name }) {
    const vocabulary = await readVocabulary(bytes, name);
    segmenter.addVocabulary(vocabulary);
    const { names, phrases, classIndices, thresholds } = vocabulary;
    return { names, phrases, classIndices, thresholds };
  },

  /** @param {ImageData} image opaque; the picture to segment from now on */
  setPicture({ data, width, height }) {
    const pixels = new Uint8Array(3 * width * height);
    for (let from = 0, to = 0; from < data.length; from += 4) {
      pixels[to++] = data[from];
      pixels[to++] = data[from + 1];
      pixels[to++] = data[from + 2];
    }
    picture = { pixels, width, height };
    encoding = null;
  },

  /** @param {{chosen: import("./words.js").Chosen, options: import("./t2d/segmenter.js").MaskOptions}} request */
  async segment({ chosen: { classes, negatives, thresholds }, options: { background, threshold, refine } }) {
    const start = performance.now();
    const words = await encodeWords(classes, { negatives, thresholds: background ? thresholds : {} });
    const encoded = performance.now();
    const asked = picture; // which may be another one when this is done
    const known = encoding !== null;
    const used = encoding ?? (await segmenter.encodeImage(asked));
    if (picture === asked) encoding = used;
    const masked = performance.now();
    const segmentation = await segmenter.segment(used, words, { background, threshold, refine });
    const end = performance.now();
    return {
      ...segmentation,
      readings: words.readings,
      milliseconds: end - start,
      times: { words: words.missing ? encoded - start : 0, image: known ? 0 : masked - encoded, masks: end - masked },
    };
  },
};

/** Words that the vocabulary lacks load the text encoder, which the visitor may give up. */
async function encodeWords(classes, options) {
  loading = new AbortController();
  if (declined) loading.abort();
  const progress = (text) => postMessage({ progress: { text } });
  try {
    return await segmenter.encodeWords(classes, { ...options, progress, signal: loading.signal });
  } catch (error) {
    if (!loading.signal.aborted) throw error;
    declined = true;
    const message = "some of these words are not in the vocabulary, and the text encoder is not loaded; load it below";
    throw Object.assign(new InputError(message), { about: "words", declined: true });
  } finally {
    loading = null;
    postMessage({ progress: { text: null } });
  }
}

/** A message for the visitor. @param {string} call @param {any} error */
function told(call, error) {
  if (error instanceof InputError) return error.message;
  const reason = String(error?.message ?? error); // the engine throws numbers and errors of every kind
  if (error instanceof RangeError || NO_MEMORY.test(reason)) {
    return `this page has not enough memory (${reason}); close other pages, or take a smaller model or ?precision=int8`;
  }
  return `${call} failed: ${reason}`;
}

onmessage = async ({ data: { id, call, argument } }) => {
  if (call === "decline") {
    declined = argument;
    if (declined) loading?.abort();
    return;
  }
  try {
    postMessage({ id, value: await calls[call](argument) });
  } catch (error) {
    postMessage({ id, error: told(call, error), about: error?.about, declined: error?.declined });
  }
};
