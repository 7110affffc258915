// Encodes words as the page does: node encode.mjs STEP BUNDLE < JSON > JSON

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import * as tokenizers from "@huggingface/tokenizers";

import { readCached } from "../../examples/web/t2d/file-cache.js";
import { Bundle, WordEncoder, dropCached, open } from "../../examples/web/t2d/index.js";
import { folder } from "../../examples/web/t2d/node.js";

const ort = createRequire(new URL("../../examples/node/", import.meta.url))("onnxruntime-node");
const [step, path] = process.argv.slice(2);

/** A bundle that keeps the names of the files that were read. */
async function openBundle() {
  const files = folder(path);
  const reads = [];
  const read = (name, ...given) => {
    reads.push(name);
    return files.read(name, ...given);
  };
  const bundle = await Bundle.open({ ...files, read });
  reads.length = 0;
  return Object.assign(bundle, { reads });
}

function countingEngine() {
  const counts = { created: 0, runs: [], released: 0 };
  const create = async (...given) => {
    const session = await ort.InferenceSession.create(...given);
    counts.created += 1;
    return {
      run: (inputs) => {
        counts.runs.push(inputs.input_ids.dims);
        return session.run(inputs);
      },
      release: async () => {
        counts.released += 1;
        await session.release();
      },
    };
  };
  return { counts, ort: { Tensor: ort.Tensor, InferenceSession: { create } } };
}

/** A cache like the browser's, in memory; `full` refuses to keep anything. */
function memoryCaches(full = false) {
  const entries = new Map();
  const place = (key) => (typeof key === "string" ? key : key.url).split("?")[0];
  const store = {
    match: async (key) => entries.get(key)?.clone(),
    keys: async (key) => [...entries.keys()].filter((kept) => place(kept) === place(key)).map((url) => ({ url })),
    delete: async ({ url }) => entries.delete(url),
    put: async (key, response) => {
      if (full) throw new DOMException("Quota exceeded.", "QuotaExceededError");
      entries.set(key, response);
    },
  };
  return { entries, open: async () => store, delete: async () => entries.clear() };
}

async function failure(action) {
  try {
    await action();
    return "nothing was thrown";
  } catch (error) {
    return `${error.constructor.name}: ${error.message}`;
  }
}

const steps = {
  async encode({ precision = undefined, calls }) {
    const session = { intraOpNumThreads: 1 };
    const encoder = await WordEncoder.open(await openBundle(), { ort, tokenizers, precision, session });
    const results = await Promise.all(calls.map(({ words, ...options }) => encoder.encode(words, options)));
    await encoder.close();
    const { precision: chosen, manifest } = encoder;
    const found = results.map((one) => ({ ...one, vectors: [...one.vectors] }));
    return { precision: chosen, digest: manifest.digest, results: found };
  },

  async labels({ words, picture, width, height, options, precision }) {
    const segmenter = await open(folder(path), { ort, workers: 1 });
    const encoder = await WordEncoder.open(segmenter.bundle, { ort, tokenizers, precision });
    const { vectors } = await encoder.encode(words);
    const { digest, width: depth } = segmenter.manifest;
    const classIndices = [...words.keys()];
    const vocabulary = { names: words, phrases: words, classIndices, thresholds: {}, vectors, width: depth, digest };
    const encoding = await segmenter.encodeImage({ pixels: new Uint8Array(readFileSync(picture)), width, height });
    const { labels } = await segmenter.segment(encoding, vocabulary, options);
    await encoder.close();
    await segmenter.close();
    return [...labels];
  },

  async known({ words, more }) {
    const { ort: engine, counts } = countingEngine();
    const encoder = await WordEncoder.open(await openBundle(), { ort: engine, tokenizers });
    counts.runs.length = 0;
    const first = await encoder.encode(words);
    const runs = counts.runs.length;
    const again = await encoder.encode([...words].reverse());
    const same = counts.runs.length === runs;
    await encoder.encode([...words, ...more]);
    const added = counts.runs.slice(runs);
    await encoder.encode(words, { prompts: "simple" });
    await encoder.close();
    const last = again.vectors.slice(-encoder.manifest.width);
    return {
      runs,
      same,
      added,
      others: counts.runs.slice(runs + added.length),
      released: counts.released,
      equal: last.every((value, index) => value === first.vectors[index]),
    };
  },

  async loading() {
    const seen = [];
    const bundle = await openBundle();
    await (await WordEncoder.open(bundle, { ort, tokenizers, progress: (now) => seen.push(now) })).close();
    return { seen, read: bundle.reads };
  },

  async cancelled() {
    const { ort: engine, counts } = countingEngine();
    const controller = new AbortController();
    const bundle = await openBundle();
    const progress = () => controller.abort();
    const loading = await failure(() =>
      WordEncoder.open(bundle, { ort: engine, tokenizers, progress, signal: controller.signal }),
    );
    const encoder = await WordEncoder.open(bundle, { ort: engine, tokenizers });
    const encoding = await failure(() => encoder.encode(["cat"], { signal: AbortSignal.abort() }));
    const after = (await encoder.encode(["cat"])).readings[0].read;
    await encoder.close();
    return { loading, encoding, after, open: counts.created - counts.released };
  },

  async refused({ calls, precision }) {
    const encoder = await WordEncoder.open(await openBundle(), { ort, tokenizers });
    const messages = [];
    for (const { words, ...options } of calls) messages.push(await failure(() => encoder.encode(words, options)));
    const bundle = await openBundle();
    messages.push(await failure(() => WordEncoder.open(bundle, { ort, tokenizers, precision })));
    return messages;
  },

  async cache() {
    const [caches, bundle] = [memoryCaches(), await openBundle()];
    const file = "tokenizer.json";
    const found = {};
    const read = async (progress) =>
      createHash("sha256").update(await readCached(bundle, file, { progress }, caches)).digest("hex");
    found.first = await read();
    found.second = await read((bytes) => (found.progress = bytes));
    found.reads = bundle.reads.length;
    const [key] = caches.entries.keys();
    caches.entries.set(key, new Response("damaged"));
    found.damaged = await read();
    found.readsAfterDamage = bundle.reads.length;
    const older = key.replace(/sha256=.*/, `sha256=${"0".repeat(64)}`);
    caches.entries.set(older, new Response("an older version"));
    caches.entries.delete(key);
    await readCached(bundle, file, {}, caches);
    await readCached(bundle, "selftest.npz", {}, caches);
    found.keys = [...caches.entries.keys()];
    await dropCached(caches);
    found.left = caches.entries.size;
    const told = [];
    const kept = await readCached(bundle, file, { uncached: (reason) => told.push(reason) }, memoryCaches(true));
    const closed = { open: async () => Promise.reject(new DOMException("Access is denied.", "SecurityError")) };
    await readCached(bundle, file, { uncached: (reason) => told.push(reason) }, closed);
    const controller = new AbortController();
    controller.abort();
    found.cancelled = await failure(() => readCached(bundle, file, { signal: controller.signal }, memoryCaches()));
    return { ...found, told, withoutRoom: kept.length, key };
  },
};

process.stdout.write(JSON.stringify(await steps[step](JSON.parse(readFileSync(0)))));
