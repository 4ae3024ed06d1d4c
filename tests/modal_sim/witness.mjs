// What Modal's own JavaScript SDK does in an ordinary day, told as one line of JSON.
import net from "node:net";
import { ModalClient } from "modal";

// Prints "up", and answers one connection with what it said, turned round.
const server = `
import socket
with socket.create_server(("127.0.0.1", 9000)) as s:
    print("up", flush=True)
    with s.accept()[0] as c:
        c.sendall(c.recv(100)[::-1])
`;

const said = {};
const client = new ModalClient();
const app = await client.apps.fromName("witness", { createIfMissing: true });
const image = client.images.fromRegistry("debian:bookworm");
const tags = { pool: "w1", host: "here" };
const box = await client.sandboxes.create(app, image, {
  timeoutMs: 120_000,
  tags,
  env: { FLAVOUR: "mint" },
  unencryptedPorts: [9000],
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
process_ = await box.exec(["bash", "-c", "tty >/dev/null && stty size >&2"], { pty: true });
said.terminal = await process_.stdout.readText();
await process_.wait();

const files = box.filesystem;
const data = "0123456789".repeat(100_000);
await files.writeText(data, "/root/d/file");
said.file = (await files.readText("/root/d/file")) === data;
said.size = (await files.stat("/root/d/file")).size;
await files.makeDirectory("/root/d/sub");
said.files = (await files.listFiles("/root/d")).map((entry) => entry.name);
await files.remove("/root/d/sub");
await files.readText("/root/none").catch((e) => (said.missing = e.name));

process_ = await box.exec(["python3", "-c", server]);
await process_.stdout.getReader().read();
const [host, port] = (await box.tunnels())[9000].tcpSocket;
said.tunnelled = await new Promise((resolve, reject) => {
  const connection = net.connect(port, host, () => connection.write("abc"));
  connection.on("data", (reply) => resolve(`${reply}`)).on("error", reject);
});
await process_.wait();
said.polled = await box.poll();

async function list(params) {
  const ids = [];
  const lists = client.sandboxes;
  const all = process.env.MODAL_SANDBOX_V2 === "0" ? lists.list.bind(lists) : lists.experimentalList.bind(lists);
  for await (const found of all({ appId: app.appId, ...params })) ids.push(found.sandboxId);
  return ids;
}
said.listed = await list({ tags });
said.other = await list({ tags: { pool: "w2" } });
await box.setTags({ pool: "w2" });
said.tags = await box.getTags();
said.moved = await list({ tags: { pool: "w2" } });

const snapshot = await box.snapshotFilesystem();
await box.terminate();
said.after = await list({});
const again = await client.sandboxes.create(app, snapshot);
said.restored = (await again.filesystem.stat("/root/d/file")).size;
await again.terminate();
try {
  await client.sandboxes.create(app, client.images.fromRegistry("unknown/image"));
} catch (e) {
  said.unknown = `${e}`;
}
process.stdout.write(JSON.stringify(said));
client.close();
process.exit(0);
