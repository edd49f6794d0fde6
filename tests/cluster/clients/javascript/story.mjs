// The story of test_resp.py by ioredis: node story.mjs HOST PORT PREFIX.
import Redis from "ioredis";

const [host, port, prefix] = process.argv.slice(2);
const key = (name) => `{${prefix}}:${name}`;
const client = new Redis({ host, port: Number(port), retryStrategy: () => null });

console.log("PING:", await client.ping());
console.log("SET:", await client.set(key("greeting"), "hello"));
console.log("GET:", await client.get(key("greeting")));
console.log("GET of a missing key:", (await client.get(key("none"))) === null ? "nil" : "a value");
await client.incr(key("greeting")).catch((error) => console.log("INCR of a text:", error.message.split(" ")[0]));

const pipeline = client.pipeline();
for (let i = 0; i < 100; i++) pipeline.incr(key("n"));
const answers = await pipeline.exec();
console.log("pipeline: 1 to", answers.filter(([error, number], i) => error === null && number === i + 1).length);

const done = await client.multi().set(key("t"), "x").incr(key("n")).get(key("greeting")).exec();
console.log("transaction:", ...done.map(([, result]) => result));

await client.watch(key("n"));
await client.incr(key("n"));
console.log("watched:", (await client.multi().set(key("n"), 0).exec()) === null ? "not done" : "done");
client.disconnect();
