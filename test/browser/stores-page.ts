/** Runs the suite of the client's stores in a page, on IndexedDB. */
import { IndexedDbStore } from "../../src/client/stores/indexed-db.ts";
import { storeCases } from "../contract/client-store.ts";

const stores = {
  run: (title: string) => {
    const name = crypto.randomUUID();
    return storeCases.find((it) => it.title === title)!.run(() => new IndexedDbStore(name));
  },
  open: (name: string) => new IndexedDbStore(name),
  names: async () => (await (globalThis as any).indexedDB.databases()).map(({ name }: { name: string }) => name),
};
Object.assign(globalThis, { stores });
