// SPDX-License-Identifier: GPL-3.0-or-later
//
// The backend of a web application: after a start it asks the application which sessions were active, and restores each from
// disk. Where a session lies is for the library to say (LocalAuth of whatsapp-web.js); no browser is started.

import { existsSync } from 'node:fs'
import { access, constants, mkdir, readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join, resolve } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import whatsapp from 'whatsapp-web.js'

const PORT = Number(process.env.PORT ?? 8080)
const API_URL = process.env.SESSIONS_API_URL
const API_KEY = process.env.SESSIONS_API_KEY
const RETRY_MS = 200

// Undefined unless somebody sets it: LocalAuth's own `./.wwebjs_auth/`, the mistake that this collection repairs.
const dataPath = process.env.SESSIONS_PATH || undefined
const directory = resolve(dataPath ?? '.wwebjs_auth')
const accounts = { total: 0, connected: 0, needs_qr: 0 }
let restored = false

async function main() {
  for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => process.exit(0))
  createServer(answer).listen(PORT, '127.0.0.1')
  await mkdir(directory, { recursive: true }).catch(() => {})
  await restoreSessions(await fetchActiveSessions())
}

/** [{session_id, user_id, instance_name, status}]; asked again until the web application is up. */
async function fetchActiveSessions() {
  for (;;) {
    const response = await fetch(API_URL, { headers: { 'x-api-key': API_KEY } }).catch(() => null)
    if (response?.ok) return (await response.json()).data.sessions
    if (response) console.error(`the web application answered ${response.status}`)
    await setTimeout(RETRY_MS)
  }
}

async function restoreSessions(sessions) {
  accounts.total = sessions.length
  for (const { session_id: id } of sessions) {
    if (await restore(id)) {
      accounts.connected += 1
      console.log(`✓ Session restored: ${id}`)
    } else {
      accounts.needs_qr += 1
      console.error(`✗ Failed to restore session ${id}: Auth file not found`)
    }
  }
  restored = true
  console.log(`Session restoration complete: ${accounts.connected} restored, ${accounts.needs_qr} failed`)
}

/** Whether a browser was ever linked there. Asked before the library is, for it makes the directory when there is none. */
async function restore(id) {
  const profile = join(directory, `session-${id}`)
  if (!existsSync(join(profile, 'Default'))) return false
  await readFile(join(profile, 'Default/Local Storage/leveldb/CURRENT')) // what a browser opens first
  const strategy = new whatsapp.LocalAuth({ clientId: id, dataPath })
  strategy.setup({ options: { puppeteer: {} } })
  await strategy.beforeBrowserInitialized()
  return strategy.userDataDir === profile
}

async function answer(request, response) {
  const writable = await access(directory, constants.W_OK).then(() => true, () => false)
  const ok = writable && restored
  response.writeHead(ok ? 200 : 503, { 'content-type': 'application/json' })
  response.end(JSON.stringify({ ok, sessions_dir_writable: writable, waMode: 'active', accounts }))
}

await main()
