// Reads texts as the page does: node tokenize.mjs TOKENIZER.json < {"texts": [...]} > [{read, repaired, certain, ids, cut}]
// Without a file: what this Node.js takes for a letter, a number, lower case and one composed character.

import { readFileSync } from "node:fs";
import * as library from "@huggingface/tokenizers";

import { readText } from "../../examples/web/t2d/index.js";
import { Tokenizer } from "../../examples/web/t2d/tokenizer.js";

const [path] = process.argv.slice(2);
const MOST_CODE = 0x20000; // CJK beyond it is alike

function facts() {
  return Array.from({ length: MOST_CODE }, (_, code) => {
    if (code >= 0xd800 && code <= 0xdfff) return "";
    const text = String.fromCodePoint(code);
    const kind = /\p{L}/u.test(text) ? "L" : /\p{N}/u.test(text) ? "N" : "-";
    return kind + text.toLowerCase() + text.normalize("NFC") + text.normalize("NFKC");
  });
}

function tokens() {
  const tokenizer = new Tokenizer(readFileSync(path), 77, library);
  return JSON.parse(readFileSync(0)).map((text) => ({ ...readText(text), ...tokenizer.encode(text) }));
}

try {
  process.stdout.write(JSON.stringify(path === undefined ? facts() : tokens()));
} catch (error) {
  process.stdout.write(JSON.stringify(`${error.constructor.name}: ${error.message}`));
}
