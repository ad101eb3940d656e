// SPDX-License-Identifier: GPL-3.0-or-later
//
// The backend with browsers, built like the ones that operators run: one process, one browser for each account, a health
// page on loopback, log lines to look for, and browsers that are closed when it is told to stop.

import { access, constants, mkdir, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { hostname } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { clientOf, readAccounts } from './clients.mjs'

const PORT = Number(process.env.PORT ?? 8080)
const INSTANCE = process.env.INSTANCE_ID ?? hostname()
// What most backends get wrong, to be measured: the browser library's own handlers, which kill the browser, and none of one's own.
const LIBRARY_HANDLES_SIGNALS = process.env.LIBRARY_HANDLES_SIGNALS === 'yes'
const CLOSES_BROWSERS = process.env.CLOSES_BROWSERS !== 'no'
// Sends a message this often, so that a test can stop and migrate browsers that write; off by default.
const CHATTER_MS = Number(process.env.CHATTER_MS ?? 0)

const sessions = process.env.SESSIONS_PATH || undefined
const directory = resolve(sessions ?? '.wwebjs_auth')
const accounts = readAccounts().map((account) => ({ ...account, state: 'starting', client: undefined }))
let stopping = false

async function main() {
  if (CLOSES_BROWSERS) for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => stop(signal))
  createServer(answer).listen(PORT, '127.0.0.1')
  console.log(`Instance ${INSTANCE} keeps ${accounts.length} accounts in ${directory}`)
  await mkdir(directory, { recursive: true }).catch(() => {})
  await Promise.all(accounts.map(restore))
  console.log(`Session restoration complete: ${count('connected')} restored, ${accounts.length - count('connected')} failed`)
}

async function restore(account) {
  const client = clientOf(account, sessions, { libraryHandlesSignals: LIBRARY_HANDLES_SIGNALS })
  account.client = client
  client.on('ready', () => {
    account.state = 'connected'
    console.log(`✓ Session restored: ${account.id}`)
  })
  client.on('qr', () => {
    account.state = 'needs_qr'
    console.error(`✗ Failed to restore session ${account.id}: not linked, waiting for somebody to scan a QR code`)
  })
  try {
    await client.initialize()
    client.pupBrowser.on('disconnected', () => (account.state = 'disconnected'))
    if (CHATTER_MS && account.state === 'connected') chatter(account)
  } catch (error) {
    account.state = 'failed'
    // The first line only: the browser's own lines follow.
    console.error(`✗ Failed to restore session ${account.id}: ${error.message.split('\n')[0]}`)
  }
}

function chatter(account) {
  // One after the other: two at once would count one message.
  const next = () => account.client.send().then(() => setTimeout(next, CHATTER_MS), () => {})
  next()
}

async function answer(request, response) {
  const { pathname, searchParams } = new URL(request.url, 'http://127.0.0.1')
  const routes = { 'GET /health': health, 'GET /sessions': showSessions, 'POST /send': () => send(searchParams.get('session')) }
  const route = routes[`${request.method} ${pathname}`] ?? (() => [404, { ok: false }])
  const [code, body] = await Promise.resolve(route()).catch(() => [500, { ok: false }])
  response.writeHead(code, { 'content-type': 'application/json' })
  response.end(JSON.stringify(body))
}

async function health() {
  const writable = await isWritable()
  return [
    writable ? 200 : 503,
    {
      ok: writable,
      status: writable ? 'healthy' : 'unhealthy',
      sessions_dir_writable: writable,
      instance: INSTANCE,
      accounts: {
        total: accounts.length,
        connected: count('connected'),
        needs_qr: count('needs_qr'),
        failed: count('failed'),
        starting: count('starting'),
      },
      release: basename(process.cwd()),
      pid: process.pid,
      uptime_seconds: Math.round(process.uptime()),
    },
  ]
}

/** The table of active sessions that a dashboard shows, and what tells one device from another. */
async function showSessions() {
  const shown = accounts.map(async ({ id, state, client }) => {
    const device = state === 'connected' ? await client.look() : {}
    return [id, { state, ...device }]
  })
  return [200, Object.fromEntries(await Promise.all(shown))]
}

async function send(id) {
  const account = accounts.find((known) => known.id === id && known.state === 'connected')
  return account ? [200, await account.client.send()] : [409, { ok: false }]
}

function count(state) {
  return accounts.filter((account) => account.state === state).length
}

/** A real write, as the service user: permissions alone say nothing of read-only mounts and sandboxes. */
async function isWritable() {
  const probe = join(directory, '.write-test')
  try {
    await access(directory, constants.W_OK)
    await writeFile(probe, '')
    await rm(probe, { force: true })
    return true
  } catch {
    return false
  }
}

/** The only clean end of a browser is to be closed: it writes what it still holds, and takes its lock away. */
async function stop(signal) {
  if (stopping) return
  stopping = true
  const closed = await Promise.allSettled(accounts.map((account) => account.client?.destroy()))
  const failed = closed.filter((result) => result.status === 'rejected').length
  console.log(`${signal}: closed ${accounts.length - failed} of ${accounts.length} browsers`)
  process.exit(failed ? 1 : 0)
}

await main()
