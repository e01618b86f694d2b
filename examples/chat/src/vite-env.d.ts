/** Tells the compiler of what Vite gives the page. */
interface ImportMetaEnv {
  /** Where the service is, `ws://…/ws`. */
  readonly VITE_SERVER?: string;
}

interface ImportMeta {
  readonly env: ImportMetaEnv;
}

declare module "*.css";
