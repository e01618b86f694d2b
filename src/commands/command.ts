/** Declares what a command is and what it may touch: everything of the outside world comes in through `io`. */

export interface Signals {
  /** SIGTERM and SIGINT, the second and later ones too: each calls the listener again [DRN]. Until then they end the process. */
  onTerminate(listener: () => void): void;
  /** SIGHUP. */
  onHangup(listener: () => void): void;
}

export interface Output {
  write(text: string): unknown;
}

/** The way to the process that has started this one as one of several. */
export interface ParentChannel {
  /** Plain JSON; lost where the parent has gone. */
  send(message: unknown): void;
  onMessage(listener: (message: unknown) => void): void;
  /** The parent has gone. */
  onClosed(listener: () => void): void;
}

export interface CommandIo {
  stdout: Output;
  stderr: Output;
  /** Standard input line by line, without line ends; may be read once. */
  stdin: () => AsyncIterable<string>;
  env: Record<string, string | undefined>;
  /** Working directory; relative paths start here. */
  cwd: string;
  signals: Signals;
  /** The words that run this program once more, before the command. */
  program: readonly string[];
  /** Null where nobody waits for messages. */
  parent: ParentChannel | null;
}

/** The command line after the command's name, checked against the command's options. */
export interface CommandArgs {
  /** Words that are not options, in order. */
  words: readonly string[];
  /** The option's last value; undefined where it was not given. */
  value(flag: string): string | undefined;
  /** All values of an option that was given more than once. */
  values(flag: string): readonly string[];
  /** Whether a switch (an option without a value) is on. */
  has(flag: string): boolean;
}

export interface CommandOption {
  summary: string;
  /** Name of the value in the help, such as `file`; without it the option is a switch. */
  value?: string;
}

export interface Command {
  name: string;
  /** One line for the list of commands. */
  summary: string;
  /** Words after the program's name: `config check|print [--config <file>]`. */
  usage: string;
  /** Tells more in the help: several lines or none, without a line end. */
  details?: string;
  /** Whole command lines that make sense, without the program's name; the help shows them. */
  examples: readonly [string, ...string[]];
  /** By name without the dashes. `--help` is everyone's. */
  options: Record<string, CommandOption>;
  /** Completes its words in a shell: `check`; two that go together, `members add`; or names of files. */
  words?: readonly string[] | "files";
  /** How many words it takes at most; 0 when left out. */
  wordsMax?: number;
  /**
   * @returns the exit code: 0 done, 1 failed.
   * A thrown `UsageError` ends with 2, a `ConfigError` or `StartError` with its message and 1, anything else with its stack
   * and 1.
   */
  run(args: CommandArgs, io: CommandIo): Promise<number>;
}

/** The command line makes no sense; the message is for people. Exit code 2. */
export class UsageError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "UsageError";
  }
}
