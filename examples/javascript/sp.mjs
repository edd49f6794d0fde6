// The asking side of REQ/REP, one of the scalability protocols that nng speaks, over TCP. It is this little, so there
// is no need for a binding that compiles C when it is installed.
//
// Each side says 8 bytes first: 0 "SP" 0, its protocol in 16 bits, 16 bits of zero. Then come messages: their length
// in 64 bits, and the bytes. A request's begin with 32 bits that its reply has too, the highest of them set.
import { randomInt } from "node:crypto";
import net from "node:net";

const REQ = Buffer.from([0, 0x53, 0x50, 0, 0, 0x30, 0, 0]);
const REP = Buffer.from([0, 0x53, 0x50, 0, 0, 0x31, 0, 0]);

export class Req {
  #host;
  #port;
  #socket = null;
  #waiting = new Map(); // by number
  #number = randomInt(0x80000000);

  /** Connects with the first request. Address: tcp://HOST:PORT */
  constructor(address) {
    const url = new URL(address);
    this.#host = url.hostname.replace(/^\[|\]$/g, "");
    this.#port = Number(url.port);
  }

  /** The reply's bytes. Any number of requests may be on their way at a time. Rejects when the connection breaks,
   *  which the next request makes anew, or when the time is over; nothing is sent again by itself. */
  request(bytes, timeoutMs) {
    this.#number = (this.#number + 1) % 0x80000000;
    const number = this.#number + 0x80000000;
    const header = Buffer.alloc(12);
    header.writeBigUInt64BE(BigInt(4 + bytes.length));
    header.writeUInt32BE(number, 8);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#settle(number)?.reject(new Error("timed out")), timeoutMs);
      this.#waiting.set(number, { resolve, reject, timer });
      this.#socket ??= this.#connect();
      this.#socket.write(Buffer.concat([header, bytes]));
    });
  }

  close() {
    this.#socket?.destroy();
  }

  #settle(number) {
    const request = this.#waiting.get(number);
    this.#waiting.delete(number);
    clearTimeout(request?.timer);
    return request;
  }

  #connect() {
    const socket = net.connect({ host: this.#host, port: this.#port, noDelay: true });
    const parser = this.#parse();
    let wanted = parser.next().value;
    let chunks = [];
    let size = 0;
    socket.on("data", (chunk) => {
      chunks.push(chunk);
      size += chunk.length;
      while (size >= wanted) {
        const all = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
        chunks = [all.subarray(wanted)];
        size -= wanted;
        try {
          wanted = parser.next(all.subarray(0, wanted)).value;
        } catch (error) {
          socket.destroy(error);
          return;
        }
      }
    });
    let reason = new Error("connection closed");
    socket.on("error", (error) => (reason = error));
    socket.on("close", () => {
      this.#socket = null;
      for (const number of [...this.#waiting.keys()]) this.#settle(number).reject(reason);
    });
    socket.write(REQ);
    return socket;
  }

  /** Yields how many bytes it wants next, and gets them. */
  *#parse() {
    if (!(yield 8).equals(REP)) throw new Error("the other side does not speak REP");
    for (;;) {
      const size = Number((yield 8).readBigUInt64BE());
      const message = yield size;
      if (size < 4) throw new Error("a reply without a number");
      this.#settle(message.readUInt32BE())?.resolve(message.subarray(4)); // nobody: it came too late
    }
  }
}
