// Stores and reads through a gateway of Skerry.
//
// npm install && node hello.mjs [ADDRESS]    SKERRY_TOKEN is sent if it is set.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { decode, encode } from "@msgpack/msgpack";
import { Req } from "./sp.mjs";

// After these the same request is sent again. UNAVAILABLE and OVERLOADED: it was surely not done. TIMEOUT: perhaps it
// was, so it must have the same id again, under which a write happens once, however often it comes.
const SEND_AGAIN = new Set(["TIMEOUT", "UNAVAILABLE", "OVERLOADED"]);
const PAUSES_MS = [100, 200, 400, 800, 1600];
const PATIENCE_MS = 10_000; // twice what the gateway takes at most (option timeout_ms)

/** What the gateway answered instead of a result. docs/protocol.md says of each code whether a write was done. */
class ReplyError extends Error {
  constructor(code, text) {
    super(`${code}: ${text}`);
    this.code = code;
  }
}

class Skerry {
  #req;
  #session = randomUUID();
  #number = 0;
  #options = process.env.SKERRY_TOKEN ? { token: process.env.SKERRY_TOKEN } : {};

  constructor(address) {
    this.#req = new Req(address);
  }

  close() {
    this.#req.close();
  }

  /** A name for one write, unlike all others. */
  newId() {
    return `${this.#session}-${++this.#number}`;
  }

  /** The result of a command. Reads take an id too, and do not mind it. */
  async call(method, params, id = this.newId()) {
    const msgid = 1; // REQ knows whose reply it gets, so all may have the same
    const request = encode([0, msgid, method, params, { ...this.#options, id }]);
    for (const pauseMs of [...PAUSES_MS, null]) {
      const [error, result] = await this.#exchange(request);
      if (!error) return result;
      if (!SEND_AGAIN.has(error[0]) || pauseMs === null) throw new ReplyError(...error);
      await sleep(pauseMs);
    }
  }

  async #exchange(request) {
    let reply;
    try {
      reply = await this.#req.request(request, PATIENCE_MS);
    } catch (failure) {
      return [["TIMEOUT", `no reply: ${failure.message}`], null]; // as after TIMEOUT nobody knows whether it was done
    }
    const [, , error, result] = decode(reply, { useBigInt64: true }); // integers may be larger than a number holds
    return [error, result];
  }
}

/** Values are bytes, statuses strings, integers numbers or BigInts; what is missing is null. */
function text(result) {
  return result === null ? "nil" : result instanceof Uint8Array ? Buffer.from(result).toString() : String(result);
}

const skerry = new Skerry(process.argv[2] ?? "tcp://127.0.0.1:7400");
try {
  console.log("SET:", text(await skerry.call("SET", ["hello:greeting", "hello"])));
  console.log("GET:", text(await skerry.call("GET", ["hello:greeting"])));
  console.log("GET of a missing key:", text(await skerry.call("GET", ["hello:missing"])));

  // Many commands in one message. It is not atomic; each has its own error and result. Whoever finds TIMEOUT among
  // the errors sends the whole batch again under the same id.
  const replies = await skerry.call("batch", [
    ["SET", ["hello:visits", "41"]],
    ["STRLEN", ["hello:greeting"]],
    ["INCR", ["hello:greeting"]],
  ]);
  console.log("batch:", replies.map(([error, result]) => (error ? error[0] : text(result))).join(", "));

  const id = skerry.newId();
  console.log("INCR:", text(await skerry.call("INCR", ["hello:visits"], id)));
  console.log("INCR with the same id:", text(await skerry.call("INCR", ["hello:visits"], id))); // not done again

  try {
    await skerry.call("INCR", ["hello:greeting"]);
  } catch (error) {
    if (!(error instanceof ReplyError)) throw error;
    console.log("INCR of a text:", error.code);
  }
} finally {
  skerry.close();
}
