/** Reads what the Dockerfile says of its stages. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { projectFolder } from "./program.ts";

/** `ENV` lines of a stage, over which goes whatever a container is given. */
export function imageEnvironment(stage: string): Record<string, string> {
  const text = readFileSync(join(projectFolder, "Dockerfile"), "utf8")
    .split(/^FROM /m)
    .find((part) => part.split("\n")[0]!.endsWith(` AS ${stage}`))!;
  const words = [...text.matchAll(/^ENV (.*)$/gm)].flatMap((match) => match[1]!.split(" "));
  return Object.fromEntries(words.map((word) => word.split("=") as [string, string]));
}
