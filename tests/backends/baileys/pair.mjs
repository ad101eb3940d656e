// SPDX-License-Identifier: GPL-3.0-or-later
//
// Stands in for the person with the phone: links every account that needs it, then lets it exchange messages,
// so that its directory holds what a used account's directory holds. All of it is made by the library itself.
//
//   node pair.mjs [--canaries] DIRECTORY
//
// With canaries, recognizable strings (CANARY...) lie in file contents and in file names of each account afterwards. Whatever
// shows one of them has shown the inside of a session.

import { createHmac, randomBytes } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { Curve, configureSuccessfulPairing, getNextPreKeys, proto, useMultiFileAuthState } from 'baileys'
import { directoryOf, isPaired, openSocket, readAccounts } from './accounts.mjs'

// A first login makes 812 of them, most never used; 60 show the same and keep tests quick.
const PRE_KEYS = 60
const CONTACTS = ['15550200001', '15550200002', '15550200003']
const MESSAGES_EACH = 2
// The prefixes with which phone and device sign each other's keys (WA_ADV_*_SIG_PREFIX of the library).
const ACCOUNT_SIGNATURE = Buffer.from([6, 0])

const { values, positionals } = parseArgs({ options: { canaries: { type: 'boolean', default: false } }, allowPositionals: true })
const [sessions] = positionals
const word = randomBytes(6).toString('hex')

async function main() {
  for (const account of readAccounts()) {
    const directory = directoryOf(account, sessions)
    const { state, saveCreds } = await useMultiFileAuthState(directory)
    if (isPaired(state.creds)) continue
    await link(account, state)
    await saveCreds()
    await talk(account, state, saveCreds)
    if (values.canaries) await plantCanaries(directory)
  }
  console.log(`${readAccounts().length} accounts are paired`)
}

/** What happens in the library when a phone has scanned the QR code: we play the phone, it checks every signature. */
async function link(account, { creds, keys }) {
  const phone = Curve.generateKeyPair()
  const details = proto.ADVDeviceIdentity.encode({ rawId: 1, timestamp: Math.floor(Date.now() / 1000), keyIndex: 1 }).finish()
  const signed = proto.ADVSignedDeviceIdentity.encode({
    details,
    accountSignatureKey: phone.public,
    accountSignature: Curve.sign(phone.private, Buffer.concat([ACCOUNT_SIGNATURE, details, creds.signedIdentityKey.public])),
  }).finish()
  const hmac = createHmac('sha256', Buffer.from(creds.advSecretKey, 'base64')).update(signed).digest()
  const number = account.jid.split('@')[0]
  const stanza = {
    tag: 'iq',
    attrs: { id: '1' },
    content: [
      {
        tag: 'pair-success',
        attrs: {},
        content: [
          { tag: 'device-identity', attrs: {}, content: proto.ADVSignedDeviceIdentityHMAC.encode({ details: signed, hmac }).finish() },
          { tag: 'platform', attrs: { name: 'android' } },
          { tag: 'device', attrs: { jid: `${number}:1@s.whatsapp.net`, lid: `${number}:1@lid` } },
          { tag: 'biz', attrs: { name: values.canaries ? `CANARY_${word}` : 'Test shop' } },
        ],
      },
    ],
  }
  Object.assign(creds, configureSuccessfulPairing(stanza, creds).creds)
  // As if the phone's history had come: without it the library waits 20 s for it, and changes its credentials then.
  creds.accountSyncCounter = 1
  const { update } = await getNextPreKeys({ creds, keys }, PRE_KEYS)
  Object.assign(creds, update)
}

/** Connect and write to some contacts: this makes the Signal sessions, device lists and number mappings. */
async function talk(account, state, saveCreds) {
  const socket = openSocket(account, state)
  socket.ev.on('creds.update', saveCreds)
  await connected(socket)
  for (const contact of CONTACTS) {
    for (let n = 1; n <= MESSAGES_EACH; n++) await socket.sendMessage(`${contact}@s.whatsapp.net`, { text: `message ${n}` })
  }
  await settled(state.creds)
  await socket.end(undefined)
  await saveCreds()
}

/** The last that a login changes: the server's properties. From here on, only messages change an account. */
async function settled(creds) {
  while (!creds.lastPropHash) await setTimeout(20)
}

function connected(socket) {
  return new Promise((opened, failed) => {
    socket.ev.on('connection.update', ({ connection, lastDisconnect }) => {
      if (connection === 'open') opened()
      if (connection === 'close') failed(lastDisconnect?.error ?? new Error('the connection was closed'))
    })
  })
}

/** The library keeps fields that it does not know, and never looks at files that it did not ask for. */
async function plantCanaries(directory) {
  const preKey = join(directory, 'pre-key-1.json')
  const content = JSON.parse(await readFile(preKey, 'utf8'))
  await writeFile(preKey, JSON.stringify({ ...content, note: `CANARY_${word}` }))
  await writeFile(join(directory, `session-CANARYNAME${word}.0.json`), JSON.stringify({ note: `CANARY_${word}` }))
}

await main()
process.exit(0)
