// SPDX-License-Identifier: GPL-3.0-or-later
//
// Stands in for the person with the phone: links every account that needs it and lets it send messages, through the browser
// and the profile that the library makes.
//
//   node pair.mjs [--canaries] [DIRECTORY]
//
// With canaries, recognizable strings (CANARY...) lie in both stores of each account. Whatever shows one has shown the
// inside of a session.

import { randomBytes } from 'node:crypto'
import { parseArgs } from 'node:util'
import { clientOf, readAccounts } from './clients.mjs'

const MESSAGES = 5

const { values, positionals } = parseArgs({ options: { canaries: { type: 'boolean', default: false } }, allowPositionals: true })
const [sessions] = positionals
const note = values.canaries ? `CANARY_${randomBytes(6).toString('hex')}` : 'Test shop'

async function pair(account) {
  const client = clientOf(account, sessions)
  let needsQr = false
  client.on('qr', () => (needsQr = true))
  await client.initialize()
  if (needsQr) {
    await client.link(account.number, note)
    for (let n = 1; n <= MESSAGES; n++) await client.send()
  }
  await client.destroy()
}

await Promise.all(readAccounts().map(pair))
console.log(`${readAccounts().length} accounts are paired`)
