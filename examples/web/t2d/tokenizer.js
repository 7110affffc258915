// CLIP's tokenizer: texts to token ids, those of t2d_runtime/words/text.py.

import { readText } from "./cleaning.js";
import { InputError } from "./errors.js";

const START_TOKEN = 49406;
const END_TOKEN = 49407;

/**
 * CLIP's words, in text of lower case whose only white space is " ". Python's pattern ignores case: "ſ" is an s in
 * another one, and U+0345, a sign that is a letter in capitals, is neither sign nor letter.
 */
const WORD = /<\|[sſ]tartoftext\|>|<\|endoftext\|>|'[sſ]|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^ \p{L}\p{N}\u0345]+/gu;

/**
 * @typedef {import("./cleaning.js").Reading} Reading
 *
 * @typedef {object} Tokens
 * @property {number[]} ids from start to end token
 * @property {boolean} cut whether the text was longer than the context, and its end was left out
 */

/** Letters that Unicode added in the last years are told from signs as this browser's Unicode does. */
export class Tokenizer {
  /** @type {any} */
  #encoder;
  /** @type {Map<string, number[]>} words that were met */
  #known = new Map();

  /**
   * @param {Uint8Array} bytes of the bundle's tokenizer.json
   * @param {number} contextLength most tokens of a text, start and end included
   * @param {{Tokenizer: any}} library the module "@huggingface/tokenizers"
   * @throws {InputError} where it is no tokenizer.json
   */
  constructor(bytes, contextLength, library) {
    this.contextLength = contextLength;
    try {
      this.#encoder = new library.Tokenizer(JSON.parse(new TextDecoder().decode(bytes)), {});
    } catch (error) {
      const reason = /** @type {Error} */ (error).message;
      throw new InputError(`tokenizer.json is not a tokenizer (${reason}); export the bundle again`);
    }
  }

  /**
   * Token ids of a text.
   * @param {string} text
   * @returns {Tokens}
   */
  encode(text) {
    const ids = (readText(text).read.match(WORD) ?? []).flatMap((word) => this.#encodeWord(word));
    const most = this.contextLength - 2;
    return { ids: [START_TOKEN, ...ids.slice(0, most), END_TOKEN], cut: ids.length > most };
  }

  /** @param {string} word */
  #encodeWord(word) {
    let ids = this.#known.get(word);
    if (ids === undefined) {
      ids = /** @type {number[]} */ (this.#encoder.encode(word, { add_special_tokens: false }).ids);
      if (this.#known.size >= MOST_KNOWN) this.#known.clear();
      this.#known.set(word, ids);
    }
    return ids;
  }
}

const MOST_KNOWN = 10_000;
