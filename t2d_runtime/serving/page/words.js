// Words as they are typed, in the notation of class files: a class a line or between commas, synonyms between
// semicolons, "- " before a negative, "@0.57" after a class's own threshold.

import { InputError } from "./errors.js";

/**
 * @typedef {{
 *   classes: Record<string, string[]>,
 *   negatives: string[],
 *   thresholds: Record<string, number>,
 * }} Chosen
 */

const THRESHOLD = /\s@\s*(\S*)\s*$/;
const UNFINISHED = ["", ".", "0."]; // while it is typed

/**
 * @param {string} text
 * @returns {Chosen | null} null where no class is named yet
 * @throws {InputError} for a threshold that is no number from 0 to 1
 */
export function parseWords(text) {
  const chosen = { classes: {}, negatives: [], thresholds: {} };
  for (const line of text.split(/[\n,]/)) {
    const content = line.trim();
    if (content.startsWith("- ")) {
      chosen.negatives.push(...split(content.slice(2)));
      continue;
    }
    const found = THRESHOLD.exec(` ${content}`);
    const phrases = split(found ? content.slice(0, found.index) : content);
    if (phrases.length === 0) continue;
    const [name] = phrases;
    chosen.classes[name] = [...(chosen.classes[name] ?? []), ...phrases];
    if (found && !UNFINISHED.includes(found[1])) chosen.thresholds[name] = threshold(found[1]);
  }
  return Object.keys(chosen.classes).length > 0 ? chosen : null;
}

function threshold(text) {
  const value = Number(text);
  if (value >= 0 && value <= 1) return value;
  const message = `the threshold is “${text}”, expected a number from 0 to 1, such as 0.57`;
  throw Object.assign(new InputError(message), { about: "words" });
}

function split(text) {
  return text
    .split(";")
    .map((phrase) => phrase.trim())
    .filter(Boolean);
}

export class TypedWords {
  /** What the page asks for where no word is typed. */
  wanted = "Type a word to look for.";

  /**
   * @param {Record<string, HTMLElement>} elements typed, unknown
   * @param {() => void} onChange
   */
  constructor(elements, onChange) {
    this.elements = elements;
    elements.typed.addEventListener("input", () => {
      this.complain("");
      onChange();
    });
  }

  /** @returns {Chosen | null} */
  chosen() {
    return parseWords(this.elements.typed.value);
  }

  /** Show what is wrong with the words; an empty text for nothing. @param {string} message */
  complain(message) {
    const { typed, unknown } = this.elements;
    unknown.textContent = message;
    unknown.hidden = message === "";
    typed.setAttribute("aria-invalid", String(message !== ""));
  }
}
