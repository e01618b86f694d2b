/** Finds what Debian packages bring, or installs it as root: in CI at once, on a terminal after a yes, otherwise never. */

/** Debian keeps servers where only root's PATH looks. */
const folders = `${process.env.PATH ?? ""}:/usr/bin:/usr/sbin`;

export interface DebianPackage {
  package: string;
  /** Says what else can be done about it, as the end of a sentence. */
  otherwise?: string;
}

let isUpdated = false;
/** The answer to the question, which is asked once for all that is missing; null: not asked yet. */
let answer: boolean | null = null;

const isCi = process.env.CI === "true";
/** Words before a command that root alone may run; null: nobody here can. `-n`: in CI there is nobody to ask for a password. */
const rootPrefix = (): string | null =>
  process.getuid?.() === 0 ? "" : Bun.which("sudo") === null ? null : isCi ? "sudo -n " : "sudo ";

/** Packages that were missing, as long as it is only asked which are. */
let missing: string[] | null = null;

/** @returns what `find` finds, now or once the package is there. @throws Error with the exact command, where that may not be */
export function fromDebian<Found>(find: () => Found | null, { package: name, otherwise }: DebianPackage): Found {
  const there = find();
  if (there !== null) return there;
  const advice = `These tests need Debian's ${name}: apt-get update; ${installing([name])} (as root)${otherwise === undefined ? "." : `, or ${otherwise}.`}`;
  missing?.push(name);
  if (missing !== null || !mayInstall([name])) throw new Error(advice);
  const said = install([name]);
  const installed = find();
  if (installed === null) throw new Error(`${advice} Installing it failed: ${said}`);
  return installed;
}

/** Installs what they lack in one go, for apt-get takes its time at each call; and what that did not bring, one by one. Says what is missing then. */
export function installTogether(finds: (() => unknown)[]): void {
  missing = [];
  attempt(finds);
  const names = [...new Set(missing)];
  missing = null;
  if (names.length > 1 && mayInstall(names)) install(names);
  // The tests that need it say so as well; the others run.
  for (const error of attempt(finds)) console.error(String(error));
}

/** @returns what was thrown */
function attempt(all: (() => unknown)[]): unknown[] {
  return all.flatMap((each) => {
    try {
      each();
      return [];
    } catch (error) {
      return [error];
    }
  });
}

const installing = (names: string[]) => `apt-get install -y -qq --no-install-recommends ${names.join(" ")}`;

/** @returns what apt-get has complained of */
function install(names: string[]): string {
  const prefix = rootPrefix();
  // At run level 1 a package does not start its own service.
  const command = `${prefix}env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 ${installing(names)}`;
  console.log(`installing ${names.join(", ")}: ${command}`);
  const update = isUpdated ? "" : `${prefix}apt-get update -qq; `;
  isUpdated = true;
  return Bun.spawnSync(["sh", "-c", `${update}${command}`], { stdout: "ignore", stderr: "pipe" }).stderr.toString();
}

function mayInstall(names: string[]): boolean {
  if (rootPrefix() === null || Bun.which("apt-get") === null) return false;
  const question = `The tests lack Debian's ${names.join(", ")}. Install it, and what else they lack, as root with apt-get?`;
  answer ??= isCi || (process.stdin.isTTY === true && confirm(question));
  return answer;
}

/** Where a program is, by its name. */
export const debianProgram = (name: string, from: DebianPackage): string =>
  fromDebian(() => Bun.which(name, { PATH: folders }), from);
