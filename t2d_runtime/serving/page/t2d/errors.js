/** Bad input: the message says what was expected, what was got and what to do. */
export class InputError extends Error {}
