// SPDX-License-Identifier: GPL-3.0-or-later
//
// Stands in for the person with the phone: has the library write the token of each session, and lays a browser's profile
// beside it. The profile is made up, of the files by which one is judged; a real one is in tests/backends/wwebjs.
//
//   node link.mjs [--canaries] DIRECTORY SESSION...
//
// With canaries, recognizable strings (CANARY...) lie in file contents and in file names of each session. Whatever shows one of
// them has shown the inside of a session.

import { randomBytes } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { openTokens, profileOf } from './store.mjs'

const DATABASES = ['Default/IndexedDB/https_web.whatsapp.com_0.indexeddb.leveldb', 'Default/Local Storage/leveldb']
const CACHES = ['Default/Cache/Cache_Data', 'Default/Code Cache/js']

const { values, positionals } = parseArgs({ options: { canaries: { type: 'boolean', default: false } }, allowPositionals: true })
const [sessions, ...names] = positionals
const word = values.canaries ? `CANARY_${randomBytes(6).toString('hex')}` : 'test'
const secret = () => `${word}${randomBytes(32).toString('base64')}`

async function main() {
  for (const name of names) {
    const saved = await openTokens(sessions).setToken(name, {
      WABrowserId: secret(),
      WASecretBundle: JSON.stringify({ key: secret(), encKey: secret(), macKey: secret() }),
      WAToken1: secret(),
      WAToken2: secret(),
    })
    if (!saved) throw new Error('the library did not save the token')
    await layProfile(profileOf(name, sessions))
  }
  console.log(`${names.length} sessions are linked`)
}

async function layProfile(profile) {
  for (const database of DATABASES) {
    await lay(profile, database, 'CURRENT', 'MANIFEST-000001\n')
    await lay(profile, database, 'MANIFEST-000001', randomBytes(64))
    await lay(profile, database, '000003.log', secret())
  }
  for (const cache of CACHES) await lay(profile, cache, `${word}_0`, randomBytes(4096))
  // In microseconds since 1601, as browsers count: no two profiles have the same.
  const created = BigInt(Date.now()) * 1000n + 11644473600000000n + BigInt(randomBytes(2).readUInt16LE())
  await lay(profile, 'Default', 'Preferences', JSON.stringify({ profile: { creation_time: String(created), name: word } }))
  await lay(profile, 'Default', `${word}.dat`, secret())
}

async function lay(profile, folder, name, content) {
  await mkdir(join(profile, folder), { recursive: true })
  await writeFile(join(profile, folder, name), content)
}

await main()
