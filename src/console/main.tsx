/** Puts the console on its page. */
import { createRoot } from "react-dom/client";
import { App } from "./app.tsx";
import { takeTokenOfAddress } from "./session.ts";

takeTokenOfAddress();
createRoot(document.querySelector("#root")!).render(<App />);
