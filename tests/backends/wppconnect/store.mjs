// SPDX-License-Identifier: GPL-3.0-or-later
//
// Where a wppconnect server keeps its sessions: the token file of each in `tokens`, its browser profile in `userDataDir`.
// Both are below the working directory unless somebody sets SESSIONS_PATH, and neither is worth anything alone.

import { createRequire } from 'node:module'
import { existsSync } from 'node:fs'
import { join } from 'node:path'

// The library's main file starts looking for a browser; its token store is a folder of its own.
const { FileTokenStore } = createRequire(import.meta.url)('@wppconnect-team/wppconnect/dist/token-store')

/** The directory of sessions. Relative unless somebody sets it: the mistake that this collection repairs. */
export function sessionsPath() {
  return process.env.SESSIONS_PATH || '.'
}

/** The real token store: the library's own class, and its own names of files. */
export function openTokens(sessions) {
  return new FileTokenStore({ path: join(sessions, 'tokens') })
}

export function profileOf(session, sessions) {
  return join(sessions, 'userDataDir', session)
}

/** Whether a browser has ever been in this profile. */
export function hasProfile(session, sessions) {
  return existsSync(join(profileOf(session, sessions), 'Default'))
}
