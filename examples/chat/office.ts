/** Keeps company to whoever tries the demo alone: the harbour's office is there, reads what it is told, types, and answers. */
import { Client, type Conversation } from "ws-service/client";
import { rooms } from "./src/people.ts";

const answers = [
  "We have written that down.",
  "That is what the crane is for.",
  "The wind is south-west, 6 metres per second. It is always south-west.",
  "Please ask Dev, he knows somebody.",
  "We are closed for coffee and back in ten minutes.",
];
const typingMs = 2_500;

/** @returns what closes it */
export function openOffice(url: string): () => void {
  const client = new Client({ url, userId: "office" });
  client.start();
  const own = rooms.filter(({ title, members }) => title === undefined && members.includes("office"));
  for (const { id } of own) answerIn(client.conversation(id));
  return () => client.stop();
}

function answerIn(conversation: Conversation): void {
  let count = 0;
  /** Of the last message; what was said before it opened is left as it is. */
  let answered: string | null = null;
  conversation.subscribe(() => {
    const { status, messages } = conversation.current;
    const last = messages.at(-1);
    if (status !== "live" || last === undefined || last.key === answered) return;
    const isNew = answered !== null && !last.isOwn;
    answered = last.key;
    if (!isNew) return;
    conversation.markRead();
    conversation.typing.keystroke();
    setTimeout(() => void conversation.send(answers[count++ % answers.length]!), typingMs);
  });
}
