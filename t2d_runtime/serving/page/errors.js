/**
 * A message for the visitor. Pages show every error of this name as it is; `about` says beside what: "words", "key".
 *
 * Engines may have a class of their own with this name.
 */
export class InputError extends Error {
  name = "InputError";
}
