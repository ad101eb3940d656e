// SPDX-License-Identifier: GPL-3.0-or-later
//
// Starts the browser of one account and kills it, as a crash or an impatient stop does: its locks stay.
//
//   node crash.mjs DIRECTORY ID

import { once } from 'node:events'
import { clientOf } from './clients.mjs'

const [sessions, id] = process.argv.slice(2)

const client = clientOf({ id }, sessions)
await client.initialize()
const browser = client.pupBrowser.process()
// It leads a process group of its own, with all that it started.
process.kill(-browser.pid, 'SIGKILL')
await once(browser, 'exit')
process.exit(0)
