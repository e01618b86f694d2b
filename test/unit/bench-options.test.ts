/** Tests how a bench reads its command line. */
import { expect, test } from "bun:test";
import { resolve } from "node:path";
import {
  count,
  counts,
  duration,
  existingFolder,
  firstSentence,
  flag,
  helpOf,
  oneOf,
  optional,
  program,
  someOf,
  text,
  time,
  valuesOf,
} from "../../bench/support/command-line.ts";
import { namesBegunBy } from "../../bench/support/contenders.ts";

const root = resolve(import.meta.dir, "../..");
const options = {
  rooms: count(500),
  seed: count(1, { least: 0 }),
  unanswered: optional(count(1)),
  sizes: counts("100,1000"),
  minutes: time("minutes", 60, { says: "How long." }),
  settle: time("seconds", 6, { least: 0 }),
  retention: duration("5m", { leastMs: 1 }),
  storage: oneOf(["sqlite", "postgres"]),
  engines: someOf(["SQLite", "PostgreSQL"]),
  only: text(),
  program: program(),
  first: existingFolder(),
  profile: flag(),
};
const read = (...words: string[]) => valuesOf(words, options);

test("what is not given is as it is by default", () => {
  expect(read()).toEqual({
    rooms: 500,
    seed: 1,
    unanswered: undefined,
    sizes: [100, 1_000],
    minutes: 60,
    settle: 6,
    retention: "5m",
    storage: "sqlite",
    engines: ["SQLite", "PostgreSQL"],
    only: "",
    program: undefined,
    first: undefined,
    profile: false,
  });
});

test("what is given is read, the last of one name", () => {
  const words = ["--rooms", "3", "--rooms=4", "--seed", "0", "--unanswered", "7", "--sizes", "5", "--minutes", "0.5"];
  const others = ["--settle", "0", "--retention", "90s", "--storage", "postgres", "--engines", "SQLite", "--profile"];
  const paths = ["--program", process.execPath, "--first", root];
  expect(read(...words, ...others, ...paths)).toMatchObject({
    rooms: 4,
    seed: 0,
    unanswered: 7,
    sizes: [5],
    minutes: 0.5,
    settle: 0,
    retention: "90s",
    storage: "postgres",
    engines: ["SQLite"],
    profile: true,
    program: process.execPath,
    first: root,
  });
});

test("what makes no sense is refused in a sentence that names the option", () => {
  const whole = (least: number) => `it is a whole number, at least ${least} and at most 1000000`;
  for (const word of ["0", "-5", "1.5", "1e99", "1e3", "1000001", "NaN", "Infinity", "", "many"])
    expect(() => read("--rooms", word)).toThrow(`--rooms ${word}: ${whole(1)}`);
  expect(() => read("--seed", "-1")).toThrow(`--seed -1: ${whole(0)}`);
  expect(() => read("--unanswered", "0")).toThrow(`--unanswered 0: ${whole(1)}`);
  expect(() => read("--sizes", "100,0")).toThrow(`--sizes 100,0: ${whole(1)}`);
  for (const word of ["0", "-1", "1441", "1e3", "NaN"])
    expect(() => read("--minutes", word)).toThrow(
      `--minutes ${word}: it is a number of minutes, more than 0 and at most 1440`,
    );
  expect(() => read("--settle", "86401")).toThrow("it is a number of seconds, at least 0 and at most 86400");
  for (const word of ["foo", "5", "0.5ms", "0s", "25h"])
    expect(() => read("--retention", word)).toThrow(`--retention ${word}: it is a duration such as`);
  expect(() => read("--storage", "mysql")).toThrow("--storage mysql: it is one of sqlite, postgres");
  expect(() => read("--engines", "SQLite,x")).toThrow("--engines SQLite,x: it is one of SQLite, PostgreSQL");
  expect(() => read("--program", "/nonexistent")).toThrow("--program /nonexistent: it is not there");
  expect(() => read("--program", root)).toThrow(`--program ${root}: it is not a file`);
  const readme = resolve(root, "README.md");
  expect(() => read("--program", readme)).toThrow(`--program ${readme}: it cannot be executed`);
  expect(() => read("--first", readme)).toThrow(`--first ${readme}: it is not a folder`);
});

test("what is no option is refused", () => {
  expect(() => read("--bogus", "1")).toThrow("--bogus: there is no such option");
  expect(() => read("extra")).toThrow("extra: it is not an option");
  expect(() => read("--rooms")).toThrow("--rooms: it needs a value");
  expect(() => read("--profile=yes")).toThrow("--profile: it has no value");
});

test("help says the sentence, and each option with its default and what it says", () => {
  const { rooms, minutes, profile } = options;
  const lines = ["A bench.", "", "  --rooms    500", "  --minutes  60; How long.", "  --profile"];
  expect(helpOf("A bench.", { rooms, minutes, profile })).toBe(lines.join("\n"));
  expect(helpOf("A bench.", {})).toBe("A bench.\n\nIt has no options.");
});

test("a first sentence is whole, over the ends of its lines", () => {
  expect(firstSentence(resolve(root, "bench/list.ts"))).toEndWith(
    " in which each last message was a request of its own.",
  );
  expect(firstSentence(resolve(root, "bench/soak.ts"))).toEndWith(" and how long ordinary users wait.");
});

test("a word begins the names that it is the first word of", () => {
  const names = ["bare", "ws", "socket.io", "centrifugo", "centrifugo, history", "service, not logged", "service"];
  expect(namesBegunBy("service", names)).toEqual(["service, not logged", "service"]);
  expect(namesBegunBy("centrifugo", names)).toEqual(["centrifugo", "centrifugo, history"]);
  for (const word of ["servic", "x", "w", "socket"]) expect(namesBegunBy(word, names)).toEqual([]);
  expect(namesBegunBy("", names)).toEqual(names);
});

test("the command refuses before anything is started, and says what there is", async () => {
  const run = async (...words: string[]) => {
    const child = Bun.spawn([process.execPath, "bench/main.ts", ...words], {
      cwd: root,
      stdout: "pipe",
      stderr: "pipe",
    });
    const [code, said, complaint] = await Promise.all([child.exited, child.stdout.text(), child.stderr.text()]);
    return { code, said, complaint };
  };
  const refused = {
    "all --bogus 1": "--bogus: there is no such option",
    "all --rounds 1": "--rounds: there is no such option",
    "page extra": "extra: it is not an option",
    "page bench --out": "bench: it is not an option",
    nonsense: "nonsense: there is no such bench",
    "rooms --rate 0": "--rate 0: it is a whole number",
    "rooms --only bare,x": "--only x: it is none of bare; ws; socket.io;",
    "many --steps 5 --clients 4": "--steps 5: there are only 4 clients",
    "many --only bare": "--only: there is no such option",
    "compression --rounds 2": "--rounds: there is no such option",
  };
  await Promise.all(
    Object.entries(refused).map(async ([words, sentence]) => {
      const { code, complaint } = await run(...words.split(" "));
      expect(complaint).toStartWith(sentence);
      expect(complaint.trim()).not.toContain("\n");
      expect(code).toBe(2);
    }),
  );
  const helped = ["all --help", "page --help", "rooms --help", "profile rooms --help", "soak --help", "--help"];
  await Promise.all(
    helped.map(async (words) => {
      const { code, said, complaint } = await run(...words.split(" "));
      expect({ code, complaint }).toEqual({ code: 0, complaint: "" });
      expect(said.length).toBeGreaterThan(50);
    }),
  );
});
