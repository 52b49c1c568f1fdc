// Starts the emulator with one repository and one App that is installed there. Prints, as one line of
// JSON, its address and the App's private key, and ends with its standard input.
import { createEmulator } from "emulate";

const emulator = await createEmulator({
  service: "github",
  port: 0,
  seed: {
    github: {
      users: [{ login: "ada" }],
      orgs: [{ login: "astra" }],
      repos: ["api", "other"].map((name) => ({ owner: "astra", name, auto_init: true, private: true })),
      apps: [
        {
          app_id: 12345,
          slug: "astra-dispatch",
          name: "astra dispatch",
          permissions: { contents: "write", pull_requests: "write", metadata: "read" },
          events: [],
          installations: [{ installation_id: 100, account: "astra", repository_selection: "all" }],
        },
      ],
    },
  },
});
const secret = emulator.generatedSecrets.find((secret) => secret.kind === "github.app_private_key");
console.log(JSON.stringify({ url: emulator.url, key: secret.value }));
process.stdin.resume().on("end", () => emulator.close().then(() => process.exit()));
