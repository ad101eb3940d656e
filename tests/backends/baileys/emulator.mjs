// SPDX-License-Identifier: GPL-3.0-or-later
//
// The other end: one local WhatsApp server for each account, on loopback. It speaks the real protocol (Noise
// handshake, pre-key and device queries, acknowledgements), but it does not check who logs in: that the right
// identity comes back is asked of the session files, see identity.mjs.

import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { startWhatsAppServer } from '@openclaw/crabline'
import { readAccounts } from './accounts.mjs'

const records = process.env.RUNTIME_DIRECTORY ?? '.'

const servers = await Promise.all(
  readAccounts().map((account) => {
    const url = new URL(account.url)
    return startWhatsAppServer({
      host: url.hostname,
      port: Number(url.port),
      accessToken: url.searchParams.get('access_token'),
      selfJid: account.jid,
      recorderPath: join(records, `${account.id}.jsonl`),
    })
  }),
)
console.log(`${servers.length} servers are up`)
// Whoever starts the unit may connect as soon as the start has returned.
if (process.env.NOTIFY_SOCKET) execFileSync('systemd-notify', ['--ready'])

async function stop() {
  await Promise.allSettled(servers.map((server) => server.close()))
  process.exit(0)
}
process.on('SIGTERM', stop)
process.on('SIGINT', stop)
