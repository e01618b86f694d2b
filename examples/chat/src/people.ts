/** Knows who the people and conversations of the demo are: what an application's own backend would say. */

export interface Person {
  readonly id: string;
  readonly name: string;
  /** Of their picture, degrees. */
  readonly hue: number;
  /** Nobody signs in as this one: `office.ts` answers for it. */
  readonly isMachine?: true;
}

export interface Room {
  readonly id: string;
  /** Of a conversation of two there is none: it is called as the other one is. */
  readonly title?: string;
  readonly members: readonly string[];
  /** Left out: all of them may. */
  readonly writers?: readonly string[];
}

export const people: readonly Person[] = [
  { id: "anna", name: "Anna Berg", hue: 258 },
  { id: "ben", name: "Ben Okafor", hue: 158 },
  { id: "cleo", name: "Cléo Marchand", hue: 18 },
  { id: "dev", name: "Dev Patel", hue: 222 },
  { id: "elin", name: "Elin Sørensen", hue: 330 },
  { id: "office", name: "Harbour Office", hue: 75, isMachine: true },
];

export const rooms: readonly Room[] = [
  { id: "anna-ben", members: ["anna", "ben"] },
  { id: "weekend", title: "Sailing weekend", members: ["anna", "ben", "cleo", "dev", "elin"] },
  { id: "studio", title: "Poster studio", members: ["anna", "cleo", "dev"] },
  { id: "anna-cleo", members: ["anna", "cleo"] },
  { id: "anna-elin", members: ["anna", "elin"] },
  { id: "harbour", title: "Harbour news", members: people.map(({ id }) => id), writers: ["office"] },
  { id: "anna-office", members: ["anna", "office"] },
  { id: "ben-office", members: ["ben", "office"] },
  { id: "ben-dev", members: ["ben", "dev"] },
  { id: "ben-elin", members: ["ben", "elin"] },
];

export const personOf = (id: string): Person => people.find((it) => it.id === id) ?? { id, name: id, hue: 200 };

export function firstNameOf(id: string): string {
  const { name, isMachine } = personOf(id);
  return isMachine ? name : name.split(" ")[0]!;
}

export const roomOf = (id: string): Room => rooms.find((it) => it.id === id) ?? { id, title: id, members: [] };

/** The other one of a conversation of two; null in a larger one. */
export function peerOf({ title, members }: Room, me: string): string | null {
  return title === undefined ? (members.find((it) => it !== me) ?? null) : null;
}

export function titleOf(room: Room, me: string): string {
  const peer = peerOf(room, me);
  return peer === null ? (room.title ?? room.id) : personOf(peer).name;
}
