/** Takes a command line apart, and writes the help. */
import { nearest, nearestHint } from "../config/nearest.ts";
import { type Command, type CommandArgs, UsageError } from "./command.ts";

/**
 * Reads `--flag value`, `--flag=value`, switches and words; `--` ends the options.
 * @throws UsageError for an unknown option (naming one that is near), a missing value, or too many words
 */
export function parseArgs(command: Command, argv: readonly string[]): CommandArgs {
  const values = new Map<string, string[]>();
  const switches = new Set<string>();
  const words: string[] = [];
  for (let at = 0; at < argv.length; at++) {
    const argument = argv[at]!;
    if (argument === "--") {
      words.push(...argv.slice(at + 1));
      break;
    }
    if (!argument.startsWith("--")) {
      words.push(argument);
      continue;
    }
    const equals = argument.indexOf("=");
    const flag = argument.slice(2, equals < 0 ? undefined : equals);
    const given = equals < 0 ? undefined : argument.slice(equals + 1);
    const option = Object.hasOwn(command.options, flag) ? command.options[flag]! : null;
    if (option === null) throw new UsageError(unknownOption(command, flag));
    if (option.value === undefined) {
      if (given !== undefined && given !== "true" && given !== "false")
        throw new UsageError(`--${flag} is a switch and takes no value`);
      if (given === "false") switches.delete(flag);
      else switches.add(flag);
      continue;
    }
    const following = argv[at + 1];
    // An option's name is never taken for a value: `--config --insecure` is a forgotten value.
    const value = given ?? (following?.startsWith("--") ? undefined : following);
    if (value === undefined) throw new UsageError(`--${flag} needs a value: --${flag} <${option.value}>`);
    if (given === undefined) at++;
    values.set(flag, [...(values.get(flag) ?? []), value]);
  }
  const extra = words[command.wordsMax ?? 0];
  if (extra !== undefined)
    throw new UsageError(`${command.name} does not know what to do with ${JSON.stringify(extra)}`);
  return {
    words,
    value: (flag) => values.get(flag)?.at(-1),
    values: (flag) => values.get(flag) ?? [],
    has: (flag) => switches.has(flag),
  };
}

const timeoutHoursMax = 1;

/** Reads `--timeout`, in milliseconds. @throws UsageError */
export async function timeoutMsOf(args: CommandArgs, usual: string): Promise<number> {
  // Loaded only where it is needed: `health` runs every few seconds.
  const { parseDuration } = await import("../config/values.ts");
  const text = args.value("timeout") ?? usual;
  const timeoutMs = parseDuration(text);
  if (timeoutMs === null || timeoutMs === 0 || timeoutMs > timeoutHoursMax * 3_600_000)
    throw new UsageError(`--timeout must be a duration such as ${usual}, at most ${timeoutHoursMax}h, not ${text}`);
  return timeoutMs;
}

function unknownOption(command: Command, flag: string): string {
  const near = nearest(flag, [...Object.keys(command.options), "help"]);
  return `${command.name} has no option --${flag}${nearestHint(near === null ? null : `--${near}`)}`;
}

export function commandHelp(command: Command): string {
  const options = [...Object.entries(command.options), ["help", { summary: "show this" }] as const];
  const rows = options.map(([flag, option]): [string, string] => [
    "value" in option && option.value !== undefined ? `--${flag} <${option.value}>` : `--${flag}`,
    option.summary,
  ]);
  const details = command.details === undefined ? "" : `\n${command.details}\n`;
  const examples = command.examples.map((line) => `  ws-service ${line}\n`).join("");
  return `${command.summary}\n\nusage: ws-service ${command.usage}\n\n${columns(rows)}${details}\nexamples:\n${examples}`;
}

export function overallHelp(commands: readonly Command[]): string {
  const rows = commands.map(({ name, summary }): [string, string] => [name, summary]);
  return `usage: ws-service [command] [options]      (without a command: serve)\n\n${columns(rows)}
ws-service <command> --help tells more, with examples.

The exit code is 0 when it is done, 1 for a failure, 2 for a command line that makes no sense, 78 for a configuration that makes none. SIGTERM lets a service
drain, SIGHUP has it read certificates and public keys again. In the environment:

  WS_CONFIG          the configuration's file, where --config is not given
  WS__SECTION__KEY   a setting, over the file: WS__SERVER__PORT=8086
  DATABASE_URL       storage.url; REDIS_URL: cluster.url; PORT: server.port
  WS_SERVICE_TOKEN   the token of admin and connect, where --token is not given
`;
}

/** Two columns, as a help has them. */
export function columns(rows: readonly [string, string][]): string {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}\n`).join("");
}
