// Segment a picture by words, without Python.
//
//     node segment.js BUNDLE VOCABULARY.safetensors PICTURE LABELS.png [--classes "sky,sea"] [--background] [--refine]

import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";

import { InputError, chooseWords, open, readVocabulary } from "../web/t2d/index.js";
import { folder } from "../web/t2d/node.js";
import { readBytes, readPicture, writeLabels } from "./picture.js";

const USAGE = `usage: node segment.js BUNDLE VOCABULARY PICTURE LABELS.png [options]

BUNDLE       folder written by 't2d-export bundle'
VOCABULARY   written by 't2d classes BUNDLE --classes ... --output F.safetensors'; or -, and the bundle's text encoder
             encodes the words of --classes, which may be any
PICTURE      JPEG, PNG, WebP
LABELS.png   the label of every pixel as a palette index

--classes WORDS   words of the vocabulary, separated by commas; default: all
--background      label 0 where no word exceeds the threshold
--threshold X     0 to 1; default: the bundle's
--refine          refine edges with PAMR
--precision P     of the image encoder: fp32 (default), or another that the bundle has
--threads N       default: the engine's choice`;

const BAD_INPUT = 2;

async function main() {
  const { paths, values } = parseCommand();
  const [bundle, vocabularyPath, picturePath, output] = paths;
  const chosen = values.classes?.split(",");
  if (vocabularyPath === "-" && !chosen) throw new InputError("without a vocabulary --classes is needed: the words");
  const known = vocabularyPath === "-" ? null : await readWords(vocabularyPath, chosen);
  const picture = await readPicture(picturePath);

  const opening = performance.now();
  const segmenter = await openBundle(bundle, values);
  const start = performance.now();
  const encoding = await segmenter.encodeImage(picture);
  const encoded = performance.now();
  const words = known ?? (await segmenter.encodeWords(/** @type {string[]} */ (chosen)));
  const segmentation = await segmenter.segment(encoding, words, values);
  const end = performance.now();
  await writeLabels(output, segmentation);
  const times = `encoded in ${ms(encoded - start)}, words and masks in ${ms(end - encoded)}`;
  console.log(`${picturePath}: ${picture.width} x ${picture.height} pixels, opened in ${ms(start - opening)}, ${times}`);
  console.log(`    ${shares(segmentation)}`);
  console.log(`    ${output}`);
  await segmenter.close();
}

/** @param {string} path of a vocabulary @param {string[] | undefined} chosen */
async function readWords(path, chosen) {
  const vocabulary = await readVocabulary(await readBytes(path, "vocabulary"), path);
  return chosen ? chooseWords(vocabulary, chosen) : vocabulary;
}

/** @param {string} bundle @param {{precision: string, threads?: number}} options */
async function openBundle(bundle, { precision, threads }) {
  // From 1.29 on ONNX Runtime reports usage to its makers, unless this is turned off before it is loaded.
  process.env.ORT_DISABLE_TELEMETRY ??= "1";
  const ort = await import("onnxruntime-node");
  const session = { intraOpNumThreads: threads ?? 0 };
  const workers = threads ?? availableParallelism();
  return open(folder(bundle), { ort, precision, session, workers, tokenizers: () => import("@huggingface/tokenizers") });
}

function parseCommand() {
  let parsed;
  try {
    parsed = parseArgs({
      allowPositionals: true,
      options: {
        help: { type: "boolean", short: "h" },
        classes: { type: "string" },
        background: { type: "boolean", default: false },
        threshold: { type: "string" },
        refine: { type: "boolean", default: false },
        precision: { type: "string", default: "fp32" },
        threads: { type: "string" },
      },
    });
  } catch (error) {
    throw new InputError(error.message);
  }
  const { positionals: paths, values } = parsed;
  if (values.help) {
    console.log(USAGE);
    process.exit();
  }
  if (paths.length !== 4) {
    throw new InputError(`expected BUNDLE VOCABULARY PICTURE LABELS.png, got ${paths.length} of these; see --help`);
  }
  const threshold = number("threshold", values.threshold);
  const threads = number("threads", values.threads);
  if (threads !== undefined && (!Number.isInteger(threads) || threads < 1)) {
    throw new InputError(`--threads is ${threads}, expected 1 or more`);
  }
  return { paths, values: { ...values, threshold, threads } };
}

/** @param {string} name @param {string | undefined} text */
function number(name, text) {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (text.trim() === "" || Number.isNaN(value)) throw new InputError(`--${name} is ${text}, expected a number`);
  return value;
}

/** @param {import("../web/t2d/segmenter.js").Segmentation} segmentation */
function shares({ labels, names }) {
  const counts = new Float64Array(names.length);
  for (const label of labels) counts[label] += 1;
  return names
    .map((name, label) => ({ name, share: counts[label] / labels.length }))
    .filter(({ share }) => share > 0)
    .sort((one, other) => other.share - one.share)
    .map(({ name, share }) => `${name} ${(100 * share).toFixed(1)}%`)
    .join(", ");
}

/** @param {number} milliseconds */
function ms(milliseconds) {
  return `${milliseconds.toFixed(0)} ms`;
}

try {
  await main();
} catch (error) {
  if (!(error instanceof InputError)) throw error;
  console.error(`segment.js: error: ${error.message}`);
  process.exitCode = BAD_INPUT;
}
