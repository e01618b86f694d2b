/** Undoes after each test what it has begun, the last first; called at the top of a file. */
import { afterEach } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export function undoAfterEach() {
  const undone: (() => unknown)[] = [];
  afterEach(async () => {
    for (const undo of undone.splice(0).reverse()) await undo();
  });
  const defer = (undo: () => unknown) => void undone.push(undo);
  return {
    defer,
    /** Stops it after the test. @returns it */
    stopped<Started extends { stop(): unknown }>(started: Started): Started {
      defer(() => started.stop());
      return started;
    },
    /** Makes a folder that is there for the test. */
    newFolder(): string {
      const folder = mkdtempSync(join(tmpdir(), "ws-test-"));
      defer(() => rmSync(folder, { recursive: true, force: true }));
      return folder;
    },
  };
}
