// What the page shows of the text encoder: its progress, a button that gives it up, and how it read words.

/**
 * @param {Record<string, HTMLElement>} elements decline, accept, readings
 * @param {import("./engine.js").BrowserEngine} engine
 * @param {import("./page.js").Page} page
 */
export function listenToTheTextEncoder(elements, engine, page) {
  const { accept, decline, readings } = elements;
  decline.addEventListener("click", () => {
    engine.decline(true);
    accept.hidden = false;
  });
  accept.addEventListener("click", () => {
    engine.decline(false);
    accept.hidden = true;
    page.words.complain("");
    page.update();
  });
  document.addEventListener("segmentation", ({ detail }) => {
    readings.replaceChildren(...detail.readings.map(reading));
    readings.hidden = detail.readings.length === 0;
  });
}

/** @param {{phrase: string, read: string, repaired: boolean, certain: boolean, cut: boolean}} how a word was read */
function reading({ phrase, read, repaired, certain, cut }) {
  const parts = [`“${phrase}” was read as “${read}”`];
  if (!repaired) parts[0] = `“${phrase}” was read as it is`;
  if (!certain) parts.push("it looks wrongly decoded, and Python may repair it");
  if (cut) parts.push("it is too long, and its end has no effect");
  return Object.assign(document.createElement("li"), { textContent: `${parts.join("; ")}.` });
}

/**
 * @param {Record<string, HTMLElement>} elements encoder, encoderProgress, encoderBytes
 * @param {import("./engine.js").Bytes | null} bytes null where it is not being loaded
 */
export function showTextProgress({ encoder, encoderProgress, encoderBytes }, bytes) {
  encoder.hidden = bytes === null;
  if (bytes) showBytes(encoderProgress, encoderBytes, bytes);
}

/**
 * @param {HTMLProgressElement} progress @param {HTMLElement} shown
 * @param {import("./engine.js").Bytes} bytes
 */
export function showBytes(progress, shown, { loaded, total }) {
  progress.max = total;
  progress.value = loaded;
  const done = loaded === total ? ", starting" : "";
  shown.textContent = `${(loaded / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB${done}`;
}
