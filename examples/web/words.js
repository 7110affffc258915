// The list of a vocabulary's words: tick them, or type them.

import { chooseWords, key, missingWords } from "./t2d/vocabulary.js";

/** Most words shown at a time. Typing finds the others. */
const SHOWN = 200;

/** A vocabulary of up to this many words starts with all of them ticked. */
const TICKED_AT_FIRST = 32;

export class WordList {
  /** What the page asks for where no word is ticked. */
  wanted = "Tick a word to look for.";
  #vocabulary;
  #chosen = new Set();

  /**
   * @param {Record<string, HTMLElement>} elements typed, list, unknown, count, all, none
   * @param {() => void} onChange
   */
  constructor(elements, onChange) {
    this.elements = elements;
    this.onChange = onChange;
    elements.typed.addEventListener("input", () => this.#show());
    elements.typed.addEventListener("keydown", (event) => event.key === "Enter" && this.#tickTyped());
    elements.list.addEventListener("change", ({ target }) => this.#tick([target.value], target.checked));
    elements.all.addEventListener("click", () => this.#tick(this.#vocabulary.names, true));
    elements.none.addEventListener("click", () => this.#tick(this.#vocabulary.names, false));
  }

  /** @param {import("./t2d/vocabulary.js").Vocabulary} vocabulary */
  use(vocabulary) {
    this.#vocabulary = vocabulary;
    this.#chosen = new Set(vocabulary.names.length <= TICKED_AT_FIRST ? vocabulary.names : []);
    for (const name of ["typed", "all", "none"]) this.elements[name].disabled = false;
    this.#show();
  }

  /** The ticked words and their vectors, in the vocabulary's order; null for none. */
  chosen() {
    const words = this.#vocabulary?.names.filter((name) => this.#chosen.has(name)) ?? [];
    return words.length > 0 ? chooseWords(this.#vocabulary, words) : null;
  }

  #tick(words, on) {
    const before = this.#chosen.size;
    for (const word of words) this.#chosen[on ? "add" : "delete"](word);
    if (this.#chosen.size === before) return;
    for (const input of this.elements.list.querySelectorAll("input")) input.checked = this.#chosen.has(input.value);
    this.#tally();
    this.onChange();
  }

  #tickTyped() {
    const { typed } = this.elements;
    const words = typed.value.split(",").filter((word) => word.trim());
    const known = new Map(this.#vocabulary.names.map((name) => [key(name), name]));
    const missing = words.filter((word) => !known.has(key(word)));
    typed.value = missing.join(",").trim();
    this.#show();
    this.#tick(
      words.map((word) => known.get(key(word))).filter((name) => name !== undefined),
      true,
    );
    this.complain(missing.length > 0 ? missingWords(missing, this.#vocabulary.names.length) : "");
  }

  /** Show what is wrong with the words; an empty text for nothing. @param {string} message */
  complain(message) {
    const { typed, unknown } = this.elements;
    unknown.textContent = message;
    unknown.hidden = message === "";
    typed.setAttribute("aria-invalid", String(message !== ""));
  }

  #show() {
    const { typed, list } = this.elements;
    const { names } = this.#vocabulary;
    const last = key(typed.value.split(",").pop());
    const matching = names.filter((name) => key(name).includes(last));
    list.replaceChildren(...matching.slice(0, SHOWN).map((name) => this.#checkbox(name)));
    if (matching.length === 0) list.append(note("No word of the vocabulary has these letters."));
    if (matching.length > SHOWN) list.append(note(`${matching.length - SHOWN} more: type to find them.`));
    this.complain("");
    this.#tally();
  }

  #tally() {
    this.elements.count.textContent = `${this.#chosen.size} of ${this.#vocabulary.names.length}`;
  }

  #checkbox(name) {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "checkbox", value: name });
    input.checked = this.#chosen.has(name);
    label.append(input, name);
    return label;
  }
}

function note(text) {
  return Object.assign(document.createElement("p"), { textContent: text });
}
