// Text as CLIP's tokenizer reads it: ftfy's repairs, HTML's references, white space and case, as in
// t2d_runtime/words/text.py. Of ftfy's repairs one is left out: text that was decoded wrongly, such as "cafÃ©".

import { unescapeClearHtml, unescapeHtml } from "./entities.js";

/** What Python's str.split takes for white space. */
const SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/;

const LIGATURES = new Map(
  "Ĳ=IJ ĳ=ij ŉ=ʼn Ǳ=DZ ǲ=Dz ǳ=dz Ǆ=DŽ ǅ=Dž ǆ=dž Ǉ=LJ ǈ=Lj ǉ=lj Ǌ=NJ ǋ=Nj ǌ=nj ﬀ=ff ﬁ=fi ﬂ=fl ﬃ=ffi ﬄ=ffl ﬅ=ſt ﬆ=st"
    .split(" ")
    .map((pair) => /** @type {[string, string]} */ (pair.split("="))),
);

/** Signs that seldom stand beside letters with accents, unless UTF-8 was decoded as something else. */
const ODD =
  "\\xa1-\\xa8\\xaa\\xac\\xaf-\\xb3\\xb5\\xb6\\xb8-\\xba\\xbc-\\xbe\\xd7\\xf7ƒˆˇ˘˛˜†‡‰" +
  "⁄₧€№∂∆∏∑√∞∩∫≈≠≡≤≥⌐◊│-╬▀-▓\\ufffd";
const OPENING = "\\xa1\\xab\\xbf\\xa9΄΅‘‚“„•‹\\uf8ff";
const CLOSING = "\\xae\\xbb˝”›™";
const FOREIGN = "[^\\0-\\x7f]";

/** Every text that ftfy takes for wrongly decoded has one of these; few others do. */
const SUSPICIOUS = new RegExp(
  [
    "[\\x80-\\x9f\\ufffd]",
    `[${ODD}]${FOREIGN}|${FOREIGN}[${ODD}°]`,
    `(?=${FOREIGN})\\p{Ll}(?=${FOREIGN})\\p{Lu}`,
    `(?=${FOREIGN})\\p{Lu}[${OPENING}]`,
    `(?=${FOREIGN})\\p{L}[${OPENING}${CLOSING}][\\p{L}\\p{N}_]`,
    `[${CLOSING}](?=${FOREIGN})[\\p{L}${OPENING}]`,
    "[Œœ][^A-Za-z]",
    `[ÂÃÎÐØÙ](?: |${FOREIGN})`,
    "‚[Äâó]",
  ].join("|"),
  "u",
);

/**
 * @typedef {object} Reading
 * @property {string} read the text as it is read, in lower case
 * @property {boolean} repaired whether more than white space and case was changed
 * @property {boolean} certain whether Python reads it the same: false where the text may have been decoded wrongly,
 *   which Python repairs
 */

/**
 * Clean a text as CLIP does.
 * @param {string} text
 * @returns {Reading}
 */
export function readText(text) {
  const plain = collapse(text);
  if (/^[\x20-\x7e]*$/.test(text) && !text.includes("&")) return { read: plain, repaired: false, certain: true };
  const { fixed, certain } = repair(text);
  const read = collapse(unescapeHtml(unescapeHtml(fixed)));
  return { read, repaired: read !== plain, certain };
}

/** @param {string} text */
function collapse(text) {
  return text.split(SPACE).filter(Boolean).join(" ").toLowerCase();
}

/**
 * ftfy's repairs, line by line, until nothing changes.
 * @param {string} text
 */
function repair(text) {
  let [certain, references] = [true, true];
  const lines = text.split("\n").map((line) => {
    references &&= !line.includes("<"); // a "<" means that this is HTML, from here on
    for (let [now, before] = [line, ""]; ; before = now) {
      if (references) now = unescapeClearHtml(now);
      certain &&= !SUSPICIOUS.test(now);
      now = repairCharacters(now);
      if (now === before) return now;
    }
  });
  return { fixed: lines.join("\n"), certain };
}

/** @param {string} line */
function repairCharacters(line) {
  return line
    .replace(/[Ĳĳŉǆ-ǌǱ-ǳǄǅﬀ-ﬆ]/g, (ligature) => /** @type {string} */ (LIGATURES.get(ligature)))
    .replace(/[\u3000\uff01-\uffef]/g, (wide) => (wide === "\u3000" ? " " : wide.normalize("NFKC")))
    .replace(/[\u201c-\u201f]/g, '"')
    .replace(/[\u02bc\u2018-\u201b]/g, "'")
    .replace(/[\r\x85\u2028\u2029]/g, "\n")
    .replace(/\p{Surrogate}/gu, "\ufffd")
    .replace(/\x1b\[[\p{Nd};]*[a-zA-Z]/gu, "")
    .replace(/[\0-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]/g, "")
    .normalize("NFC");
}
