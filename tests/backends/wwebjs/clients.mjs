// SPDX-License-Identifier: GPL-3.0-or-later
//
// Clients of whatsapp-web.js as an operator's program makes them: one browser for each account, its profile where LocalAuth
// puts it. The library itself starts the browser, opens the page and closes both.

import { readFileSync } from 'node:fs'
import whatsapp from 'whatsapp-web.js'

const { Client, Events, LocalAuth } = whatsapp
const ACCOUNTS_FILE = process.env.ACCOUNTS_FILE ?? '/etc/whatsapp-backend/accounts.json'
const PAGES = process.env.PAGES ?? '/srv/build/app/page'

/** [{id, number}]: what the backend knows of its accounts beside their sessions, as from its database. */
export function readAccounts() {
  return JSON.parse(readFileSync(ACCOUNTS_FILE, 'utf8'))
}

/** A client of one account. `sessions` undefined: below LocalAuth's own `./.wwebjs_auth/`, the mistake that this collection repairs. */
export function clientOf(account, sessions, { libraryHandlesSignals = false } = {}) {
  return new OfflineClient({
    authStrategy: new LocalAuth({ clientId: account.id, dataPath: sessions }),
    // The page of this version comes from a folder: hosts of the lab have no way out.
    webVersion: '2.3000.1',
    webVersionCache: { type: 'local', path: PAGES, strict: true },
    puppeteer: {
      executablePath: '/usr/bin/chromium',
      // The service has no privilege to make the browser's own sandbox.
      args: ['--no-sandbox'],
      handleSIGINT: libraryHandlesSignals,
      handleSIGTERM: libraryHandlesSignals,
      handleSIGHUP: libraryHandlesSignals,
    },
  })
}

class OfflineClient extends Client {
  /** The one thing that is not the library's: it would look into modules that only the real page has. */
  async inject() {
    const { linked } = await this.look()
    this.emit(linked ? Events.READY : Events.QR_RECEIVED)
  }

  look() {
    return this.pupPage.evaluate(() => window.device.look())
  }

  link(number, note) {
    return this.pupPage.evaluate((...given) => window.device.link(...given), number, note)
  }

  send() {
    return this.pupPage.evaluate(() => window.device.send())
  }
}
