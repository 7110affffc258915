// The page of `t2d serve`: any words, segmented by the server as they are typed.

import { Page } from "./page.js";
import { ServerEngine } from "./engine.js";
import { TypedWords } from "./words.js";

const elements = Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));
const engine = new ServerEngine();
const words = new TypedWords(elements, () => page.update());
const page = new Page(elements, engine, words);

async function start() {
  try {
    await page.start();
    elements.watch.hidden = !engine.live;
    elements.access.hidden = true;
  } catch (error) {
    elements.loading.hidden = true;
    if (error.about === "key") {
      elements.access.hidden = false;
      elements.key.focus();
    }
    page.complain(error);
  }
}

elements.access.addEventListener("submit", (event) => {
  event.preventDefault();
  elements.error.hidden = true;
  engine.useKey(elements.key.value.trim());
  start();
});
addEventListener("pagehide", () => engine.forget());

start();
