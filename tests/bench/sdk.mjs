// SPDX-License-Identifier: MIT
// A peer: Modal's JavaScript SDK. It does what bench.py asks for, line by line; see there.
import { createInterface } from "node:readline";
import { ModalClient } from "modal";

const client = new ModalClient();
const app = await client.apps.fromName("bench", { createIfMissing: true });
const image = client.images.fromRegistry("debian:12-slim");
const sandboxes = [];

async function prepare(n) {
  while (sandboxes.length < n) sandboxes.push(await client.sandboxes.create(app, image, { timeoutMs: 3600_000 }));
}

async function count(stream) {
  let bytes = 0;
  for await (const part of stream) bytes += part.length;
  return bytes;
}

// One job: all its output and its exit code, asked for at once.
async function job(sandbox, { command, size }) {
  const process_ = await sandbox.exec(["bash", "-c", command], { mode: "binary" });
  const [stdout, stderr, code] = await Promise.all([count(process_.stdout), count(process_.stderr), process_.wait()]);
  if (stdout !== size || stderr !== 0 || code !== 0) throw new Error(`${command}: ${stdout} and ${stderr} bytes, exit code ${code}`);
}

// jobs N AT SIZE COMMAND
function parse(line) {
  const [, n, at, size, command] = line.match(/^\S+ (\d+) (\d+) (\d+) (.*)$/);
  return { n: Number(n), at: Number(at), size: Number(size), command };
}

async function answer(q) {
  const { at } = q, ns = [];
  await prepare(at);
  const began = process.hrtime.bigint(), used = process.cpuUsage();
  if (at > 1) {
    await Promise.all(sandboxes.slice(0, at).map(async (sandbox) => {
      for (let i = 0; i < q.n; i++) await job(sandbox, q);
    }));
  } else {
    for (let i = 0; i < q.n; i++) {
      const start = process.hrtime.bigint();
      await job(sandboxes[0], q);
      ns.push(Number(process.hrtime.bigint() - start));
    }
  }
  const { user, system } = process.cpuUsage(used);
  return { ns, wall_ns: Number(process.hrtime.bigint() - began), cpu_ns: (user + system) * 1000 };
}

await prepare(1);
await job(sandboxes[0], { command: "true", size: 0 });
console.log('{"ready": true}');
for await (const line of createInterface({ input: process.stdin })) console.log(JSON.stringify(await answer(parse(line))));
for (const sandbox of sandboxes) await sandbox.terminate();
client.close();
process.exit(0);
