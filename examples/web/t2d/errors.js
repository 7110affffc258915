/** Bad input: the message says what was expected, what was got and what to do. Pages show it as it is. */
export class InputError extends Error {
  name = "InputError";
  /** Where the mistake is, in pages that tell. @type {"words" | undefined} */
  about;
}

/** Words that cannot be used. */
export class WordsError extends InputError {
  about = /** @type {const} */ ("words");
}
