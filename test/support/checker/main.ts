/** The checker as a program: `bun test/support/checker/main.ts --url ws://127.0.0.1:8086/ws --seed 1 --seconds 60`. */
import { parseArgs } from "node:util";
import { report } from "./judge.ts";
import { check } from "./population.ts";

const { values } = parseArgs({
  options: {
    url: { type: "string", multiple: true },
    seed: { type: "string" },
    seconds: { type: "string" },
    messages: { type: "string" },
    users: { type: "string" },
    devices: { type: "string" },
    conversations: { type: "string" },
    "content-length": { type: "string" },
    calm: { type: "boolean" },
    /** A backend looks on: `push.after` of the service, ms. */
    "push-after": { type: "string" },
  },
});

const number = (text: string | undefined) => (text === undefined ? undefined : Number(text));
const seed = number(values.seed) ?? Math.floor(Math.random() * 2 ** 31);
console.log(`seed ${seed}`);
const verdict = await check({
  urls: values.url ?? ["ws://127.0.0.1:8086/ws"],
  seed,
  users: number(values.users),
  devicesMax: number(values.devices),
  conversations: number(values.conversations),
  durationMs: (number(values.seconds) ?? 30) * 1_000,
  pushAfterMs: number(values["push-after"]) ?? null,
  messagesMax: number(values.messages),
  contentLengthMax: number(values["content-length"]),
  // Keeps all calm: nobody breaks off, nobody is slow.
  behaviour: values.calm ? { drop: 0, leave: 0, stall: 0, dropReplay: 0 } : {},
});
console.log(report(verdict));
process.exit(verdict.violations.length === 0 ? 0 : 1);
