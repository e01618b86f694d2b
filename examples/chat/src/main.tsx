/** Opens the page: asks who is here, and gives that user's client to everything below. */
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Client } from "ws-service/client";
import { ClientProvider } from "ws-service/client/react";
import { App } from "./App.tsx";
import { SignIn } from "./SignIn.tsx";
import { showTheme } from "./theme.ts";
import "./style.css";

showTheme();

const root = createRoot(document.getElementById("root")!);
const userId = new URLSearchParams(location.search).get("user");

if (userId === null) root.render(<SignIn />);
else {
  // A real application names no user here, but `getToken`: what its backend has signed for whoever is signed in.
  const client = new Client({ url: import.meta.env.VITE_SERVER ?? "ws://localhost:8086/ws", userId });
  client.start();
  root.render(
    <StrictMode>
      <ClientProvider client={client}>
        <App me={userId} />
      </ClientProvider>
    </StrictMode>,
  );
}
