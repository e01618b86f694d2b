/** Has a device do one thing after the other, with pauses of chance in between, until it is stopped. */
import type { Device } from "./device.ts";
import type { Random } from "./random.ts";

export interface PaceOptions {
  device: Device;
  random: Random;
  pauseMs: { least: number; most: number };
}

export class Pace {
  #isRunning = false;
  #wake: (() => void) | null = null;

  constructor(private readonly options: PaceOptions) {}

  get isRunning(): boolean {
    return this.#isRunning;
  }

  /** @param act does one thing; not called while the device is not connected */
  async run(act: () => void): Promise<void> {
    const { device, random, pauseMs } = this.options;
    this.#isRunning = true;
    while (this.#isRunning) {
      await this.#pause(random.between(pauseMs.least, pauseMs.most));
      if (this.#isRunning && device.state === "live") act();
    }
  }

  stop(): void {
    this.#isRunning = false;
    this.#wake?.();
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
