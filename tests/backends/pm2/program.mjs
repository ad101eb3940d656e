// SPDX-License-Identifier: GPL-3.0-or-later
// A program as most people write it: its directory is written into it, it reads no variable, and it makes a new device where it finds none.
// It says in status.json beside itself whether it is linked, and since when it runs.

import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'

const directory = './auth_info_baileys'
const since = Date.now()

mkdirSync(directory, { recursive: true })
const file = `${directory}/creds.json`
if (!existsSync(file)) writeFileSync(file, JSON.stringify({ registered: false }))
const linked = Boolean(JSON.parse(readFileSync(file)).me?.id)

const save = () => {
  if (linked) writeFileSync(`${directory}/session-15550100001.0.json`, JSON.stringify({ since, at: Date.now() }))
}

// A release that is taken away under a running program takes its directory with it: the program goes on until it is restarted.
const whenItCan = (action) => {
  try {
    action()
  } catch (error) {
    console.error(error.code)
  }
}

whenItCan(save)
writeFileSync('status.json.new', JSON.stringify({ linked, since }))
renameSync('status.json.new', 'status.json')
setInterval(() => whenItCan(save), 200)
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => { whenItCan(save); process.exit(0) })
