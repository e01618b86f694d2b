/** A real nginx in front of a service, as the docs set it up, on a free port and in a throw-away folder. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { debianProgram } from "./debian.ts";
import { freePorts } from "./free-ports.ts";
import { until } from "./until.ts";

export interface Nginx {
  /** `ws://127.0.0.1:<port>/ws` */
  url: string;
  stop(): Promise<void>;
}

const configurationOf = (port: number, servicePort: number) => `
daemon off;
master_process off;
pid nginx.pid;
error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path .;
  proxy_temp_path .;
  fastcgi_temp_path .;
  uwsgi_temp_path .;
  scgi_temp_path .;
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://127.0.0.1:${servicePort};
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
    }
  }
}
`;

export const findNginx = () => debianProgram("nginx", { package: "nginx-light" });

export async function startNginx(servicePort: number): Promise<Nginx> {
  const program = findNginx();
  const [port] = (await freePorts(1)) as [number];
  const folder = mkdtempSync(join(tmpdir(), "ws-nginx-"));
  await Bun.write(join(folder, "nginx.conf"), configurationOf(port, servicePort));
  const child = Bun.spawn([program, "-p", folder, "-c", "nginx.conf", "-e", "stderr"], {
    stdin: "ignore",
    stdout: "ignore",
    stderr: "ignore",
  });
  await until(async () => (await fetch(`http://127.0.0.1:${port}/live`).catch(() => null))?.ok === true);
  return {
    url: `ws://127.0.0.1:${port}/ws`,
    async stop() {
      child.kill("SIGKILL");
      await child.exited;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
