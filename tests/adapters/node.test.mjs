// SPDX-License-Identifier: MIT
// The module for Node, over the mount MODALPOOL_MOUNT. test_node.py runs this.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { test } from 'node:test'
import { Lease, ModalpoolError } from '../../scripts/adapters/node/index.js'

const mount = process.env.MODALPOOL_MOUNT
const leases = () => readdirSync(mount).filter((name) => name !== '.pool')
const here = new URL('../../scripts/adapters/node/index.js', import.meta.url).pathname

/** A test that has a lease. */
const leased = (name, body, options) => test(name, async () => {
  const lease = await Lease.create(options)
  try {
    await body(lease)
    assert.deepEqual(readdirSync(`${lease.path}/jobs`), [])
  } finally {
    await lease.release()
  }
  assert.deepEqual(leases(), [])
})

leased('run', async (lease) => {
  const r = await lease.run('echo hi; echo oh >&2; exit 3', { timeout: 10 })
  assert.deepEqual([r.exitCode, r.end, r.output, r.stdout, r.stderr, r.error], [3, 'failed', 'hi\noh\n', 'hi\n', 'oh\n', null])
  assert.ok(r.submitted <= r.started && r.started <= r.ended)
  assert.equal((await lease.run(['printf', '%s|', 'a b', '$HOME', "it's"])).stdout, "a b|$HOME|it's|")
  assert.equal((await lease.run('pwd; echo "$A $B"; cat', { cwd: '/tmp', env: { B: '2' }, stdin: 'in' })).output, '/tmp\n1 2\nin')
}, { env: { A: '1' } })

leased('ends', async (lease) => {
  const late = await lease.run('echo begun; sleep 1000', { timeout: 0.3 })
  assert.deepEqual([late.end, late.exitCode, late.output], ['timeout', 124, 'begun\n'])
  assert.deepEqual([(await lease.run('exit 124')).end, (await lease.run('kill -TERM $$')).signal], ['failed', 15])
  const job = await lease.start('echo ready; sleep 1000')
  for await (const text of job.stream()) {
    assert.equal(text, 'ready\n')
    await job.kill()
  }
  assert.equal((await job.wait()).end, 'killed')
  await job.remove()
})

leased('sixteen at once', async (lease) => {
  const script = (i) => `touch here${i}; until [ $(ls here* | wc -l) = 16 ]; do sleep 0.01; done; echo ${i}`
  const results = await Promise.all([...Array(16).keys()].map((i) => lease.run(script(i))))
  assert.deepEqual(results.map((r) => r.output), [...Array(16).keys()].map((i) => `${i}\n`))
})

leased('abort', async (lease) => {
  const abort = new AbortController()
  const running = lease.run('touch begun; sleep 86415', { signal: abort.signal })
  await lease.run('until [ -e begun ]; do sleep 0.01; done')
  abort.abort()
  await assert.rejects(running, { name: 'AbortError' })
  const gone = await lease.run("while pgrep -f '[s]leep 86415' > /dev/null; do sleep 0.01; done", { timeout: 30 })
  assert.equal(gone.end, 'ok')
})

leased('files', async (lease) => {
  const data = Buffer.from([...Array(256).keys()])
  await lease.writeFile('deep/a b', data)
  assert.deepEqual(await lease.readFile('deep/a b'), data)
  await lease.writeFile('-n', '')
  assert.equal((await lease.readFile('-n')).length, 0)
  await assert.rejects(lease.readFile('none'), { code: 'ENOENT' })
  await assert.rejects(lease.readFile('deep'), { code: 'EISDIR' })
})

leased('errors', async (lease) => {
  await assert.rejects(Lease.create({ name: lease.name }), { code: 'EEXIST', message: `there is a lease ${lease.name} already` })
  await assert.rejects(Lease.create({ mount: '/nowhere' }), /no modalpool is mounted at \/nowhere/)
  await assert.rejects(Lease.create({ image: 'alpine:3' }), /the image alpine:3 is asked for/)
  await assert.rejects(lease.run('true', { env: { 'no name': 'x' } }), (error) => error instanceof ModalpoolError && error.code === 'EINVAL')
})

for (const [how, code] of [['exit', 'process.exit(3)'], ['kill -9', 'process.kill(process.pid, 9)'], ['error', 'throw 1'], ['end', '']]) {
  test(`a client that ends: ${how}`, async () => {
    const text = `import { Lease } from '${here}'; const l = await Lease.create(); await l.start('sleep 86416'); ${code}`
    spawnSync(process.execPath, ['--input-type=module', '-e', text], { timeout: 60000 })
    while (leases().length) await new Promise((resolve) => setTimeout(resolve, 10))
  })
}
