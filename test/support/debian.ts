/** Finds what Debian packages bring, or installs it where that takes no asking. */

/** Debian keeps servers where only root's PATH looks. */
const folders = `${process.env.PATH ?? ""}:/usr/bin:/usr/sbin`;

export interface DebianPackage {
  package: string;
  /** What else can be done about it, as the end of a sentence. */
  otherwise?: string;
}

let isUpdated = false;

/** @returns what `find` finds, now or once the package is there. @throws Error with the exact command, where that is not possible */
export function fromDebian<Found>(find: () => Found | null, { package: name, otherwise }: DebianPackage): Found {
  const there = find();
  if (there !== null) return there;
  const install = `apt-get install -y -qq --no-install-recommends ${name}`;
  const command = `apt-get update; ${install}`;
  const advice = `These tests need Debian's ${name}: ${command} (as root)${otherwise === undefined ? "." : `, or ${otherwise}.`}`;
  if (process.getuid?.() !== 0 || Bun.which("apt-get") === null) throw new Error(advice);
  console.log(`installing ${name}: ${command}`);
  const update = isUpdated ? "" : "apt-get update -qq; ";
  isUpdated = true;
  // At run level 1 a package does not start its own service.
  const { stderr } = Bun.spawnSync(["sh", "-c", `${update}${install}`], {
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive", RUNLEVEL: "1" },
    stdout: "ignore",
    stderr: "pipe",
  });
  const installed = find();
  if (installed === null) throw new Error(`${advice} Installing it failed: ${stderr}`);
  return installed;
}

/** Where a program is, by its name. */
export const debianProgram = (name: string, from: DebianPackage): string =>
  fromDebian(() => Bun.which(name, { PATH: folders }), from);
