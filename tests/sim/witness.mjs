// What Modal's own JavaScript SDK does in an ordinary day, told as one line of JSON.
import { ModalClient } from "modal";

const said = {};
const client = new ModalClient();
const app = await client.apps.fromName("witness", { createIfMissing: true });
const image = client.images.fromRegistry("debian:bookworm");
const tags = { pool: "w1", host: "here" };
const box = await client.sandboxes.create(app, image, {
  timeoutMs: 120_000,
  tags,
  env: { FLAVOUR: "mint" },
});
said.sandbox = box.sandboxId;

let process_ = await box.exec(["bash", "-c", "echo out; echo err >&2; echo $FLAVOUR; exit 7"]);
[said.stdout, said.stderr, said.code] = await Promise.all([
  process_.stdout.readText(),
  process_.stderr.readText(),
  process_.wait(),
]);

process_ = await box.exec(["cat"]);
const writer = process_.stdin.getWriter();
for (let i = 0; i < 3; i++) await writer.write(`line ${i}\n`);
await writer.close();
[said.echoed, said.echoed_code] = await Promise.all([process_.stdout.readText(), process_.wait()]);

process_ = await box.exec(["head", "-c", "3000000", "/dev/zero"], { mode: "binary" });
said.zeros = (await process_.stdout.readBytes()).length;
await process_.wait();
said.signal = await (await box.exec(["bash", "-c", "kill -9 $$"])).wait();
process_ = await box.exec(["pwd"], { workdir: "/tmp" });
said.workdir = await process_.stdout.readText();
await process_.wait();
said.polled = await box.poll();

async function list(params) {
  const ids = [];
  for await (const found of client.sandboxes.list({ appId: app.appId, ...params })) ids.push(found.sandboxId);
  return ids;
}
said.listed = await list({ tags });
said.other = await list({ tags: { pool: "w2" } });
await box.setTags({ pool: "w2" });
said.tags = await box.getTags();
said.moved = await list({ tags: { pool: "w2" } });

await box.terminate();
said.after = await list({});
try {
  await client.sandboxes.create(app, client.images.fromRegistry("unknown/image"));
} catch (e) {
  said.unknown = `${e}`;
}
process.stdout.write(JSON.stringify(said));
client.close();
process.exit(0);
