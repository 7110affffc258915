// Files from the page's own server.

import { InputError } from "./errors.js";

/** @param {URL} url @param {string} advice */
export async function fetchBytes(url, advice) {
  const response = await fetch(url, { cache: "no-cache" }); // of one bundle, not of the one that was here before
  if (!response.ok) {
    throw new InputError(`${url.pathname} cannot be loaded (${response.status} ${response.statusText}); ${advice}`);
  }
  return new Uint8Array(await response.arrayBuffer());
}
