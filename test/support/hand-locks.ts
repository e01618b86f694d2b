/** Stands for the locks of a browser: each page asks for itself, and what it holds or waits for goes with it. */

interface Asked {
  page: object;
  name: string;
  isHeld: boolean;
  take(): void;
}

export class HandLocks {
  #asked: Asked[] = [];

  /** @returns `navigator.locks`, as that page has it */
  of(page: object) {
    const request = (name: string, options: { signal?: AbortSignal; ifAvailable?: boolean }, run: (lock: any) => any) =>
      new Promise<void>((resolve, reject) => {
        const asked: Asked = {
          ...{ page, name, isHeld: false },
          take: () => {
            asked.isHeld = true;
            Promise.resolve(run({ name })).then(() => {
              this.#remove((it) => it === asked);
              resolve();
            }, reject);
          },
        };
        if (options.ifAvailable && this.#asked.some((it) => it.name === name)) return resolve(run(null));
        options.signal?.addEventListener("abort", () => {
          if (asked.isHeld) return;
          this.#remove((it) => it === asked);
          reject(options.signal!.reason);
        });
        this.#asked.push(asked);
        this.#remove(() => false);
      });
    return { request, query: async () => ({ held: this.#asked.filter(({ isHeld }) => isHeld) }) };
  }

  /** The page is gone. */
  end(page: object): void {
    this.#remove((it) => it.page === page);
  }

  #remove(isGone: (asked: Asked) => boolean): void {
    this.#asked = this.#asked.filter((it) => !isGone(it));
    const isFirst = (it: Asked) => this.#asked.find(({ name }) => name === it.name) === it;
    for (const it of this.#asked.filter((one) => isFirst(one) && !one.isHeld)) it.take();
  }
}
