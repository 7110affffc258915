// Requests to the server, with its key.

import { InputError } from "./errors.js";

/** Where the key is kept until the tab is closed. */
const KEY = "t2d-key";

export class Server {
  #key = sessionStorage.getItem(KEY) ?? "";

  /** @param {string} key */
  useKey(key) {
    this.#key = key;
    sessionStorage.setItem(KEY, key);
  }

  /**
   * The answer to a request. The key stands in a header, never in an address, which browsers and servers keep.
   * @param {string} method @param {string} address @param {string | Blob} [body] JSON, or a picture
   */
  async call(method, address, body) {
    const headers = {};
    if (this.#key) headers.Authorization = `Bearer ${this.#key}`;
    if (typeof body === "string") headers["Content-Type"] = "application/json";
    else if (body) headers["Content-Type"] = body.type.startsWith("image/") ? body.type : "application/octet-stream";
    let answer;
    try {
      answer = await fetch(address, { method, headers, body, keepalive: method === "DELETE" });
    } catch {
      throw new InputError("the server does not answer; is it still running?");
    }
    if (answer.ok) return answer;
    const { detail } = await answer.json().catch(() => ({ detail: answer.statusText }));
    const about = { 401: "key", 422: "words" }[answer.status];
    throw Object.assign(new InputError(detail), { status: answer.status, about });
  }
}
