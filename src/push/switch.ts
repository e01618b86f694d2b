/** Knows whether anybody wants to be told of missed events: by the setting, or since a backend has first asked for them [BAK3]. */
import type { Config } from "../config/schema.ts";
import type { EventLog } from "../storage/ports.ts";
import type { PushStore } from "../storage/push-store.ts";

export interface PushSwitchOptions {
  enabled: Config["push"]["enabled"];
  store: Pick<PushStore, "begin" | "hasBegun" | "forget">;
  log: Pick<EventLog, "epochs" | "watermark">;
}

export class PushSwitch {
  #isOn = false;
  /** How often somebody has asked for it here. */
  #turnedOn = 0;
  #onTurned: () => void = () => {};

  constructor(private readonly options: PushSwitchOptions) {}

  /** As far as this node knows: another one may have been asked first. */
  get isOn(): boolean {
    return this.#isOn;
  }

  /** False: nothing can turn it on. */
  get mayBeOn(): boolean {
    return this.options.enabled !== "false";
  }

  /** Has a listener told once it is on. */
  onTurned(listener: () => void): void {
    this.#onTurned = listener;
  }

  /** Takes the setting: where it is off what was missed meanwhile is never told. @throws Unavailable */
  async start(): Promise<void> {
    if (this.mayBeOn) await this.look();
    else await this.options.store.forget();
  }

  /** Looks whether it is on, on whatever node that was. @throws Unavailable */
  async look(): Promise<boolean> {
    const { enabled, store } = this.options;
    if (enabled === "true") await this.turnOn();
    if (enabled !== "auto") return this.#isOn;
    const times = this.#turnedOn;
    const hasBegun = await store.hasBegun();
    // Somebody may have asked for it while the storage was asked.
    if (hasBegun || times === this.#turnedOn) this.#set(hasBegun);
    return this.#isOn;
  }

  /** Looks where it is not known to be on. @throws Unavailable */
  async isWanted(): Promise<boolean> {
    return this.#isOn || (this.mayBeOn && (await this.look()));
  }

  /** Somebody wants to know of what is logged once this resolves, and of all that comes after it. @throws Unavailable */
  async turnOn(): Promise<void> {
    const { store, log } = this.options;
    if (!this.mayBeOn) return;
    const { id: epoch } = log.epochs.current;
    await store.begin({ epoch, position: await log.watermark() });
    this.#turnedOn++;
    this.#set(true);
  }

  #set(isOn: boolean): void {
    const isNews = isOn && !this.#isOn;
    this.#isOn = isOn;
    if (isNews) this.#onTurned();
  }
}
