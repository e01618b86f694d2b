/** A WebSocket as the client wants one, on a line that can be cut and stalled, with all that passes written down. */
import type { Socket, SocketEvent } from "../../../src/client/connection/line.ts";
import type { Received } from "../client.ts";
import type { ConnectionHistory, DeviceHistory, Recorder } from "./history.ts";
import { type Link, openLink } from "./link.ts";

export interface RecordedSocketOptions {
  recorder: Recorder;
  device: DeviceHistory;
  /** Called with each message before the client takes it. */
  onMessage: (message: Received) => void;
  /** The line is gone, whoever has ended it. */
  onClose: () => void;
}

export class RecordedSocket implements Socket {
  readonly history: ConnectionHistory;
  readonly #recorder: Recorder;
  readonly #link: Link;
  readonly #listeners: { type: string; listener: (event: SocketEvent) => void }[] = [];
  #isEndedHere = false;

  constructor(target: URL, { recorder, device, onMessage, onClose }: RecordedSocketOptions) {
    this.#recorder = recorder;
    this.history = recorder.openConnection(device, { url: target.href, since: target.searchParams.get("since") });
    this.history.liveAt = null;
    this.#link = openLink(target, {
      onOpen() {},
      onMessage: (text) => {
        const message = JSON.parse(text) as Received;
        recorder.noteMessage(this.history, message);
        onMessage(message);
        this.#tell({ type: "message", data: text });
      },
      onClose: ({ code }) => {
        recorder.noteClosed(this.history, { code, byClient: this.#isEndedHere });
        onClose();
        this.#tell({ type: "close", code });
      },
    });
  }

  addEventListener(type: SocketEvent["type"], listener: (event: SocketEvent) => void): void {
    this.#listeners.push({ type, listener });
  }

  send(text: string): void {
    this.#recorder.noteRequest(this.history, { payload: {}, ...JSON.parse(text) });
    this.#link.send(text);
  }

  close(code = 1000): void {
    this.#isEndedHere = true;
    this.#link.close(code);
  }

  /** Cuts the line without a word. */
  drop(): void {
    this.#isEndedHere = true;
    this.#link.drop();
  }

  pause(): void {
    this.#link.pause();
  }

  resume(): void {
    this.#link.resume();
  }

  #tell(event: SocketEvent): void {
    for (const { type, listener } of [...this.#listeners]) if (type === event.type) listener(event);
  }
}
