// The page: a bundle's graph and a vocabulary in this browser, segmenting again whenever something changes.
//
// The page's address may choose them: ?bundle=URL/&vocabulary=URL&precision=int8&threads=2

import { GraphEngine } from "./engine.js";
import { Page } from "./page.js";
import { fetchBytes } from "./t2d/fetching.js";
import { checkVocabulary } from "./t2d/manifest.js";
import { readVocabulary } from "./t2d/vocabulary.js";
import { WordList } from "./words.js";

const address = new URLSearchParams(location.search);
const elements = Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));
const engine = new GraphEngine(address, showProgress);
const words = new WordList(elements, () => page.update());
const page = new Page(elements, engine, words, { ".safetensors": takeVocabulary });

async function start() {
  await engine.readManifest();
  elements.vocabulary.disabled = false;
  await fetchVocabulary().catch((error) => page.complain(error)); // another may be chosen
  await page.start();
}

async function fetchVocabulary() {
  const url = new URL(address.get("vocabulary") ?? "vocabulary.safetensors", location.href);
  await useVocabulary(await fetchBytes(url, "'t2d classes' makes one"), url.pathname);
}

/** @param {Uint8Array} bytes @param {string} name */
async function useVocabulary(bytes, name) {
  const vocabulary = await readVocabulary(bytes, name);
  checkVocabulary(engine.manifest, vocabulary);
  words.use(vocabulary);
}

/** @param {File} file */
async function takeVocabulary(file) {
  await useVocabulary(new Uint8Array(await file.arrayBuffer()), file.name);
}

function showProgress({ loaded, total }) {
  elements.progress.max = total;
  elements.progress.value = loaded;
  const done = loaded === total ? ", starting" : "";
  elements.bytes.textContent = `${(loaded / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB${done}`;
}

elements.vocabulary.addEventListener("change", () => {
  page.takeAll(elements.vocabulary.files);
  elements.vocabulary.value = ""; // the same file may be chosen again
});

start().catch((error) => {
  elements.loading.hidden = true;
  page.complain(error);
});
