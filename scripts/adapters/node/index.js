// SPDX-License-Identifier: MIT
/**
 * A mounted pool of sandboxes, from Node.
 *
 *     import { Lease } from 'modalpool'
 *
 *     const lease = await Lease.create({ mount: '/mnt/modalpool' })
 *     const result = await lease.run('echo hi; exit 3', { timeout: 10 })
 *     console.log(result.exitCode, result.end, result.output, result.stdout, result.stderr)
 *     const job = await lease.start('make test')
 *     for await (const text of job.stream()) process.stdout.write(text)
 *     await lease.release()
 *
 * Jobs of a lease run side by side. A lease ends with release() and with the process, however that ends. How a job ended
 * is never an exception; what the mount refuses is a ModalpoolError with the sentence of the file `error`.
 *
 * Reads that wait are those of a cat(1), not of node:fs: four of these would occupy all threads that Node has for files.
 */

import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { constants, rmdirSync } from 'node:fs'
import { mkdir, open, readFile, rmdir } from 'node:fs/promises'
import { basename, join, posix, resolve } from 'node:path'

const GONE = new Set(['ENOENT', 'ESTALE', 'ENOTCONN', 'ECONNABORTED']) // the job, its lease, or the daemon

export class ModalpoolError extends Error {
  constructor (cause, sentence, path) {
    super(sentence, { cause })
    Object.assign(this, { name: 'ModalpoolError', code: cause.code, errno: cause.errno, path })
  }
}

/** Run an action; of its error tell what the file `error` in this directory says. */
async function explained (directory, action) {
  try {
    return await action()
  } catch (cause) {
    if (cause instanceof ModalpoolError || cause.name === 'AbortError' || !cause.code) throw cause
    const sentence = await readFile(join(directory, 'error'), 'utf8').then((text) => text.trim(), () => '')
    throw new ModalpoolError(cause, sentence === '' || sentence === 'ok' ? cause.message : sentence, cause.path ?? directory)
  }
}

/** Write a file of the mount, in one write if the kernel takes it so. */
async function write (path, data) {
  const file = await open(path, constants.O_WRONLY | constants.O_TRUNC)
  try {
    const bytes = Buffer.from(data)
    for (let at = 0; at < bytes.length;) at += (await file.write(bytes, at)).bytesWritten
  } finally {
    await file.close()
  }
}

/** What a file whose reads may wait has, as it comes. */
async function * reading (path, signal) {
  const cat = spawn('cat', ['--', path], { stdio: ['ignore', 'pipe', 'pipe'], signal })
  let said = ''
  cat.stderr.on('data', (data) => { said += data })
  const ended = new Promise((resolve, reject) => cat.on('error', reject).on('close', resolve))
  ended.catch(() => {})
  try {
    for await (const data of cat.stdout) yield data
    if (await ended) throw Object.assign(new Error(said.trim()), { code: 'EIO', path })
  } finally {
    cat.kill()
  }
}

export class Job {
  constructor (path) {
    this.path = path
    this.name = basename(path)
  }

  wait ({ signal } = {}) {
    return explained(this.path, async () => {
      const parts = []
      for await (const data of reading(join(this.path, 'result'), signal)) parts.push(data)
      const { exit_code: exitCode, stdout_bytes: out, stderr_bytes: err, ...facts } = JSON.parse(Buffer.concat(parts))
      const output = await this.#bytes('output', out + err)
      const stdoutBytes = err ? await this.#bytes('stdout', out) : output
      const stderrBytes = out ? await this.#bytes('stderr', err) : output
      return { ...facts, exitCode, stdoutBytes, output: `${output}`, stdout: `${stdoutBytes}`, stderr: `${stderrBytes}` }
    })
  }

  async * stream (name = 'output') {
    const decoder = new TextDecoder()
    try {
      for await (const data of reading(join(this.path, name))) yield decoder.decode(data, { stream: true })
    } catch (error) {
      await explained(this.path, () => { throw error })
    }
    const rest = decoder.decode()
    if (rest) yield rest
  }

  kill () { return this.#ctl('kill') }
  signal (name) { return this.#ctl(`signal ${name}`) }

  async remove () {
    await rmdir(this.path).catch((error) => { if (!GONE.has(error.code)) throw error })
  }

  #ctl (verb) { return explained(this.path, () => write(join(this.path, 'ctl'), `${verb}\n`)) }

  /** The first bytes of a stream: its end is an error where that of the job is not known. */
  async #bytes (name, size) {
    const bytes = Buffer.alloc(size)
    if (size === 0) return bytes
    const file = await open(join(this.path, name))
    try {
      let at = 0
      for (let n = 1; at < size && n; at += n) n = (await file.read(bytes, at, size - at)).bytesRead
      return bytes.subarray(0, at)
    } finally {
      await file.close()
    }
  }
}

const held = new Map() // the leases of this process, and the guard of each
process.on('exit', () => { for (const path of held.keys()) { try { rmdirSync(path) } catch {} } })

export class Lease {
  constructor (path) {
    this.path = path
    this.name = basename(path)
  }

  static async create ({ mount, name, image, ...settings } = {}) {
    const at = resolve(mount ?? (process.env.MODALPOOL_MOUNT || '/mnt/modalpool'))
    if (image) await checkImage(at, image)
    const lease = new Lease(join(at, name ?? `lease-${process.pid}-${randomBytes(6).toString('hex')}`))
    await mkdir(lease.path).catch((cause) => { throw new ModalpoolError(cause, refusal(cause, at, lease.name), lease.path) })
    held.set(lease.path, guard(lease.path))
    try {
      await writeSettings(lease.path, '', settings)
    } catch (error) {
      await lease.release()
      throw error
    }
    return lease
  }

  async start (command, { name, stdin, ...settings } = {}) {
    const job = new Job(join(this.path, 'jobs', name ?? `job-${randomBytes(8).toString('hex')}`))
    await explained(this.path, () => mkdir(job.path))
    try {
      await writeSettings(job.path, this.path, settings)
      await explained(job.path, async () => {
        if (stdin?.length) await write(join(job.path, 'stdin'), stdin)
        await write(join(job.path, 'cmd'), typeof command === 'string' ? command : command.map(quote).join(' '))
      })
    } catch (error) {
      await job.remove()
      throw error
    }
    return job
  }

  async run (command, { signal, ...options } = {}) {
    signal?.throwIfAborted()
    const job = await this.start(command, options)
    try {
      return await job.wait({ signal })
    } finally {
      await job.remove()
    }
  }

  job (name) { return new Job(join(this.path, 'jobs', name)) }

  async readFile (path) {
    return contents(path, await this.run(`LC_ALL=C exec cat -- ${quote(path)}`, { timeout: 0 }))
  }

  async writeFile (path, data) {
    const command = `export LC_ALL=C; mkdir -p -- ${quote(posix.dirname(path))} && exec cat > ${quote(path)}`
    contents(path, await this.run(command, { timeout: 0, stdin: data }))
  }

  async release () {
    await rmdir(this.path).catch((error) => { if (!GONE.has(error.code)) throw error })
    held.get(this.path)?.stdin.end('released\n')
    held.delete(this.path)
  }
}

/** A process that outlives this one, and then removes the directory. A line says that there is nothing to do. */
function guard (path) {
  const script = 'trap "" HUP INT TERM; read -r released || rmdir -- "$1"'
  const child = spawn('sh', ['-c', script, 'modalpool-guard', path], { cwd: '/', detached: true, stdio: ['pipe', 'ignore', 'ignore'] })
  child.stdin.on('error', () => {})
  child.stdin.unref()
  child.unref()
  return child
}

async function writeSettings (path, base, { cwd, env, timeout, user }) {
  await explained(path, async () => {
    if (cwd) await write(join(path, 'cwd'), cwd)
    if (timeout !== undefined) await write(join(path, 'timeout'), timeout.toFixed(6))
    if (env && Object.keys(env).length) {
      const before = base ? await readFile(join(base, 'env'), 'utf8') : ''
      await write(join(path, 'env'), before + Object.entries(env).map(([key, value]) => `${key}=${value}\n`).join(''))
    }
    if (user) {
      await write(join(path, 'user'), user).catch((cause) => {
        throw cause.code === 'ENOENT' ? new ModalpoolError(cause, 'this modalpool has no setting user', path) : cause
      })
    }
  })
}

async function checkImage (mount, wanted) {
  const facts = async (name) => JSON.parse(await readFile(join(mount, '.pool', name), 'utf8'))
  const { backend } = await facts('stats')
  const has = backend === 'local' ? 'no image, but the files of this machine' : `the image ${(await facts('config')).image.value}`
  if (has !== `the image ${wanted}`) {
    throw new ModalpoolError({ code: 'EOPNOTSUPP', errno: -95 }, `the image ${wanted} is asked for, but the pool has ${has}; ` +
      `use a mount with -o image=${wanted}`, mount)
  }
}

function refusal (cause, mount, name) {
  if (cause.code === 'EAGAIN') return 'the pool drains, or has as many leases as it may'
  if (cause.code === 'EEXIST') return `there is a lease ${name} already`
  if (cause.code === 'ENOENT') return `no modalpool is mounted at ${mount}`
  return cause.message
}

const quote = (word) => `'${word.replaceAll("'", "'\\''")}'`

/** What cat or mkdir say of an error, as node:fs would. */
const ERRORS = {
  'No such file or directory': 'ENOENT', 'Permission denied': 'EACCES', 'Is a directory': 'EISDIR',
  'Not a directory': 'ENOTDIR', 'File exists': 'ENOTDIR', 'No space left on device': 'ENOSPC'
}

function contents (path, result) {
  if (result.end === 'ok') return result.stdoutBytes
  const said = result.error ?? result.stderr.trim()
  const known = Object.entries(ERRORS).find(([text]) => said.includes(text))
  throw Object.assign(new Error(`${known?.[1] ?? 'EIO'}: ${said}, '${path}'`), { code: known?.[1] ?? 'EIO', path })
}
