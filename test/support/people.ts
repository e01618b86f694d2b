/** Connects devices of users to a running service for one test, and lets them go after it. */
import { afterEach } from "bun:test";
import { Client, type ClientOptions } from "./client.ts";

let names = 0;

/** A name that no other test of the run uses. */
export const fresh = (prefix: string) => `${prefix}${++names}`;

export interface People {
  /** A device that is live. */
  connect(userId: string, query?: Record<string, string>, options?: ClientOptions): Promise<Client>;
  /** A device of each user, all of them live on the conversation. */
  gather(conversationId: string, userIds: string[]): Promise<Client[]>;
  /** A backend: a connection with the role `service`. */
  backend(query?: Record<string, string>): Promise<Client>;
}

export function createPeople(url: () => string): People {
  const clients: Client[] = [];
  afterEach(async () => {
    await Promise.all(clients.splice(0).map((client) => client.close()));
  });
  const people: People = {
    async connect(userId, query = {}, options = {}) {
      const client = await Client.connect(url(), { ...options, query: { user_id: userId, ...query } });
      clients.push(client);
      return client;
    },
    gather: (conversationId, userIds) =>
      Promise.all(
        userIds.map(async (userId) => {
          const client = await people.connect(userId);
          await client.ask("subscribe", { topics: [`conversation:${conversationId}`] });
          return client;
        }),
      ),
    backend: (query = {}) => people.connect(fresh("backend"), { roles: "service", ...query }),
  };
  return people;
}

/** Sends messages one after the other. @returns their acks */
export async function sendAll(client: Client, conversationId: string, contents: string[]): Promise<any[]> {
  return Promise.all(
    contents.map((content) =>
      client.ask("message.send", {
        conversation_id: conversationId,
        client_message_id: fresh("message"),
        content,
      }),
    ),
  );
}

/** The `content`s of the messages that came, in order. */
export const contentsOf = (client: Client) => client.all("message.new").map(({ payload }) => payload.content);
