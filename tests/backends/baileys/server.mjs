// SPDX-License-Identifier: GPL-3.0-or-later
//
// The backend of the test hosts, built like the ones that operators run: one process, one directory for
// each account, a health page on loopback, log lines to look for, and a flush when it is told to stop.

import { access, constants, mkdir, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { hostname } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { useMultiFileAuthState } from 'baileys'
import { directoryOf, isPaired, openSocket, readAccounts, sessionsPath } from './accounts.mjs'

const PORT = Number(process.env.PORT ?? 8080)
const INSTANCE = process.env.INSTANCE_ID ?? hostname()
const RECONNECT_MS = 500
// Sends a message to oneself this often, so that a test can migrate sessions that change; off by default.
const CHATTER_MS = Number(process.env.CHATTER_MS ?? 0)

const sessions = sessionsPath()
const accounts = readAccounts().map((account) => ({ ...account, state: 'starting', save: async () => {} }))
let stopping = false

async function main() {
  process.on('SIGTERM', () => stop('SIGTERM'))
  process.on('SIGINT', () => stop('SIGINT'))
  createServer(answer).listen(PORT, '127.0.0.1')
  console.log(`Instance ${INSTANCE} keeps ${accounts.length} accounts in ${resolve(sessions)}`)
  await mkdir(sessions, { recursive: true }).catch(() => {})
  await Promise.all(accounts.map(restore))
}

async function restore(account) {
  try {
    const { state, saveCreds } = await useMultiFileAuthState(directoryOf(account, sessions))
    account.save = saveCreds
    if (!isPaired(state.creds)) {
      // A QR code shows the new identity, so the identity has to be there still when the phone has scanned it.
      await saveCreds()
      account.state = 'needs_qr'
      console.log(`[${account.id}] needs_qr: no credentials, waiting for somebody to scan a QR code`)
      return
    }
    console.log(`[${account.id}] Session restored from disk`)
    connect(account, state)
  } catch (error) {
    account.state = 'unavailable'
    console.error(`[${account.id}] cannot use its directory: ${error.code ?? error.name}`)
  }
}

function connect(account, state) {
  const socket = openSocket(account, state)
  let chatter
  account.socket = socket
  socket.ev.on('creds.update', account.save)
  socket.ev.on('connection.update', ({ connection }) => {
    if (connection === 'open') {
      account.state = 'connected'
      console.log(`[${account.id}] connected`)
      if (CHATTER_MS) chatter = setInterval(() => socket.sendMessage(account.jid, { text: 'tick' }).catch(() => {}), CHATTER_MS)
    }
    if (connection === 'close') {
      clearInterval(chatter)
      account.state = 'disconnected'
      if (!stopping) setTimeout(() => connect(account, state), RECONNECT_MS)
    }
  })
}

async function answer(request, response) {
  const { pathname } = new URL(request.url, 'http://127.0.0.1')
  const [code, body] = pathname === '/health' ? await health() : [404, { ok: false }]
  response.writeHead(code, { 'content-type': 'application/json' })
  response.end(JSON.stringify(body))
}

async function health() {
  const writable = await isWritable()
  const count = (state) => accounts.filter((account) => account.state === state).length
  return [
    writable ? 200 : 503,
    {
      ok: writable,
      status: writable ? 'healthy' : 'unhealthy',
      sessions_dir_writable: writable,
      // One instance only in these tests, so the lock is never somebody else's.
      waMode: 'active',
      instance: INSTANCE,
      lock: { holder: INSTANCE },
      accounts: { total: accounts.length, connected: count('connected'), needs_qr: count('needs_qr') },
      release: basename(process.cwd()),
      pid: process.pid,
      uptime_seconds: Math.round(process.uptime()),
    },
  ]
}

/** A real write, as the service user: permissions alone say nothing of read-only mounts and sandboxes. */
async function isWritable() {
  const probe = join(sessions, '.write-test')
  try {
    await access(sessions, constants.W_OK)
    await writeFile(probe, '')
    await rm(probe, { force: true })
    return true
  } catch {
    return false
  }
}

async function stop(signal) {
  if (stopping) return
  stopping = true
  await Promise.allSettled(accounts.map((account) => account.socket?.end(undefined)))
  const saved = await Promise.allSettled(accounts.map((account) => account.save()))
  const failed = saved.filter((result) => result.status === 'rejected').length
  console.log(`${signal}: flushed ${accounts.length - failed} of ${accounts.length} accounts`)
  process.exit(failed ? 1 : 0)
}

await main()
