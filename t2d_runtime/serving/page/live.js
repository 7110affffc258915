// The page of a live source: its picture as it comes, and words for everybody who looks.

import { InputError } from "./errors.js";
import { legendEntry } from "./page.js";
import { partsOf } from "./parts.js";
import { Server } from "./server.js";
import { TypedWords } from "./words.js";

/** Time between two looks at the state, and before the picture is asked for again, in milliseconds. */
const PAUSE_MS = 1000;

const elements = Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));
const server = new Server();
const words = new TypedWords(elements, () => change());

let version = 0; // of the words that the controls show
let changed = false;
let running = false;

const pause = () => new Promise((resolve) => setTimeout(resolve, PAUSE_MS));

/** Put the words of the page, and of the last change alone, before everybody who looks. */
async function change() {
  changed = true;
  if (running) return;
  running = true;
  try {
    while (changed) {
      changed = false;
      const question = questionOf(words.chosen());
      if (question) version = (await (await server.call("PUT", "live/words", JSON.stringify(question))).json()).version;
    }
  } catch (error) {
    complain(error);
  } finally {
    running = false;
  }
}

function questionOf(chosen) {
  if (!chosen) return null;
  const { classes, negatives, thresholds } = chosen;
  const background = elements.background.checked;
  const window = elements.whole.checked ? "whole" : "slide";
  const question = { classes, negatives, background, refine: elements.refine.checked, window };
  return background ? { ...question, threshold: elements.threshold.valueAsNumber, thresholds } : question;
}

/** Show words and options that somebody else has chosen, unless they are being typed here. */
function take(info) {
  if (info.version === version || changed || running) return;
  if (version > 0 && document.activeElement === elements.typed) return;
  version = info.version;
  const { classes, negatives, thresholds, background, threshold, refine, window } = info.words;
  const lines = Object.entries(classes).map(([name, phrases]) => {
    const own = thresholds[name] === undefined ? "" : ` @${thresholds[name]}`;
    return `${phrases.join("; ")}${own}`;
  });
  elements.typed.value = [...lines, ...negatives.map((phrase) => `- ${phrase}`)].join("\n");
  elements.background.checked = background;
  elements.refine.checked = refine !== null;
  elements.whole.checked = window === "whole";
  elements.threshold.disabled = !background;
  elements.threshold.value = elements.thresholdValue.value = threshold;
}

function show(info) {
  elements.title.textContent = `${info.source}, segmented by words`;
  say(
    {
      live: "Live.",
      away: `${info.problem}. It is tried again.`,
    }[info.state] ?? "Opening the source …",
  );
  const { labels } = info;
  elements.legend.replaceChildren(...labels.map(legendEntry));
  elements.legend.hidden = labels.length === 0;
  elements.canvases.ariaLabel = `The live picture with the masks of ${labels.map(({ name }) => name).join(", ")}`;
  fact("Picture", `${info.width} × ${info.height} pixels`);
  fact("Rate", `${info.frames_per_s} frames a second; ${info.dropped} dropped so far, for newer ones`);
  fact("Viewers", String(info.viewers));
}

/** A status is read aloud where it changes, so the same one is not set again. */
function say(status) {
  if (elements.status.textContent !== status) elements.status.textContent = status;
}

function fact(name, text) {
  let value = elements.facts.querySelector(`[data-name="${name}"]`);
  if (!value) {
    value = document.createElement("dd");
    value.dataset.name = name;
    elements.facts.append(Object.assign(document.createElement("dt"), { textContent: name }), value);
  }
  value.textContent = text;
}

function complain(error) {
  if (!(error instanceof InputError)) throw error;
  if (error.about === "words") {
    words.complain(error.message);
    return;
  }
  elements.error.textContent = error.message;
  elements.error.hidden = false;
  if (error.about === "key") {
    elements.access.hidden = false;
    elements.key.focus();
  }
}

/** Draw the pictures as they come. Where drawing takes long, the server leaves older ones out. */
async function draw() {
  const answer = await server.call("GET", "live?legend=false");
  const { picture, canvases } = elements;
  for await (const part of partsOf(answer.body)) {
    const bitmap = await createImageBitmap(part);
    if (picture.width !== bitmap.width || picture.height !== bitmap.height) {
      picture.width = bitmap.width;
      picture.height = bitmap.height;
    }
    picture.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
    canvases.hidden = false;
    // For pages that build on this one, and for tests.
    document.dispatchEvent(new CustomEvent("frame"));
  }
}

/** Do something again and again; false where the key is missing. */
async function again(work) {
  for (;;) {
    try {
      await work();
    } catch (error) {
      complain(error instanceof TypeError ? new InputError("the connection was lost; it is tried again") : error);
      say("");
      if (error.about === "key") return;
    }
    await pause();
  }
}

async function look() {
  const info = await (await server.call("GET", "live/info")).json();
  elements.access.hidden = elements.error.hidden = true;
  take(info);
  show(info);
}

function start() {
  again(look);
  again(draw);
}

elements.controls.addEventListener("submit", (event) => event.preventDefault());
elements.access.addEventListener("submit", (event) => {
  event.preventDefault();
  elements.error.hidden = true;
  server.useKey(elements.key.value.trim());
  start();
});
elements.background.addEventListener("change", () => {
  elements.threshold.disabled = !elements.background.checked;
  change();
});
elements.threshold.addEventListener("input", () => {
  elements.thresholdValue.value = elements.threshold.value;
  change();
});
for (const option of [elements.refine, elements.whole]) option.addEventListener("change", () => change());

start();
