// Uses a packed `t2d` as a program does: node package.mjs PACKAGE BUNDLE VOCABULARY PICTURE(raw RGB, 224 x 224)
// Prints JSON: shares of labels for several words, how often the encoder ran, and messages of what is refused.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [home, bundle, vocabulary, picture] = process.argv.slice(2);
const { InputError, open, readVocabulary } = await import(pathToFileURL(`${home}/index.js`));
const { folder } = await import(pathToFileURL(`${home}/node.js`));
process.env.ORT_DISABLE_TELEMETRY = "1";
const ort = createRequire(new URL("../../examples/node/package.json", import.meta.url))("onnxruntime-node");

const progress = [];
const segmenter = await open(folder(bundle), { ort, workers: 4, progress: (done) => progress.push(done) });
let runs = 0;
const { session } = segmenter;
segmenter.session = {
  run: (...given) => {
    runs += 1;
    return session.run(...given);
  },
  release: () => session.release(),
};
segmenter.addVocabulary(await readVocabulary(readFileSync(vocabulary), "words"));
const pixels = new Uint8Array(readFileSync(picture));
const encoding = await segmenter.encodeImage({ pixels, width: 224, height: 224 });

const made = [];
const asked = [
  [["sky", "Sea ", "sand"], {}, {}],
  [{ sky: "sky", thing: ["boat", "person"] }, { negatives: ["sand"] }, { refine: true }],
  [["tree", "sky"], { thresholds: { tree: 0.58 } }, { background: true, threshold: 0.56, refine: true }],
];
// All at once: calls do not disturb each other.
await Promise.all(
  asked.map(async ([words, wordOptions, options], index) => {
    const { labels, names } = await segmenter.segment(encoding, await segmenter.encodeWords(words, wordOptions), options);
    made[index] = { labels: [...labels], names };
  }),
);

const refused = [];
for (const call of [
  () => segmenter.encodeWords([]),
  () => segmenter.encodeWords(["sky", " SKY"]),
  () => segmenter.encodeWords([" "]),
  () => segmenter.encodeWords(["zebra"]),
  () => segmenter.encodeWords({ thing: [] }),
  () => segmenter.encodeWords({ a: "sky", b: "sky" }),
  () => segmenter.encodeWords(["sky"], { negatives: ["sky"] }),
  () => segmenter.encodeWords(["sky"], { thresholds: { sea: 0.5 } }),
  () => segmenter.encodeWords(["sky"], { thresholds: { sky: 5 } }),
  async () => segmenter.segment(encoding, await segmenter.encodeWords(["sky"]), { threshold: 2 }),
  async () => segmenter.segment(encoding, await segmenter.encodeWords(["sky"], { thresholds: { sky: 0.5 } })),
  async () => segmenter.segment({ ...encoding, manifest: {} }, await segmenter.encodeWords(["sky"])),
  () => segmenter.encodeImage({ pixels, width: 3, height: 3 }),
  () => open("bundle", { ort }),
  () => open(folder(bundle), { ort, signal: AbortSignal.abort() }),
]) {
  try {
    await call();
    refused.push("nothing");
  } catch (error) {
    refused.push(error instanceof InputError ? error.message : error.name);
  }
}
console.log(JSON.stringify({ made, runs, refused, progress: progress.at(-1) }));
await segmenter.close();
