/** Holds the file against other services, on the main thread and not in the worker: one that has died must not keep its successor out. */
import { Unavailable } from "../../ground/unavailable.ts";
import { type FileLock, joinFile, lockFile } from "./file-lock.ts";
import { prepareFiles } from "./files.ts";

export interface FileHoldOptions {
  path: string;
  isShared: boolean;
  busyTimeoutMs: number;
  /** Told of a folder that others of the machine may look into. */
  onOpenFolder: (folder: string) => void;
}

export class FileHold {
  #lock: FileLock | null = null;

  constructor(private readonly options: FileHoldOptions) {}

  /** @returns whether nobody else has the file @throws Unavailable where it cannot be opened, or another service has it */
  take(): boolean {
    const { path, isShared, busyTimeoutMs } = this.options;
    if (path === ":memory:") return true;
    this.#prepare();
    if (this.#lock !== null) return true;
    if (!isShared) {
      this.#lock = lockFile({ path, busyTimeoutMs });
      return true;
    }
    const joined = joinFile({ path, busyTimeoutMs });
    this.#lock = joined;
    return joined.isFirst;
  }

  release(): void {
    this.#lock?.release();
    this.#lock = null;
  }

  #prepare(): void {
    const { path, onOpenFolder } = this.options;
    try {
      const { openFolder } = prepareFiles(path);
      if (openFolder !== null) onOpenFolder(openFolder);
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      throw new Unavailable("storage", `${path} cannot be opened: ${text}.`, { setting: "storage.url", cause: error });
    }
  }
}
