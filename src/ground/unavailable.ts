/** Says that a part of the service is away, refuses or has too much to do: the one error for what passes by itself. */
import { ExpectedError } from "./expected-error.ts";

/** Parts that may be away, each called as the section of the configuration that an operator looks at. */
export type Part = "storage" | "cluster" | "auth";

export interface UnavailableOptions extends ErrorOptions {
  /** The message names nothing of ours, and clients are told it as it is. */
  isPublic?: boolean;
  /** How the engine calls it; health checks tell it to the public. */
  code?: string | undefined;
  /** The setting that keeps the service from starting, where the message is about that one and says all there is. */
  setting?: string;
}

const told: Record<Part, string> = {
  storage: "The storage does not answer; try again.",
  cluster: "What the nodes share does not answer; try again.",
  auth: "Tokens cannot be checked right now.",
};

export class Unavailable extends ExpectedError {
  /** Text for clients: the message, unless that is for the log alone because it may name hosts and files. */
  readonly told: string;
  readonly isPublic: boolean;
  /** Clients are to try again after so long. */
  readonly retryAfterMs = 1_000;
  readonly code: string | undefined;
  readonly setting: string | undefined;

  constructor(
    readonly part: Part,
    message: string,
    { isPublic = false, code, setting, ...options }: UnavailableOptions = {},
  ) {
    super(message, options);
    this.name = "Unavailable";
    this.isPublic = isPublic;
    this.told = isPublic ? message : told[part];
    this.code = code;
    this.setting = setting;
  }
}

/** Says that this process has stopped the part itself: whoever still asks is refused, and nothing is wrong. */
export class Stopped extends Unavailable {}
