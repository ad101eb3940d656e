// SPDX-License-Identifier: GPL-3.0-or-later
//
// What the backend knows of its accounts beside their sessions. A real backend keeps this in its database;
// that it lies elsewhere is why a lost session shows as "needs QR" and not as an account that never was.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pino } from 'pino'
import makeWASocket from 'baileys'

const ACCOUNTS_FILE = process.env.ACCOUNTS_FILE ?? '/etc/whatsapp-backend/accounts.json'

/** [{id, jid, url}]: the account's name on disk, its own number, and the server it talks to. */
export function readAccounts() {
  return JSON.parse(readFileSync(ACCOUNTS_FILE, 'utf8'))
}

/** The directory of sessions. Relative unless somebody sets it: the mistake that this collection repairs. */
export function sessionsPath() {
  return process.env.SESSIONS_PATH || '.baileys_auth'
}

export function directoryOf(account, sessions) {
  return join(sessions, account.id)
}

/** Whether the phone has linked this device: `registered` says so only for logins by pairing code. */
export function isPaired(creds) {
  return Boolean(creds.me?.id && creds.account)
}

/** A real client of the library, connecting to the account's server. */
export function openSocket(account, auth) {
  return makeWASocket({
    auth,
    waWebSocketUrl: account.url,
    logger: pino({ level: 'error' }),
    syncFullHistory: false,
    markOnlineOnConnect: false,
  })
}
