/** A client that draws a list of conversations, and what makes it: over the socket, as both releases have it. */

export interface Asked {
  requests: number;
  tookMs: number;
  /** Of the answers. */
  bytes: number;
  /** Conversations of which the client knows the last message. */
  lastMessages: number;
}

/** Requests that wait for their answers at once. */
const atOnce = 500;
/** Of 0.1: receipts may stand behind the last message. */
const newest = 5;

const idsOf = (count: number) => Array.from({ length: count }, (_, index) => `c${index}`);

export class ListClient {
  #requests = 0;
  #bytes = 0;
  readonly #waiting = new Map<string, (text: string) => void>();

  private constructor(private readonly socket: WebSocket) {
    socket.addEventListener("message", ({ data }) => {
      const text = data as string;
      this.#bytes += Buffer.byteLength(text);
      const id = /"reply_to":"(\w+)"/.exec(text.slice(0, 300))?.[1];
      if (id !== undefined) this.#waiting.get(id)?.(text);
    });
  }

  static async open(port: number, user: string): Promise<ListClient> {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/ws?user_id=${user}&device_id=phone`);
    const client = new ListClient(socket);
    await new Promise((resolve) => socket.addEventListener("open", resolve));
    await client.ask("ping", {});
    return client;
  }

  /** @returns the answer's text */
  ask(type: string, payload: object): Promise<string> {
    const id = `r${++this.#requests}`;
    return new Promise((resolve) => {
      this.#waiting.set(id, (text) => {
        this.#waiting.delete(id);
        resolve(text);
      });
      this.socket.send(JSON.stringify({ id, type, payload }));
    });
  }

  async askEach(type: string, payloads: object[]): Promise<string[]> {
    const answers: string[] = [];
    for (let first = 0; first < payloads.length; first += atOnce) {
      const some = payloads.slice(first, first + atOnce);
      answers.push(...(await Promise.all(some.map((payload) => this.ask(type, payload)))));
    }
    return answers;
  }

  /** @param histories conversations whose last messages are asked for one by one */
  async askForList(histories: number): Promise<Asked> {
    const before = this.#bytes;
    const startedAt = performance.now();
    const pages = idsOf(histories).map((id) => ({ topic: `conversation:${id}`, limit: newest }));
    const subscribed = await this.ask("subscribe", { topics: ["conversation"] });
    const answers = await this.askEach("history", pages);
    const tookMs = performance.now() - startedAt;
    const isThere = (text: string) => text.includes('"message.new"');
    const { topics } = (JSON.parse(subscribed) as { payload: { topics: { snapshot?: { last_message?: object } }[] } })
      .payload;
    return {
      requests: 1 + answers.length,
      tookMs,
      bytes: this.#bytes - before,
      lastMessages: answers.filter(isThere).length + topics.filter(({ snapshot }) => snapshot?.last_message).length,
    };
  }

  close(): void {
    this.socket.close(1000);
  }
}

/** Makes anna a member of conversations with two others, of whom one has said something, and one has read it. */
export async function fillList(port: number, count: number): Promise<void> {
  const ids = idsOf(count);
  const open = async (user: string) => {
    const client = await ListClient.open(port, user);
    for (let first = 0; first < count; first += 1_000) {
      const filters = { conversation_ids: ids.slice(first, first + 1_000) };
      await client.ask("subscribe", { topics: ["conversation"], filters });
    }
    return client;
  };
  const clients = await Promise.all(["anna", "ben", "carl"].map(open));
  const [, ben, carl] = clients;
  const content = "See you at eight, then. I shall bring the maps, and you the coffee?";
  const messages = ids.map((conversation_id) => ({ conversation_id, client_message_id: conversation_id, content }));
  await ben!.askEach("message.send", messages);
  await carl!.askEach(
    "mark.read",
    ids.map((conversation_id) => ({ conversation_id, up_to_seq: 1 })),
  );
  // Longer than receipts are gathered.
  await Bun.sleep(1_000);
  for (const client of clients) client.close();
}
