/** Fairness: how long ordinary users wait while one user asks for all that it may, request by request, beside how long they wait alone. */
import { startPostgres } from "../test/support/postgres.ts";
import { oneOf, readOptions, refuse, text } from "./support/command-line.ts";
import type { Demanded } from "./support/demanding.ts";
import { demands } from "./support/demands.ts";
import { present, startMeasured, startProgram } from "./support/measured.ts";
import type { Waited } from "./support/ordinary.ts";

const values = readOptions({
  storage: oneOf(["sqlite", "postgres"]),
  only: text("Some requests alone, by a part of their names."),
});
const asked = demands.filter(({ name }) => name.includes(values.only));
if (asked.length === 0) refuse(`--only ${values.only}: it is in none of ${demands.map(({ name }) => name).join("; ")}`);
const forMs = 2_500;
const users = 50;
/** Everybody else's p99, ms. */
const aimMs = 50;

const postgres = values.storage === "postgres" ? await startPostgres() : null;
const service = await startMeasured("service.ts", {
  CROWD: JSON.stringify(demands.map((_, index) => `demanding-${index}`)),
  WS__RATE_LIMITS__ENABLED: "true",
  // Its standard output is for what is asked of it.
  WS__LOG__LEVEL: "silent",
  ...(postgres === null ? {} : { WS__STORAGE__URL: await postgres.newDatabase() }),
});
const ordinary = startProgram(["ordinary.ts", JSON.stringify({ port: service.port, users })]);
const demanding = startProgram(["demanding.ts", JSON.stringify({ port: service.port })]);
try {
  await Promise.all([ordinary.next(), demanding.next()]);
  const tell = ({ child }: typeof ordinary, order: object) => {
    child.stdin.write(`${JSON.stringify(order)}\n`);
    child.stdin.flush();
  };
  const wait = async (): Promise<Waited> => {
    tell(ordinary, { forMs });
    return (await ordinary.next()) as Waited;
  };
  // Once before: plans are known, code is compiled.
  await wait();
  await service.report("lag");
  const rows = [];
  for (const [index, { name }] of demands.entries()) {
    if (!name.includes(values.only)) continue;
    const alone = await wait();
    tell(demanding, { demand: index, forMs });
    await demanding.next();
    await service.report("lag");
    const [beside, demanded] = [await wait(), (await demanding.next()) as Demanded];
    const { lag } = await service.report("lag");
    rows.push({
      storage: values.storage,
      request: name,
      "p99 alone ms": Math.round(alone.p99Ms),
      "p99 beside it ms": Math.round(beside.p99Ms),
      "most ms": Math.round(beside.mostMs),
      "loop most ms": Math.round(lag!.most),
      [`below ${aimMs}`]: beside.p99Ms < aimMs ? "yes" : "no",
      answered: `${demanded.answered} of ${demanded.asked}`,
      refused: Object.entries(demanded.refused)
        .map(([code, count]) => `${count} ${code}`)
        .join(", "),
    });
    console.log(JSON.stringify(rows.at(-1)));
    // Waits for what is still worked on for somebody who has gone: it is not the next one's.
    if (beside.p99Ms > aimMs) await Bun.sleep(forMs);
  }
  present(`fairness-${values.storage}`, rows);
} finally {
  for (const { child } of [ordinary, demanding]) child.kill();
  await service.stop();
  await postgres?.stop();
}
