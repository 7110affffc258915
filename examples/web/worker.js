// The engine, in a thread of its own: it downloads and opens the graph, and segments.

import * as ort from "./onnxruntime/ort.wasm.bundle.min.mjs";
import { InputError } from "./t2d/errors.js";
import { Segmenter, sessionOptions } from "./t2d/segmenter.js";
import { sha256 } from "./t2d/sha256.js";

let segmenter;
let picture;

const calls = {
  /** @param {{base: string, manifest: import("./t2d/manifest.js").Manifest, threads: number}} settings */
  async open({ base, manifest, threads }) {
    ort.env.wasm.numThreads = threads;
    const progress = counter(manifest.files);
    const [graph, ...weights] = await Promise.all(manifest.files.map((file) => download(base, file, progress)));
    const externalData = weights.map((data, index) => ({
      path: manifest.files[index + 1].path.split("/").pop(),
      data,
    }));
    const options = { ...sessionOptions(manifest.precision), externalData };
    segmenter = new Segmenter(ort, await ort.InferenceSession.create(graph, options), manifest);
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
  },

  /**
   * @param {{
   *   words: import("./t2d/vocabulary.js").Vocabulary,
   *   options: import("./t2d/segmenter.js").Options,
   * }} request
   */
  async segment({ words, options }) {
    const { width, height } = picture; // which may be another one when this is done
    const start = performance.now();
    const segmentation = await segmenter.segment(picture, words, options);
    return { ...segmentation, width, height, milliseconds: performance.now() - start };
  },
};

/**
 * A file of the bundle, whole and unchanged.
 * @param {string} base URL of the bundle
 * @param {import("./t2d/manifest.js").BundleFile} file
 * @param {(bytes: number) => void} progress
 */
async function download(base, file, progress) {
  const url = new URL(file.path, base);
  // The cached file saves the download where it is the right one, whatever the server's dates say.
  let response = await fetch(url, { cache: "force-cache" });
  if (response.ok) {
    const bytes = await read(response, file.bytes, progress);
    if ((await sha256(bytes)) === file.sha256) return bytes;
    progress(-file.bytes);
  }
  response = await fetch(url, { cache: "reload" });
  if (!response.ok) throw new InputError(`${url.pathname} cannot be loaded: ${response.status} ${response.statusText}`);
  const bytes = await read(response, file.bytes, progress);
  if ((await sha256(bytes)) === file.sha256) return bytes;
  throw new InputError(`${url.pathname} is not the file that manifest.json names; copy the bundle again`);
}

/**
 * A response's bytes; one of another size is cut or filled with zeros, and fails its checksum.
 * @param {Response} response
 * @param {number} size bytes
 * @param {(bytes: number) => void} progress
 */
async function read(response, size, progress) {
  const bytes = new Uint8Array(size);
  let filled = 0;
  for (const reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done || filled + value.length > size) break;
    bytes.set(value, filled);
    filled += value.length;
    progress(value.length);
  }
  progress(size - filled);
  return bytes;
}

/** Tells the page how much of all files has been downloaded. @param {{bytes: number}[]} files */
function counter(files) {
  const total = files.reduce((sum, { bytes }) => sum + bytes, 0);
  let loaded = 0;
  return (bytes) => {
    loaded += bytes;
    postMessage({ progress: { loaded, total } });
  };
}

onmessage = async ({ data: { id, call, argument } }) => {
  try {
    postMessage({ id, value: await calls[call](argument) });
  } catch (error) {
    // The engine throws numbers and errors of every kind, which the page shows.
    postMessage({
      id,
      error: error instanceof InputError ? error.message : `${call} failed: ${error.message ?? error}`,
    });
  }
};
