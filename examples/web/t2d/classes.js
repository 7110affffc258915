// Classes as they are asked for: names, their phrases, negatives and thresholds, with the checks of the Python runtime.

import { WordsError } from "./errors.js";
import { NEGATIVE, key } from "./vocabulary.js";

const MOST_LABELS = 65536;
const MOST_LETTERS = 1000; // of a phrase
const BACKGROUND = "background";

/**
 * @typedef {string[] | Record<string, string | string[]>} ClassNames names that are their own phrases, or the phrases of
 *   each name
 *
 * @typedef {object} ClassOptions
 * @property {string[]} [negatives] phrases that compete, and whose pixels become background
 * @property {Record<string, number>} [thresholds] name -> the score from 0 to 1 that it must exceed, with background
 *
 * @typedef {object} ClassList
 * @property {string[]} names
 * @property {string[]} phrases class after class, then negatives
 * @property {number[]} classIndices the class of each phrase, or -1
 * @property {Record<string, number>} thresholds
 */

/**
 * @param {[string, string[]][]} groups names, and the phrases of each
 * @param {ClassOptions} [options]
 * @returns {ClassList}
 * @throws {WordsError} for what cannot be told apart
 */
export function classList(groups, { negatives = [], thresholds = {} } = {}) {
  const names = groups.map(([name]) => name);
  distinct(names, "class");
  if (names.length === 0) throw new WordsError("expected at least one class name, got none");
  const phrases = groups.map(([, group]) => group);
  phrases.forEach((group, index) => {
    if (group.length === 0) throw new WordsError(`class '${names[index]}' has no phrase, expected one or more`);
    distinct(group, "phrase");
  });
  distinct(negatives, "negative");
  onceOnly(names, phrases, negatives);
  for (const [name, value] of Object.entries(thresholds)) {
    if (!names.includes(name)) throw new WordsError(`a threshold is for '${name}', which is not a class`);
    if (!(value >= 0 && value <= 1)) throw new WordsError(`the threshold of '${name}' is ${value}, expected 0 to 1`);
  }
  const all = [...phrases.flat(), ...negatives];
  if (all.length >= MOST_LABELS) throw new WordsError(`${all.length} phrases, expected less than ${MOST_LABELS}`);
  return {
    names,
    phrases: all,
    classIndices: [...phrases.flatMap((group, index) => group.map(() => index)), ...negatives.map(() => NEGATIVE)],
    thresholds,
  };
}

/** @param {string[]} phrases @param {string} kind */
function distinct(phrases, kind) {
  /** @type {Map<string, string>} */
  const first = new Map();
  for (const phrase of phrases) {
    if (typeof phrase !== "string") throw new WordsError(`a ${kind} is ${JSON.stringify(phrase)}, expected text`);
    if (phrase.length > MOST_LETTERS) {
      throw new WordsError(`“${phrase.slice(0, 40)}…” has ${phrase.length} letters, expected at most ${MOST_LETTERS}`);
    }
    if (key(phrase) === "") throw new WordsError(`a ${kind} is blank, expected a word`);
    const other = first.get(key(phrase));
    if (other !== undefined) throw new WordsError(`“${other}” and “${phrase}” are the same; give each one once`);
    first.set(key(phrase), phrase);
  }
}

/** @param {string[]} names @param {string[][]} phrases @param {string[]} negatives */
function onceOnly(names, phrases, negatives) {
  /** @type {Map<string, string>} */
  const owners = new Map();
  phrases.forEach((group, index) => {
    for (const phrase of group) {
      const owner = owners.get(key(phrase));
      if (owner !== undefined) {
        throw new WordsError(`“${phrase}” is in two classes, ${owner} and ${names[index]}; give it to one`);
      }
      owners.set(key(phrase), names[index]);
    }
  });
  for (const phrase of negatives) {
    const owner = owners.get(key(phrase));
    if (owner !== undefined) {
      throw new WordsError(`“${phrase}” is a negative and a phrase of class ${owner}; choose one`);
    }
  }
}

/**
 * Throw an WordsError where words cannot be told from background, or have thresholds without it.
 * @param {ClassList} words
 * @param {boolean} background
 */
export function checkClasses({ names, classIndices, thresholds }, background) {
  if (!background && Object.keys(thresholds).length > 0) {
    throw new WordsError(`the thresholds of ${Object.keys(thresholds).join(", ")} have no effect without background`);
  }
  const shown = background || classIndices.includes(NEGATIVE);
  if (shown && names.some((name) => key(name) === BACKGROUND)) {
    throw new WordsError("a class is called “background”, the name of label 0; leave it out");
  }
}
