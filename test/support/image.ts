/** Stands in for a container engine: the Dockerfile's runtime stage as a read-only chroot with another user, in a mount namespace. */
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { chown, realpath } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { binaryFile, projectFolder } from "./program.ts";

/** Said by the runtime stage of itself. */
export interface RuntimeStage {
  env: Record<string, string>;
  /** `uid:gid`. */
  user: string;
  entrypoint: string[];
  cmd: string[];
  healthcheck: string[];
}

/** Reads the last stage of the Dockerfile. */
function readRuntimeStage(): RuntimeStage {
  const text = readFileSync(join(projectFolder, "Dockerfile"), "utf8").replaceAll("\\\n", " ");
  const stage = text.slice(text.lastIndexOf("\nFROM ")).split("\n");
  const after = (word: string) =>
    stage.filter((line) => line.startsWith(`${word} `)).map((line) => line.slice(word.length));
  const list = (line: string | undefined) => JSON.parse(line!.slice(line!.indexOf("["))) as string[];
  const pairs = after("ENV").flatMap((line) => line.trim().split(/\s+/));
  return {
    env: Object.fromEntries(pairs.map((pair) => [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)])),
    user: after("USER")[0]!.trim(),
    entrypoint: list(after("ENTRYPOINT")[0]),
    cmd: list(after("CMD")[0]),
    healthcheck: list(after("HEALTHCHECK")[0]),
  };
}

/** Of shared libraries a distroless base without OpenSSL has libc's own only. */
const librariesOfBase =
  /^(libc\.so\.6|libpthread\.so\.0|libdl\.so\.2|libm\.so\.6|librt\.so\.1|ld-linux-[a-z0-9-]+\.so\.[12])$/;

export class Image {
  private constructor(
    /** The image's root folder, as the machine sees it. */
    readonly folder: string,
    readonly stage: RuntimeStage,
  ) {}

  /**
   * Lays out what the base image has, and the binary.
   * @throws Error where this cannot be done here, with what it needs
   */
  static async create(): Promise<Image> {
    if (process.getuid!() !== 0) {
      throw new Error(
        "The runtime image is proved in a chroot, which needs root: run the tests as root, or in a container.",
      );
    }
    const probe = Bun.spawnSync(["unshare", "--mount", "true"]);
    if (probe.exitCode !== 0)
      throw new Error(`The runtime image is proved in a mount namespace, which needs CAP_SYS_ADMIN: ${probe.stderr}`);
    const image = new Image(await realpath(mkdtempSync(join(tmpdir(), "ws-image-"))), readRuntimeStage());
    const [uid, gid] = image.stage.user.split(":").map(Number);
    for (const name of ["proc", "tmp", "data", "etc/ssl/certs"])
      mkdirSync(join(image.folder, name), { recursive: true });
    await chown(join(image.folder, "data"), uid!, gid!).catch((error) => {
      image.remove();
      throw new Error(`The runtime image is proved as user ${uid}, which this user namespace does not have: ${error}`);
    });
    writeFileSync(
      join(image.folder, "etc/passwd"),
      `root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:${image.stage.user}:nonroot:/:/sbin/nologin\n`,
    );
    const certificates = "/etc/ssl/certs/ca-certificates.crt";
    if (existsSync(certificates)) image.#copy(certificates);
    for (const library of libraries()) image.#copy(library);
    image.#copy(binaryFile, image.stage.entrypoint[0]);
    // Mounts keep their own permissions: others must be able to walk in.
    Bun.spawnSync(["chmod", "-R", "go+rX", image.folder]);
    return image;
  }

  /** The command line that runs the entry point inside with these words, or another program. The process is that program. */
  command(words: string[]): string[] {
    const script = [
      "set -e",
      'mount --bind "$1" "$1"',
      'mount --bind "$1/data" "$1/data"',
      'mount --rbind /proc "$1/proc"',
      'mount -t tmpfs -o size=16m,mode=1777 tmpfs "$1/tmp"',
      'mount -o remount,bind,ro "$1"',
      'root="$1"; user="$2"; shift 2',
      'exec chroot --userspec="$user" --groups="" "$root" "$@"',
    ].join("\n");
    return [
      "unshare",
      "--mount",
      "--propagation",
      "private",
      "sh",
      "-c",
      script,
      "sh",
      this.folder,
      this.stage.user,
      ...words,
    ];
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  #copy(file: string, to = file): void {
    mkdirSync(dirname(join(this.folder, to)), { recursive: true });
    cpSync(file, join(this.folder, to), { dereference: true });
  }
}

/** Paths of the shared libraries that the binary asks for. */
function libraries(): string[] {
  const lines = Bun.spawnSync(["ldd", binaryFile]).stdout.toString().split("\n");
  const paths = lines.flatMap((line) => /(?:=> |^\s*)(\/\S+) \(/.exec(line)?.[1] ?? []);
  const foreign = paths.filter((path) => !librariesOfBase.test(path.split("/").at(-1)!));
  if (paths.length === 0 || foreign.length > 0)
    throw new Error(`The binary needs what the runtime image has not: ${foreign.join(", ") || lines.join("\n")}`);
  return paths;
}
