/** Fits a proxy's configuration of the project to a test: other addresses and folders, and every line else as it is delivered. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { projectFolder } from "./program.ts";

/** Takes the place of each match; a pattern that matches nothing is a fault of the test. */
export type Replacement = [pattern: RegExp, by: string];

/** @param name within `configs/` */
export function fittedConfiguration(name: string, replacements: readonly Replacement[]): string {
  let text = readFileSync(join(projectFolder, "configs", name), "utf8");
  for (const [pattern, by] of replacements) {
    const replaced = text.replace(pattern, () => by);
    if (replaced === text) throw new Error(`configs/${name} has nothing like ${pattern}`);
    text = replaced;
  }
  return text;
}

export interface ProxyOptions {
  /** Ports of this machine. */
  nodes: readonly number[];
  /** Ends TLS with a certificate that nobody has signed. */
  hasTls?: boolean;
  /** Takes settings out, to show what is so without them. */
  without?: readonly RegExp[];
}

export interface RunningProxy {
  /** `ws://127.0.0.1:<port>/ws`, or `wss:`. */
  url: string;
  stop(): Promise<void>;
}
