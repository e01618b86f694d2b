/** Builds the page with Vite, whose own compiler knows JSX; the client comes from this repository instead of from its package. */
import { resolve } from "node:path";
import { defineConfig } from "vite";

const client = resolve(import.meta.dirname, "../../src/client");

export default defineConfig({
  root: import.meta.dirname,
  resolve: {
    alias: [
      { find: /^ws-service\/client$/, replacement: `${client}/index.ts` },
      { find: /^ws-service\/client\/react$/, replacement: `${client}/react.ts` },
    ],
    // The client lies outside of this folder, and React must be there once.
    dedupe: ["react"],
  },
  optimizeDeps: { include: ["react", "react-dom/client", "react/jsx-runtime", "react/jsx-dev-runtime"] },
  server: { fs: { allow: [resolve(import.meta.dirname, "../..")] } },
  build: {
    outDir: resolve(import.meta.dirname, "../../dist/chat"),
    emptyOutDir: true,
    rollupOptions: { input: ["index.html", "beside.html"].map((name) => resolve(import.meta.dirname, name)) },
  },
});
