// Open-vocabulary segmentation: a picture and words to labels. `open` is the door.

export { Bundle, served } from "./bundle.js";
export { readText } from "./cleaning.js";
export { InputError } from "./errors.js";
export { dropCached } from "./file-cache.js";
export { readManifest } from "./manifest.js";
export { MOST_CLASSES, Pamr } from "./pamr.js";
export { open, Segmenter } from "./segmenter.js";
export { chooseWords, readVocabulary } from "./vocabulary.js";
export { WordEncoder } from "./words.js";
