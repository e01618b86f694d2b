/** Holds what this side of a call sends: what it has turned on, which it turns off again, and what the application has given it. */
import type { CallMedia, Rtc } from "./rtc.ts";

export class LocalMedia {
  readonly #rtc: Rtc;
  readonly #own = new Set<MediaStreamTrack>();
  #tracks: readonly MediaStreamTrack[] = [];
  #stream: MediaStream | null = null;
  #group: MediaStream | null = null;
  #isMuted = false;
  #isStopped = false;

  constructor(rtc: Rtc) {
    this.#rtc = rtc;
  }

  get tracks(): readonly MediaStreamTrack[] {
    return this.#tracks;
  }

  /** Of what is sent now; another one when that changes. */
  get stream(): MediaStream | null {
    return this.#stream;
  }

  /** Names all tracks to the other side as those of one stream. */
  get group(): MediaStream {
    return (this.#group ??= new this.#rtc.MediaStream());
  }

  get media(): CallMedia {
    return this.#has("video") ? "video" : "audio";
  }

  get isMuted(): boolean {
    return this.#isMuted;
  }

  /** Takes the application's own, which stay on when the call is over. */
  give(stream: MediaStream): void {
    this.#group = stream;
    this.#set(stream.getTracks());
  }

  /** Turns on what is missing. @throws what `getUserMedia` does: it is not allowed, or not there */
  async turnOn(media: CallMedia): Promise<void> {
    const wanted = { audio: !this.#has("audio"), video: media === "video" && !this.#has("video") };
    if (!wanted.audio && !wanted.video) return;
    const tracks = (await this.#rtc.getUserMedia(wanted)).getTracks();
    for (const track of tracks) this.#own.add(track);
    // The call is over, or another has asked for the same meanwhile.
    const isTaken = ({ kind }: MediaStreamTrack) => this.#isStopped || this.#has(kind);
    for (const track of tracks) if (isTaken(track)) track.stop();
    this.#set([...this.#tracks, ...tracks.filter((track) => !isTaken(track))]);
  }

  turnOffCamera(): void {
    for (const track of this.#tracks) if (track.kind === "video" && this.#own.has(track)) track.stop();
    this.#set(this.#tracks.filter(({ kind }) => kind !== "video"));
  }

  mute(isMuted: boolean): void {
    this.#isMuted = isMuted;
    for (const track of this.#tracks) if (track.kind === "audio") track.enabled = !isMuted;
  }

  stop(): void {
    this.#isStopped = true;
    for (const track of this.#own) track.stop();
    this.#tracks = [];
    this.#stream = null;
  }

  #has(kind: string): boolean {
    return this.#tracks.some((track) => track.kind === kind);
  }

  #set(tracks: MediaStreamTrack[]): void {
    if (this.#isStopped) return;
    this.#tracks = tracks;
    this.#stream = new this.#rtc.MediaStream(tracks);
    if (this.#isMuted) this.mute(true);
  }
}
