// The page: a bundle and words in this browser, segmenting again whenever something changes.
//
// The page's address may choose: ?bundle=URL/&vocabulary=URL&precision=int8&engine=webgpu|wasm&threads=2

import { BrowserEngine } from "./engine.js";
import { InputError } from "./errors.js";
import { Page } from "./page.js";
import { VocabularyList } from "./vocabulary-list.js";
import { listenToTheTextEncoder, showBytes, showTextProgress } from "./text-encoder.js";
import { TypedWords } from "./words.js";

const address = new URLSearchParams(location.search);
const elements = Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));
const engine = new BrowserEngine(address, showProgress);
const words = new TypedWords(elements, () => page.update());
const list = new VocabularyList(elements);
const page = new Page(elements, engine, words, { ".safetensors": takeVocabulary });
listenToTheTextEncoder(elements, engine, page);

async function start() {
  await page.start();
  elements.vocabulary.disabled = false;
  await fetchVocabulary().catch((error) => page.complain(error)); // another may be chosen
  await page.update();
  if (navigator.serviceWorker) await keepForOffline().catch((error) => page.fact("Offline", `no: ${error.message}`));
}

async function fetchVocabulary() {
  const url = new URL(address.get("vocabulary") ?? "vocabulary.safetensors", location.href);
  const response = await fetch(url, { cache: "no-cache" });
  if (response.status === 404 && !address.has("vocabulary")) return; // there need be none
  if (!response.ok) {
    throw new InputError(`${url.pathname} cannot be loaded (${response.status}); 't2d classes' makes a vocabulary`);
  }
  await useVocabulary(new Uint8Array(await response.arrayBuffer()), url.pathname);
}

/** @param {Uint8Array} bytes @param {string} name */
async function useVocabulary(bytes, name) {
  list.use(await engine.addVocabulary(bytes, name));
  words.complain("");
}

/** @param {File} file */
async function takeVocabulary(file) {
  await useVocabulary(new Uint8Array(await file.arrayBuffer()), file.name);
}

/** @param {import("./engine.js").Progress} progress */
function showProgress({ model, text, uncached }) {
  if (uncached) page.fact("Offline", `no: ${uncached}`);
  if (text !== undefined) showTextProgress(elements, text);
  if (model) showBytes(elements.progress, elements.bytes, model);
}

elements.vocabulary.addEventListener("change", () => {
  page.takeAll(elements.vocabulary.files);
  elements.vocabulary.value = ""; // the same file may be chosen again
});

/** For visits without a network. Pages have no service worker without https or localhost, nor in some private windows. */
async function keepForOffline() {
  await navigator.serviceWorker.register("offline.js");
  const { active } = await navigator.serviceWorker.ready;
  const loaded = performance.getEntriesByType("resource").map(({ name }) => name);
  active.postMessage({ keep: [location.href, ...loaded, ...engine.loaded] });
}

start().catch((error) => {
  elements.loading.hidden = true;
  page.complain(error);
});
