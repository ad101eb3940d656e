// SPDX-License-Identifier: GPL-3.0-or-later
//
// Tells who each account in a directory is and how far its stores have come, as the browser reads them: the same as
// /sessions of the backend, for while the backend is down.
//
//   node identity.mjs DIRECTORY

import { clientOf, readAccounts } from './clients.mjs'

const [sessions] = process.argv.slice(2)

async function look(account) {
  const client = clientOf(account, sessions)
  await client.initialize()
  const seen = await client.look()
  await client.destroy()
  return [account.id, seen]
}

console.log(JSON.stringify(Object.fromEntries(await Promise.all(readAccounts().map(look)))))
