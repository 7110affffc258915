// A picture, words, and which of them each pixel shows: the package t2d in a page that a bundler builds.

import * as ort from "onnxruntime-web/wasm";
import { InputError, open } from "t2d";

const [file, words, status, canvas] = ["file", "words", "status", "canvas"].map((id) => document.getElementById(id));
const threads = crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, 4) : 1;
ort.env.wasm.numThreads = threads;

let segmenter;
let encoding;

async function start() {
  const progress = ({ loaded, total }) => tell(`Loading the model: ${Math.round((100 * loaded) / total)} %`);
  segmenter = await open("bundle/", { ort, workers: threads, progress });
  tell("Choose a picture.");
  file.addEventListener("change", () => run(encode));
  words.addEventListener("change", () => run(segment));
}

/** Draw the picture, and encode it once. */
async function encode() {
  const bitmap = await createImageBitmap(file.files[0], { colorSpaceConversion: "none" });
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data, width, height } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const pixels = data.filter((_, index) => index % 4 < 3); // RGBA to RGB
  encoding = await segmenter.encodeImage({ pixels, width, height });
  await segment();
}

/** The words in the order of their shares. */
async function segment() {
  if (!encoding) return;
  const encoded = await segmenter.encodeWords(words.value.split(","));
  const { labels, names } = await segmenter.segment(encoding, encoded, { refine: true });
  const counts = new Float64Array(names.length);
  for (const label of labels) counts[label] += 1;
  const shares = names.map((name, label) => ({ name: name.trim(), share: counts[label] / labels.length }));
  shares.sort((one, other) => other.share - one.share);
  tell(shares.map(({ name, share }) => `${name} ${(100 * share).toFixed(1)} %`).join(", "));
}

/** @param {() => Promise<void>} action */
function run(action) {
  tell("…");
  action().catch((error) => {
    tell(error.message);
    if (!(error instanceof InputError)) throw error;
  });
}

/** @param {string} text */
function tell(text) {
  status.textContent = text;
}

run(start);
