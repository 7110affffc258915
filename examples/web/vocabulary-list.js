// The words of a vocabulary beside the field where words are typed: ticking writes them there.

import { parseWords } from "./words.js";

/** Most words shown at a time. Typing in the search field finds the others. */
const SHOWN = 200;

/** A vocabulary of up to this many words is written into an empty field. */
const WRITTEN_AT_FIRST = 32;

export class VocabularyList {
  #names = [];
  #others = 0; // words that the field's notation cannot say

  /**
   * @param {Record<string, HTMLElement>} elements typed, find, list, count, all, none, known
   */
  constructor(elements) {
    this.elements = elements;
    elements.find.addEventListener("input", () => this.#show());
    elements.typed.addEventListener("input", () => this.#tick());
    elements.list.addEventListener("change", ({ target }) => this.#write([target.value], target.checked));
    elements.all.addEventListener("click", () => this.#write(this.#names, true));
    elements.none.addEventListener("click", () => this.#write(this.#names, false));
  }

  /**
   * Show a vocabulary's words. Those of a small one replace the words of the one before, or fill the empty field.
   * @param {{names: string[], phrases: string[], classIndices: number[], thresholds: Record<string, number>}} vocabulary
   */
  use({ names, phrases, classIndices, thresholds }) {
    const { typed, known, find } = this.elements;
    const before = this.#names.map(plain);
    const others = Object.keys(parseWords(typed.value)?.classes ?? {}).filter((name) => !before.includes(plain(name)));
    this.#names = names.filter(typeable);
    this.#others = names.length - this.#names.length;
    known.hidden = false;
    find.value = "";
    if (others.length === 0) {
      const own = names.length <= WRITTEN_AT_FIRST ? this.#names : [];
      const negatives = phrases.filter((_, row) => classIndices[row] < 0 && own.length > 0);
      typed.value = notation(own, negatives, thresholds);
    }
    this.#show();
  }

  /** The names among the lines of the field, and the field without some. @param {string[]} words @param {boolean} on */
  #write(words, on) {
    const { typed } = this.elements;
    const wanted = new Set(words.map(plain));
    const present = new Set(Object.keys(parseWords(typed.value)?.classes ?? {}).map(plain));
    if (on) {
      const added = words.filter((word) => !present.has(plain(word))).join(", ");
      const kept = typed.value.trimEnd();
      typed.value = [kept, added].filter(Boolean).join(/(^|\n)- [^\n]*$/.test(kept) ? "\n" : ", ");
    } else {
      const lines = typed.value.split("\n").map((line) => {
        const parts = line.split(",");
        const kept = parts.filter((part) => !wanted.has(plain(Object.keys(parseWords(part)?.classes ?? {})[0] ?? "")));
        return kept.length === parts.length ? line : kept.join(",").trim();
      });
      typed.value = lines.filter((line) => line.trim()).join("\n");
    }
    typed.dispatchEvent(new Event("input"));
  }

  #show() {
    const { find, list } = this.elements;
    const letters = plain(find.value);
    const matching = this.#names.filter((name) => plain(name).includes(letters));
    list.replaceChildren(...matching.slice(0, SHOWN).map(checkbox));
    if (matching.length === 0) list.append(note("No word of the vocabulary has these letters."));
    if (this.#others > 0) list.append(note(`${this.#others} others have signs that the field takes for its own.`));
    if (matching.length > SHOWN) list.append(note(`${matching.length - SHOWN} more: type to find them.`));
    this.#tick();
  }

  #tick() {
    const { typed, list, count } = this.elements;
    const present = new Set(Object.keys(parseWords(typed.value)?.classes ?? {}).map(plain));
    for (const input of list.querySelectorAll("input")) input.checked = present.has(plain(input.value));
    count.textContent = `${this.#names.filter((name) => present.has(plain(name))).length} of ${this.#names.length}`;
  }
}

/** Words that differ in case or space alone are the same. @param {string} word */
const plain = (word) => word.split(/\s+/).filter(Boolean).join(" ").toLowerCase();

/** Whether the field's notation can say a name. @param {string} name */
const typeable = (name) => parseWords(name)?.classes[name.trim()]?.length === 1 && !/[,\n]/.test(name);

/** @param {string[]} names @param {string[]} negatives @param {Record<string, number>} thresholds */
function notation(names, negatives, thresholds) {
  const words = names.map((name) => (name in thresholds ? `${name} @${thresholds[name]}` : name)).join(", ");
  return [words, ...negatives.map((phrase) => `- ${phrase}`)].filter(Boolean).join("\n");
}

/** @param {string} name */
function checkbox(name) {
  const label = document.createElement("label");
  label.append(Object.assign(document.createElement("input"), { type: "checkbox", value: name }), name);
  return label;
}

/** @param {string} text */
function note(text) {
  return Object.assign(document.createElement("p"), { textContent: text });
}
