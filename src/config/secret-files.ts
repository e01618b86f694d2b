/** Reads secrets from the files that settings name, as orchestrators and service managers hand them over [OPS6]. */
import { statSync } from "node:fs";
import { resolve } from "node:path";
import type { Fault } from "./faults.ts";
import { keysByName } from "./keys.ts";
import type { Setting } from "./sources.ts";

const fileBytesMax = 64 * 1024;

/**
 * Puts what `auth.secret_file` and its like hold in the place of the settings that they stand for.
 * @param isRead false for a setting: its file is left alone, and what it holds is not known
 * @returns the settings whose file cannot be used, each with its fault; of one that is not read there is none
 */
export async function readSecretFiles(
  settings: Map<string, Setting>,
  { cwd, isRead }: { cwd: string; isRead: (name: string) => boolean },
): Promise<{ faults: Fault[]; unknown: string[]; notices: string[] }> {
  const faults: Fault[] = [];
  const notices: string[] = [];
  const unknown: string[] = [];
  for (const { key, value: file, origin, fault } of [...settings.values()]) {
    if (key.holds === null || typeof file !== "string" || file === "") continue;
    if (fault !== undefined) {
      unknown.push(key.holds);
      continue;
    }
    const given = settings.get(key.holds);
    const isBeside = given !== undefined && given.value !== null;
    const read = isBeside
      ? {
          expected: `must be null where ${key.holds} is set${given.origin === origin ? " too" : `, in ${given.origin}`}`,
        }
      : isRead(key.name)
        ? await readLine(resolve(cwd, file))
        : null;
    if (read !== null && "line" in read) {
      if (isOpenToOthers(resolve(cwd, file)))
        notices.push(`others of this machine may read ${key.name} (${origin}), ${file}: chmod 600 keeps them out`);
      settings.set(key.holds, { key: keysByName.get(key.holds)!, value: read.line, origin: `${file}, by ${key.name}` });
      continue;
    }
    unknown.push(key.holds);
    if (read !== null) faults.push({ path: key.name, value: JSON.stringify(file), expected: read.expected, origin });
  }
  return { faults, unknown, notices };
}

/** Below /run secrets are handed over by somebody who decides who is there to read them. */
const isOpenToOthers = (path: string) => !path.startsWith("/run/") && (statSync(path).mode & 0o004) !== 0;

/** Never shows what it has read. */
async function readLine(path: string): Promise<{ line: string } | { expected: string }> {
  let text: string;
  try {
    const source = Bun.file(path);
    if (source.size > fileBytesMax) return { expected: `must be at most ${fileBytesMax / 1024} KiB` };
    text = await source.text();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return { expected: code === "ENOENT" ? "must be a file that is there" : `cannot be read (${code ?? error})` };
  }
  const line = text.trim();
  if (line === "") return { expected: "must not be an empty file" };
  // Somebody else who signs with the same file might take the line ends for a part of it.
  return /[\r\n]/.test(line) ? { expected: "must hold one line" } : { line };
}
