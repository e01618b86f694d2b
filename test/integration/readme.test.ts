/** Runs the client that the README shows, against the real service. */
import { expect, test } from "bun:test";
import { join, resolve } from "node:path";
import { Client } from "../support/client.ts";
import { freePorts } from "../support/free-ports.ts";
import { type Service, startService } from "../support/service.ts";

const readme = await Bun.file(join(resolve(import.meta.dir, "../.."), "README.md")).text();

/** A console of a browser: pieces of code share their names, what is printed can be waited for, sockets are closed at the end. */
class Console {
  readonly printed: string[] = [];
  readonly #watchers = new Set<() => void>();
  readonly #sockets: WebSocket[] = [];
  #names: Record<string, unknown> = {};

  constructor(private readonly port: number) {}

  async run(code: string): Promise<void> {
    const sockets = this.#sockets;
    const port = String(this.port);
    const Socket = class extends WebSocket {
      constructor(url: string) {
        super(url.replace("localhost:8086", `127.0.0.1:${port}`));
        sockets.push(this);
      }
    };
    const log = (line: string) => {
      this.printed.push(line);
      for (const watcher of [...this.#watchers]) watcher();
    };
    const declared = [...code.matchAll(/^const (\w+)/gm), ...code.matchAll(/^function (\w+)/gm)].map(
      ([, name]) => name,
    );
    const given = { ...this.#names, WebSocket: Socket, console: { log } };
    const body = `${code}\nreturn { ${declared.join(", ")} }`;
    const made = new Function(...Object.keys(given), body)(...Object.values(given)) as Record<string, unknown>;
    this.#names = { ...this.#names, ...made };
    // A person pastes the next piece when there is something to see.
    const [socket] = sockets;
    if (socket?.readyState === WebSocket.CONNECTING)
      await new Promise((resolve) => socket.addEventListener("open", resolve, { once: true }));
  }

  /** The first line for which the condition holds, now or later. */
  line(condition: (line: string) => boolean): Promise<string> {
    return new Promise((resolve) => {
      const look = () => {
        const found = this.printed.find(condition);
        if (found === undefined) return;
        this.#watchers.delete(look);
        resolve(found);
      };
      this.#watchers.add(look);
      look();
    });
  }

  get names(): Record<string, unknown> {
    return this.#names;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) {
      if (socket.readyState === WebSocket.CLOSED) continue;
      const closed = new Promise((resolve) => socket.addEventListener("close", resolve, { once: true }));
      socket.close(1000);
      await closed;
    }
  }
}

test("[LOG4] [LOG5] the README's client misses nothing and hears nothing twice, also over a crash of the service", async () => {
  const code = /^<!-- resume -->\n```js\n([\s\S]*?)^```/m.exec(readme)![1]!;
  expect(code.trim().split("\n").length).toBeLessThanOrEqual(25);
  const [port] = await freePorts(1);
  const settings = { SERVER__PORT: String(port) };
  const first = await startService({ settings });
  const console = new Console(first.port);
  await console.run(code);
  const heard: { type: string; reply_to?: string; payload: { content?: string } }[] = [];
  const watchers = new Set<() => void>();
  const until = (condition: () => boolean) =>
    new Promise<void>((resolve) => {
      const look = () => {
        if (!condition()) return;
        watchers.delete(look);
        resolve();
      };
      watchers.add(look);
      look();
    });
  const contents = () => heard.flatMap(({ type, payload }) => (type === "message.new" ? [payload.content] : []));
  const connect = console.names.connect as (url: string, topics: string[], onEvent: (event: never) => void) => void;
  connect(`ws://localhost:8086/ws?user_id=anna`, ["conversation:c1"], (event) => {
    heard.push(event);
    for (const watcher of [...watchers]) watcher();
  });
  await until(() => heard.some(({ reply_to }) => reply_to === "all"));

  const send = async (to: Service, content: string) => {
    const ben = await Client.connect(to.url, { query: { user_id: "ben" } });
    await ben.ask("message.send", { conversation_id: "c1", client_message_id: content, content });
    await ben.close();
  };
  await send(first, "one");
  await until(() => contents().includes("one"));
  await first.kill();
  const second = await startService({ settings, folder: first.folder });
  await send(second, "two");
  await until(() => contents().includes("two"));
  await until(() => heard.filter(({ reply_to }) => reply_to === "all").length === 2);
  expect(contents()).toEqual(["one", "two"]);
  await console.close();
  await second.stop();
});
