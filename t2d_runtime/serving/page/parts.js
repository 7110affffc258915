// Parts of a multipart answer, as they come. An <img> could show them, but sends no key.

/**
 * The pictures of a multipart/x-mixed-replace answer whose parts tell their Content-Length.
 * @param {ReadableStream<Uint8Array>} body
 * @returns {AsyncGenerator<Blob>}
 */
export async function* partsOf(body) {
  const source = new Bytes(body.getReader());
  try {
    for (;;) {
      const head = await source.until("\r\n\r\n");
      if (head === null) return;
      const length = Number(/^content-length:\s*(\d+)\s*$/im.exec(head)?.[1]);
      const picture = await source.take(length);
      if (picture === null) return;
      yield new Blob([picture], { type: "image/jpeg" });
    }
  } finally {
    source.cancel();
  }
}

/** Bytes of a stream, read piece by piece. */
class Bytes {
  #held = new Uint8Array();

  /** @param {ReadableStreamDefaultReader<Uint8Array>} reader */
  constructor(reader) {
    this.reader = reader;
  }

  /** Text up to a mark, which is taken too; null at the end. @param {string} mark in ASCII */
  async until(mark) {
    for (;;) {
      const text = latin1(this.#held);
      const end = text.indexOf(mark);
      if (end >= 0) {
        this.#held = this.#held.slice(end + mark.length);
        return text.slice(0, end);
      }
      if (!(await this.#more())) return null;
    }
  }

  /** So many bytes; null where the stream ends before. @param {number} length */
  async take(length) {
    while (this.#held.length < length) {
      if (!(await this.#more())) return null;
    }
    const taken = this.#held.slice(0, length);
    this.#held = this.#held.slice(length);
    return taken;
  }

  /** Read no more. */
  cancel() {
    this.reader.cancel().catch(() => {}); // it may have failed already
  }

  async #more() {
    const { done, value } = await this.reader.read();
    if (done) return false;
    const joined = new Uint8Array(this.#held.length + value.length);
    joined.set(this.#held);
    joined.set(value, this.#held.length);
    this.#held = joined;
    return true;
  }
}

const latin1 = (bytes) => new TextDecoder("latin1").decode(bytes);
