// The page: loads a bundle's graph and a vocabulary, and segments the picture again whenever something changes.
//
// The page's address may choose them: ?bundle=URL/&vocabulary=URL&precision=int8&threads=2

import { Engine } from "./engine.js";
import { drawMasks, drawPicture, shares } from "./picture.js";
import { InputError } from "./t2d/errors.js";
import { checkVocabulary, readManifest } from "./t2d/manifest.js";
import { readVocabulary } from "./t2d/vocabulary.js";
import { WordList } from "./words.js";

/** More threads gain little on one picture, and take cores that keep the page responsive. */
const MAX_THREADS = 4;

const address = new URLSearchParams(location.search);
const page = Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));
const engine = new Engine(showProgress);
const words = new WordList(page, update);
let manifest;
let ready = false;
let shown = null; // the picture's size
let running = false;
let changed = false;

async function start() {
  const base = new URL(address.get("bundle") ?? "bundle/", location.href);
  const manifestUrl = new URL("manifest.json", base);
  const text = new TextDecoder().decode(await fetchBytes(manifestUrl, "see README.md for how to serve a bundle"));
  manifest = await readManifest(text, manifestUrl.pathname, address.get("precision") ?? "fp32");
  page.threshold.value = manifest.threshold;
  page.thresholdValue.value = manifest.threshold;

  page.vocabulary.disabled = false;
  await fetchVocabulary().catch(complain); // another may be chosen

  const begun = performance.now();
  const threads = threadCount();
  await engine.call("open", { base: base.href, manifest, threads });
  const megabytes = manifest.files.reduce((sum, { bytes }) => sum + bytes, 0) / 1e6;
  fact("Model", `${megabytes.toFixed(1)} MB, ${manifest.precision}, loaded in ${seconds(performance.now() - begun)}`);
  fact(
    "Threads",
    crossOriginIsolated ? `${threads}` : `${threads}: this server lets pages have no more (see README.md)`,
  );
  page.loading.hidden = true;
  ready = true;
  await update();
}

async function fetchVocabulary() {
  const url = new URL(address.get("vocabulary") ?? "vocabulary.safetensors", location.href);
  await useVocabulary(await fetchBytes(url, "'t2d classes' makes one"), url.pathname);
}

/** @param {Uint8Array} bytes @param {string} name */
async function useVocabulary(bytes, name) {
  const vocabulary = await readVocabulary(bytes, name);
  checkVocabulary(manifest, vocabulary);
  words.use(vocabulary);
}

/** @param {URL} url @param {string} advice */
async function fetchBytes(url, advice) {
  const response = await fetch(url, { cache: "no-cache" }); // of one bundle, not of the one that was here before
  if (!response.ok) {
    throw new InputError(`${url.pathname} cannot be loaded (${response.status} ${response.statusText}); ${advice}`);
  }
  return new Uint8Array(await response.arrayBuffer());
}

/** Pages share memory between threads only where the server isolates them from other sites. */
function threadCount() {
  const wanted = Number(address.get("threads") ?? Math.min(navigator.hardwareConcurrency, MAX_THREADS));
  if (!Number.isInteger(wanted) || wanted < 1) {
    throw new InputError(`threads is ${address.get("threads")}, expected 1 or more`);
  }
  return crossOriginIsolated ? wanted : 1;
}

/** @param {File} file a picture, or a vocabulary */
async function take(file) {
  if (file.name.endsWith(".safetensors")) {
    await useVocabulary(new Uint8Array(await file.arrayBuffer()), file.name);
  } else {
    const { image, original } = await drawPicture(page.picture, file);
    shown = { width: image.width, height: image.height };
    page.masks.width = page.masks.height = 0;
    page.canvases.hidden = false;
    page.legend.hidden = true;
    const shrunk = original.width === shown.width ? "" : `, shown and segmented at ${size(shown)}`;
    fact("Picture", `${file.name}, ${size(original)}${shrunk}`);
    await engine.call("setPicture", image);
  }
  await update();
}

/** Segment the shown picture. Changes wait while that runs, and only the last of them counts. */
async function update() {
  changed = true;
  if (running || !ready) return;
  running = true;
  try {
    while (changed) {
      changed = false;
      await segment();
    }
  } catch (error) {
    complain(error);
  } finally {
    running = false;
  }
}

async function segment() {
  const chosen = words.chosen();
  if (!shown || !chosen) {
    page.status.textContent = shown ? "Tick a word to look for." : "Ready for a picture.";
    page.masks.width = page.masks.height = 0;
    page.legend.hidden = true;
    return;
  }
  const options = {
    background: page.background.checked,
    threshold: page.threshold.valueAsNumber,
    refine: page.refine.checked,
  };
  page.status.textContent = "Segmenting …";
  page.canvases.ariaBusy = "true";
  const asked = shown;
  try {
    const result = await engine.call("segment", { words: chosen, options });
    if (shown === asked) show(result, options); // else another picture is there, and its turn comes
  } finally {
    page.canvases.ariaBusy = "false";
  }
}

function show(result, options) {
  const { background } = options;
  page.error.hidden = true;
  drawMasks(page.masks, result, background);
  const present = shares(result, background);
  page.legend.replaceChildren(...present.map(legendEntry));
  page.legend.hidden = false;
  page.canvases.ariaLabel = `The picture with the masks of ${present.map(({ name }) => name).join(", ")}`;
  page.status.textContent = `Segmented in ${seconds(result.milliseconds)}.`;
  // For pages that build on this one, and for tests.
  document.dispatchEvent(new CustomEvent("segmentation", { detail: { ...result, ...options } }));
}

function legendEntry({ name, share, colour }) {
  const entry = document.createElement("li");
  const swatch = Object.assign(document.createElement("span"), { className: "swatch" });
  swatch.style.background = `rgb(${colour})`;
  const percent = share < 0.001 ? "<0.1 %" : `${(100 * share).toFixed(1)} %`;
  entry.append(
    swatch,
    name,
    Object.assign(document.createElement("span"), { className: "share", textContent: percent }),
  );
  return entry;
}

function showProgress({ loaded, total }) {
  page.progress.max = total;
  page.progress.value = loaded;
  const done = loaded === total ? ", starting" : "";
  page.bytes.textContent = `${(loaded / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB${done}`;
}

/** A line of the list of facts. */
function fact(name, text) {
  let value = page.facts.querySelector(`[data-name="${name}"]`);
  if (!value) {
    value = document.createElement("dd");
    value.dataset.name = name;
    page.facts.append(Object.assign(document.createElement("dt"), { textContent: name }), value);
  }
  value.textContent = text;
}

function complain(error) {
  page.error.textContent = error.message;
  page.error.hidden = false;
  page.status.textContent = "";
  if (!(error instanceof InputError)) throw error;
}

function takeAll(files) {
  page.error.hidden = true;
  for (const file of files) take(file).catch(complain);
}

const size = ({ width, height }) => `${width} × ${height} pixels`;
const seconds = (milliseconds) =>
  milliseconds < 1000 ? `${milliseconds.toFixed(0)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;

page.controls.addEventListener("submit", (event) => event.preventDefault());
page.background.addEventListener("change", () => {
  page.threshold.disabled = !page.background.checked;
  update();
});
page.refine.addEventListener("change", update);
page.threshold.addEventListener("input", () => {
  page.thresholdValue.value = page.threshold.value;
  update();
});
page.opacity.addEventListener("input", () => page.masks.style.setProperty("--mask-opacity", page.opacity.value));
for (const input of [page.file, page.vocabulary]) {
  input.addEventListener("change", () => {
    takeAll(input.files);
    input.value = ""; // the same file may be chosen again
  });
}
for (const kind of ["dragover", "dragleave", "drop"]) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dragging", kind === "dragover");
  });
}
addEventListener("drop", ({ dataTransfer }) => takeAll(dataTransfer.files));

start().catch((error) => {
  page.loading.hidden = true;
  complain(error);
});
