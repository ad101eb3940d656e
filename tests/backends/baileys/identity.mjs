// SPDX-License-Identifier: GPL-3.0-or-later
//
// Tells the identity of each account in a directory, as the library reads it: a fingerprint of the public
// identity key, to be compared before and after on the host. Accounts without credentials show null.
//
//   node identity.mjs DIRECTORY

import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { useMultiFileAuthState } from 'baileys'
import { directoryOf, isPaired, readAccounts } from './accounts.mjs'

const [sessions] = process.argv.slice(2)

async function fingerprint(account) {
  const directory = directoryOf(account, sessions)
  // The library makes the directory when it is missing, and a check must not.
  if (!existsSync(join(directory, 'creds.json'))) return null
  const { state } = await useMultiFileAuthState(directory)
  if (!isPaired(state.creds)) return null
  return createHash('sha256').update(state.creds.signedIdentityKey.public).digest('hex')
}

const known = await Promise.all(readAccounts().map(async (account) => [account.id, await fingerprint(account)]))
console.log(JSON.stringify(Object.fromEntries(known)))
