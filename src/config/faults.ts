/** Tells what is wrong with a configuration, all at once and without giving a secret away. */
import { ExpectedError } from "../ground/expected-error.ts";

export interface Fault {
  /** `websocket.pong_wait`; the name of the variable where no setting is meant. */
  path: string;
  /** The value as it may be shown, secrets masked; null where there is none or it may not be shown. */
  value: string | null;
  /** Expectation that is not met: `must be a duration such as 10s`. */
  expected: string;
  /** The file's path, the name of the environment variable, or `default`. */
  origin: string;
}

function describeFault({ path, value, expected, origin }: Fault): string {
  return `${path}${value === null ? "" : `: ${value}`} ${expected} (${origin})`;
}

/** EX_CONFIG of sysexits.h: the same configuration makes no sense the next time either, so a service manager need not try again. */
export const configExitCode = 78;

/** The configuration cannot be used; `message` lists every fault, one a line. */
export class ConfigError extends ExpectedError {
  constructor(readonly faults: readonly Fault[]) {
    const title =
      faults.length === 1 ? "the configuration has a fault" : `the configuration has ${faults.length} faults`;
    super(`${title}:\n${faults.map((fault) => `  ${describeFault(fault)}`).join("\n")}`);
    this.name = "ConfigError";
  }
}

/**
 * The service cannot start where it is, and whoever runs it can mend that; `message` is for people, names the setting and
 * gives no secret away.
 */
export class StartError extends ExpectedError {
  constructor(setting: string, message: string, options?: ErrorOptions) {
    super(`${setting}: ${message}`, options);
    this.name = "StartError";
  }
}

/** A setting makes no sense wherever the service starts. */
export class SettingError extends StartError {}
