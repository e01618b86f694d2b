/** Runs the call registry's contract on the registries that need no server. */
import { LocalCallRegistry } from "../../src/cluster/local/call-registry.ts";
import { callRegistryContract } from "./call-registry.ts";

callRegistryContract("local", async () => {
  const registry = new LocalCallRegistry();
  return { one: registry, other: registry, close: async () => {} };
});
