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

/** @returns what `find` finds, now or once the package is there. @throws Error with the exact command, where that may not be */
export function fromDebian<Found>(find: () => Found | null, { package: name, otherwise }: DebianPackage): Found {
  const there = find();
  if (there !== null) return there;
  const install = `apt-get install -y -qq --no-install-recommends ${name}`;
  const advice = `These tests need Debian's ${name}: apt-get update; ${install} (as root)${otherwise === undefined ? "." : `, or ${otherwise}.`}`;
  const prefix = rootPrefix();
  if (prefix === null || Bun.which("apt-get") === null || !mayInstall(name)) throw new Error(advice);
  // At run level 1 a package does not start its own service.
  const command = `${prefix}env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 ${install}`;
  console.log(`installing ${name}: ${command}`);
  const update = isUpdated ? "" : `${prefix}apt-get update -qq; `;
  isUpdated = true;
  const { stderr } = Bun.spawnSync(["sh", "-c", `${update}${command}`], { stdout: "ignore", stderr: "pipe" });
  const installed = find();
  if (installed === null) throw new Error(`${advice} Installing it failed: ${stderr}`);
  return installed;
}

function mayInstall(name: string): boolean {
  const question = `The tests lack Debian's ${name}. Install it, and what else they lack, as root with apt-get?`;
  answer ??= isCi || (process.stdin.isTTY === true && confirm(question));
  return answer;
}

/** Where a program is, by its name. */
export const debianProgram = (name: string, from: DebianPackage): string =>
  fromDebian(() => Bun.which(name, { PATH: folders }), from);
