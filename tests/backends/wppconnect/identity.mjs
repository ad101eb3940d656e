// SPDX-License-Identifier: GPL-3.0-or-later
//
// Tells the token of each session in a directory, as the library reads it: a fingerprint, to be compared before and after on
// the host. A session without a token that the library accepts, or without a profile, shows null.
//
//   node identity.mjs DIRECTORY

import { createHash } from 'node:crypto'
import { hasProfile, openTokens } from './store.mjs'

const [sessions] = process.argv.slice(2)
const tokens = openTokens(sessions)

async function fingerprint(session) {
  const token = await tokens.getToken(session)
  if (!token || !hasProfile(session, sessions)) return null
  return createHash('sha256').update(JSON.stringify(token)).digest('hex')
}

const names = (await tokens.listTokens()).sort()
const known = await Promise.all(names.map(async (name) => [name, await fingerprint(name)]))
console.log(JSON.stringify(Object.fromEntries(known)))
