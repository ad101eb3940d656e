// SPDX-License-Identifier: GPL-3.0-or-later
//
// A server like wppconnect's own: it starts every session that its token store lists, each with the browser profile of
// the same name. No browser is started here; a session whose profile is gone needs a QR code, as it does there.

import { execFileSync } from 'node:child_process'
import { resolve } from 'node:path'
import { hasProfile, openTokens, sessionsPath } from './store.mjs'

const sessions = sessionsPath()
const tokens = openTokens(sessions)
const names = await tokens.listTokens()

console.log(`Starting ${names.length} sessions of ${resolve(sessions)}`)
for (const name of names) {
  const linked = hasProfile(name, sessions) && (await tokens.getToken(name))
  console.log(linked ? `[${name}] Session restored from disk` : `[${name}] needs_qr: no profile or no token`)
}
if (process.env.NOTIFY_SOCKET) execFileSync('systemd-notify', ['--ready'])
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(0))
setInterval(() => {}, 1 << 30)
