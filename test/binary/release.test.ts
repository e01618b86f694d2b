/** Proves what a release has: an archive whose program runs by itself, the checksums, and the bill of materials [OPS9]. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import packageFile from "../../package.json" with { type: "json" };
import { projectFolder } from "../support/program.ts";

const { version } = packageFile;
const released = join(projectFolder, "dist/release");
const target = process.arch === "arm64" ? "linux-arm64" : "linux-x64";
const title = `ws-service-${version}-${target}`;

function run(command: string[], cwd: string): string {
  const { stdout, stderr, exitCode } = Bun.spawnSync(command, { cwd, env: { PATH: process.env.PATH } });
  expect([command.join(" "), exitCode, stderr.toString()]).toEqual([command.join(" "), 0, expect.any(String)]);
  return stdout.toString();
}

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ws-release-"));
  run([process.execPath, "build.ts", "release", target], projectFolder);
}, 120_000);
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
  rmSync(released, { recursive: true, force: true });
});

test("[OPS9] the archive has the program, which runs without anything beside it, and what operators need", () => {
  run(["tar", "-xzf", join(released, `${title}.tar.gz`)], folder);
  expect(run([join(folder, title, "ws-service"), "version"], folder)).toContain(version);
  const files = readdirSync(join(folder, title), { recursive: true, encoding: "utf8" });
  const configs = [
    "production.yaml",
    "systemd/ws-service.service",
    "nginx.conf",
    "haproxy.cfg",
    "alerts.yaml",
    "grafana.json",
  ];
  for (const file of ["LICENSE", "CHANGELOG.md", "docs/operating.md", ...configs.map((name) => `configs/${name}`)])
    expect(files).toContain(file);
});

test("[OPS9] the pages of the archive lead to what is in it, or to all of the project as it was in this release", () => {
  run(["tar", "-xzf", join(released, `${title}.tar.gz`)], folder);
  const leadOut: string[] = [];
  for (const page of new Bun.Glob("**/*.md").scanSync(join(folder, title))) {
    const prose = readFileSync(join(folder, title, page), "utf8").replace(/^```[\s\S]*?^```/gm, "");
    const targets = [...prose.matchAll(/\]\(([^)\s]+)\)|(?:src|srcset)="([^"]+)"/g)].map(
      ([, link, image]) => link ?? image!,
    );
    if (targets.some((target) => target.includes(`/ws-service/blob/v${version}/`))) leadOut.push(page);
    const pathOf = (target: string) => join(folder, title, dirname(page), target.replace(/#.*/, ""));
    const isThere = (target: string) => /^(https?:|#)/.test(target) || existsSync(pathOf(target));
    expect([page, targets.filter((target) => !isThere(target))]).toEqual([page, []]);
  }
  expect(leadOut).toContain("README.md");
  expect(leadOut).toContain("docs/operating.md");
});

test("[OPS9] the checksums are those of all files", () => {
  run(["sha256sum", "--check", "--strict", "SHA256SUMS"], released);
  const listed = readFileSync(join(released, "SHA256SUMS"), "utf8")
    .trim()
    .split("\n")
    .map((line) => line.split("  ")[1]!);
  expect(listed).toEqual(
    readdirSync(released)
      .filter((file) => file !== "SHA256SUMS")
      .sort(),
  );
});

test("[OPS9] the bill of materials names what is in the program, and nothing that only builds or tests it", () => {
  const bill = JSON.parse(readFileSync(join(released, `ws-service-${version}.cdx.json`), "utf8"));
  expect([bill.bomFormat, bill.metadata.component.name]).toEqual(["CycloneDX", "ws-service"]);
  const names: string[] = bill.components.map(({ name }: { name: string }) => name);
  for (const name of ["valibot", "postgres", "ioredis", "pino", "jose", "prom-client", "yaml", "uplot", "bun"])
    expect(names).toContain(name);
  for (const name of ["typescript", "fast-check", "playwright-core", "@biomejs/biome"])
    expect(names).not.toContain(name);
});
