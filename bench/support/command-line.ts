/** Reads the options of a bench. Options that make no sense end it in a sentence: a figure of something else than was asked for helps nobody. */
import { type ParseArgsConfig, parseArgs } from "node:util";

type Known = NonNullable<ParseArgsConfig["options"]>;

export interface Sense<Name extends string = string> {
  /** The least that a number may be; of a list, each of its numbers. */
  least?: Partial<Record<Name, number>>;
  /** The words that there are; of a list, each of its words. */
  oneOf?: Partial<Record<Name, readonly string[]>>;
}

/** An option that is left out, and has no default, is not looked at. */
export function readOptions<const Options extends Known>(options: Options, sense: Sense<keyof Options & string> = {}) {
  const values = readLine(options);
  const given = values as Record<string, string | undefined>;
  const wordsOf = (name: string) => (given[name] === undefined ? [] : given[name].split(","));
  for (const [name, least] of Object.entries<number | undefined>(sense.least ?? {}))
    for (const word of wordsOf(name))
      if (!(Number(word) >= least!)) refuse(`--${name} ${word}: it is a number, at least ${least}`);
  for (const [name, words] of Object.entries<readonly string[] | undefined>(sense.oneOf ?? {}))
    for (const word of wordsOf(name))
      if (!words!.includes(word)) refuse(`--${name} ${word}: it is one of ${words!.join(", ")}`);
  return values;
}

function readLine<const Options extends Known>(options: Options) {
  try {
    return parseArgs({ options }).values;
  } catch (error) {
    return refuse((error as Error).message);
  }
}

/** Ends the bench in a sentence. */
export function refuse(sentence: string): never {
  console.error(sentence);
  process.exit(2);
}
