// SPDX-License-Identifier: MIT
/** A mounted pool of sandboxes. See index.js. */

export interface Settings {
  /** Where a job starts; a relative path begins at the workdir. */
  cwd?: string
  /** Added to the variables of the lease. */
  env?: Record<string, string>
  /** Seconds from the start of the job; 0 for none. */
  timeout?: number
  user?: string
}

export interface LeaseOptions extends Settings {
  /** Default: $MODALPOOL_MOUNT, or /mnt/modalpool. */
  mount?: string
  /** Must be free. Default: a name of its own. */
  name?: string
  /** What the sandboxes of the pool have to be made of. */
  image?: string
}

export interface JobOptions extends Settings {
  name?: string
  stdin?: string | Uint8Array
}

export interface RunOptions extends JobOptions {
  /** Kills the job when it aborts. */
  signal?: AbortSignal
}

export type End = 'ok' | 'failed' | 'timeout' | 'killed' | 'output' | 'cancelled' | 'lost' | 'unknown'
export type Stream = 'output' | 'stdout' | 'stderr'

export interface Result {
  job: string
  end: End
  /** null if there is none: cancelled, lost, unknown. */
  exitCode: number | null
  signal: number | null
  /** Seconds since 1970. */
  submitted: number
  started: number | null
  ended: number
  /** A sentence wherever end is neither ok nor failed. */
  error: string | null
  output: string
  stdout: string
  stderr: string
  /** As bytes. */
  stdoutBytes: Buffer
}

/** The mount refused something: code and errno as of node:fs, and in message the sentence of the file `error`. */
export class ModalpoolError extends Error {
  code: string
  errno: number
  path: string
}

export class Job {
  readonly name: string
  readonly path: string
  wait(options?: { signal?: AbortSignal }): Promise<Result>
  /** Text as it comes, to the end of the job. */
  stream(name?: Stream): AsyncGenerator<string, void, undefined>
  kill(): Promise<void>
  signal(name: string): Promise<void>
  /** Kills it if it runs. */
  remove(): Promise<void>
}

export class Lease {
  readonly name: string
  readonly path: string
  static create(options?: LeaseOptions): Promise<Lease>
  start(command: string | readonly string[], options?: JobOptions): Promise<Job>
  run(command: string | readonly string[], options?: RunOptions): Promise<Result>
  job(name: string): Job
  readFile(path: string): Promise<Buffer>
  writeFile(path: string, data: string | Uint8Array): Promise<void>
  release(): Promise<void>
}
