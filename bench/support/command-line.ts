/** Reads the options of a bench. Options that make no sense end it in a sentence: a figure of something else than was asked for helps nobody. */
import { accessSync, constants, existsSync, readFileSync, statSync } from "node:fs";
import { parseDuration } from "../../src/config/values.ts";

/** Each kind of option says itself what is sense. */
export interface Option<Value> {
  /** As it would be given; without one the option may be left out. */
  default?: string | undefined;
  says?: string | undefined;
  /** It is there or not, and has no value. */
  isFlag?: true;
  /** @throws {Refused} what it has to be */
  read(word: string): Value;
}

// biome-ignore lint/suspicious/noExplicitAny: of any value.
export type Options = Record<string, Option<any>>;
export type Values<Known extends Options> = {
  [Name in keyof Known]: Known[Name] extends Option<infer Value> ? Value : never;
};

/** Says in a sentence what is wrong with a command line. */
export class Refused extends Error {}

const countMost = 1_000_000;
/** A day of each. */
const timeMost = { seconds: 86_400, minutes: 1_440 };

interface Bounds {
  least?: number;
  says?: string;
}

/** A whole number. */
export const count = (value: number, { least = 1, says }: Bounds = {}): Option<number> => ({
  default: String(value),
  says,
  read: (word) => wholeNumber(word, least),
});

/** Whole numbers, with commas between them. */
export const counts = (values: string, says?: string): Option<number[]> => ({
  default: values,
  says,
  read: (word) => word.split(",").map((each) => wholeNumber(each, 1)),
});

/** Fractions too, and more than none of them unless `least` is 0. */
export const time = (
  unit: keyof typeof timeMost,
  value: number,
  { least, says }: { least?: 0; says?: string } = {},
): Option<number> => ({
  default: String(value),
  says,
  read(word) {
    const [amount, most] = [numberIn(word), timeMost[unit]];
    if (amount <= most && (least === 0 ? amount >= 0 : amount > 0)) return amount;
    throw new Refused(`it is a number of ${unit}, ${least === 0 ? "at least" : "more than"} 0 and at most ${most}`);
  },
});

/** As in a configuration, but whole: `250ms`, `5m`. Kept as it was written. */
export const duration = (
  value: string,
  { leastMs = 0, says }: { leastMs?: number; says?: string } = {},
): Option<string> => ({
  default: value,
  says,
  read(word) {
    const ms = parseDuration(word);
    const isWhole = ms !== null && !word.includes(".");
    if (isWhole && ms >= leastMs && ms <= timeMost.seconds * 1_000) return word;
    throw new Refused(`it is a duration such as 250ms, 10s or 5m, at least ${leastMs}ms and at most 24h`);
  },
});

export const oneOf = <const Word extends string>(words: readonly Word[], says?: string): Option<Word> => ({
  default: words[0]!,
  says: [`one of ${words.join(", ")}`, says].filter(Boolean).join(". "),
  read: (word) => wordOf(words, word),
});

/** All of the words by themselves, with commas between them. */
export const someOf = <const Word extends string>(words: readonly Word[], says?: string): Option<Word[]> => ({
  default: words.join(","),
  says,
  read: (word) => word.split(",").map((each) => wordOf(words, each)),
});

export const text = (says?: string): Option<string> => ({ default: "", says, read: (word) => word });

export const flag = (says?: string): Option<boolean> => ({
  default: "no",
  says,
  isFlag: true,
  read: (word) => word === "yes",
});

/** A file that can be executed. */
export const program = (says?: string): Option<string | undefined> => ({
  says,
  read(word) {
    requirePath(word);
    if (!statSync(word).isFile()) throw new Refused("it is not a file");
    try {
      accessSync(word, constants.X_OK);
    } catch {
      throw new Refused("it cannot be executed");
    }
    return word;
  },
});

export const existingFolder = (says?: string): Option<string | undefined> => ({
  says,
  read(word) {
    requirePath(word);
    if (!statSync(word).isDirectory()) throw new Refused("it is not a folder");
    return word;
  },
});

export const optional = <Value>({ says, read }: Option<Value>): Option<Value | undefined> => ({ says, read });

const numberIn = (word: string) => (/^\d+(?:\.\d+)?$/.test(word) ? Number(word) : Number.NaN);

function wholeNumber(word: string, least: number): number {
  const value = numberIn(word);
  if (Number.isInteger(value) && value >= least && value <= countMost) return value;
  throw new Refused(`it is a whole number, at least ${least} and at most ${countMost}`);
}

function wordOf<Word extends string>(words: readonly Word[], word: string): Word {
  const found = words.find((each) => each === word);
  if (found === undefined) throw new Refused(`it is one of ${words.join(", ")}`);
  return found;
}

function requirePath(path: string): void {
  if (!existsSync(path)) throw new Refused("it is not there");
}

/** @throws {Refused} naming the option, or the word that is none */
export function valuesOf<Known extends Options>(words: string[], options: Known): Values<Known> {
  const given = new Map<string, string>();
  const left = words[Symbol.iterator]();
  for (const word of left) {
    const [, name, value] = /^--([\w-]+)(?:=(.*))?$/s.exec(word) ?? [];
    if (name === undefined) throw new Refused(`${word}: it is not an option, such as --help`);
    const option = options[name];
    if (option === undefined) throw new Refused(`--${name}: there is no such option; --help says which there are`);
    if (option.isFlag && value !== undefined) throw new Refused(`--${name}: it has no value`);
    const read = option.isFlag ? "yes" : (value ?? left.next().value);
    if (read === undefined) throw new Refused(`--${name}: it needs a value`);
    given.set(name, read);
  }
  const values = Object.entries(options).map(([name, option]) => {
    const word = given.get(name) ?? option.default;
    return [name, word === undefined ? undefined : readWord(name, word, option)];
  });
  return Object.fromEntries(values) as Values<Known>;
}

function readWord<Value>(name: string, word: string, { read }: Option<Value>): Value {
  try {
    return read(word);
  } catch (error) {
    if (error instanceof Refused) throw new Refused(`--${name} ${word}: ${error.message}`);
    throw error;
  }
}

/** Reads the command line: the first thing that a bench does. */
export function readOptions<Known extends Options>(
  options: Known,
  words = process.argv.slice(2),
  sentence = firstSentence(process.argv[1]!),
): Values<Known> {
  if (words.includes("--help")) {
    console.log(helpOf(sentence, options));
    process.exit(0);
  }
  try {
    return valuesOf(words, options);
  } catch (error) {
    if (error instanceof Refused) return refuse(error.message);
    throw error;
  }
}

export function helpOf(sentence: string, options: Options): string {
  const names = Object.keys(options);
  const width = Math.max(0, ...names.map((name) => name.length));
  const lines = names.map((name) => {
    const { default: value, says, isFlag } = options[name]!;
    const known = isFlag || !value ? "" : value;
    return `  --${name.padEnd(width)}  ${[known, says].filter(Boolean).join("; ")}`.trimEnd();
  });
  return [sentence, "", ...(names.length === 0 ? ["It has no options."] : lines)].join("\n");
}

/** Of what a file says of itself at its beginning. */
export function firstSentence(file: string): string {
  const opening = /^\/\*\*([\s\S]*?)\*\//.exec(readFileSync(file, "utf8"))?.[1] ?? "";
  const said = opening.replace(/\s*\n \*\s*/g, " ").trim();
  return /^.*?\.(?=\s|$)/.exec(said)?.[0] ?? said;
}

/** Ends the bench in a sentence. */
export function refuse(sentence: string): never {
  console.error(sentence);
  process.exit(2);
}
