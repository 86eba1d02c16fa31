// The pages of docs/camera in Chromium: browser_stories.js URL PORT STORY
// The pages are served at http://127.0.0.1:PORT; CHROMIUM is the browser, FOLDER the one with node_modules.
'use strict'

const assert = require('node:assert')
const { createServer } = require('node:http')
const { existsSync, readFileSync } = require('node:fs')
const { join } = require('node:path')
const { chromium } = require('playwright-core')

const [, , URL, PORT, STORY] = process.argv
const PATIENCE = 10_000
const PAGES = join(__dirname, '../../docs/camera')

// What an own HTTP server would give out: the two pages, and MQTT.js beside them.
const served = createServer((request, response) => {
  const name = request.url.split('?')[0].slice(1)
  const file = name === 'mqtt.min.js'
    ? join(process.env.FOLDER, 'node_modules/mqtt/dist/mqtt.min.js')
    : join(PAGES, name.replace(/[^a-z.]/g, ''))
  if (!name || !existsSync(file)) return response.writeHead(404).end()
  response.writeHead(200, { 'Content-Type': name.endsWith('.js') ? 'text/javascript' : 'text/html' })
  response.end(readFileSync(file))
})

const address = (page) => `http://127.0.0.1:${PORT}/${page}.html?broker=${encodeURIComponent(URL)}`
const hasText = (page, selector, text) => page.waitForFunction(
  ([selector, text]) => document.querySelector(selector)?.textContent === text, [selector, text], { timeout: PATIENCE })
const heard = (hub) => hub.$$eval('#log li', (lines) => lines.map((line) => line.textContent))
const hears = (hub, count) => hub.waitForFunction(
  (count) => document.querySelectorAll('#log li').length >= count, count, { timeout: PATIENCE })

const open = async (context, page) => {
  const opened = await context.newPage()
  await opened.goto(address(page))
  return opened
}
const openHub = async (context) => {
  const hub = await open(context, 'hub')
  await hasText(hub, '#state', 'watching')
  return hub
}
const openCamera = async (context) => {
  const camera = await open(context, 'camera')
  await hasText(camera, '#state', 'online')
  return camera
}

const stories = {
  // The camera vanishes, and the hub learns it: live, and later from what is retained.
  async camera_that_vanishes (context) {
    const hub = await openHub(context)
    const camera = await openCamera(context)
    await hears(hub, 1)
    const since = Date.now()
    await camera.close() // The page is gone, and with it the WebSocket, without DISCONNECT.
    await hears(hub, 2)
    const elapsed = Date.now() - since
    assert.deepStrictEqual(await heard(hub), ['door: online', 'door: offline'])
    assert.ok(elapsed >= 1900, `the Will Delay Interval is 2 s, the will came after ${elapsed} ms`)
    const later = await openHub(context)
    await hears(later, 1)
    assert.deepStrictEqual(await heard(later), ['door: offline (retained)'])
  },

  // The camera is back within the Will Delay Interval: no alarm.
  async camera_that_comes_back (context) {
    const hub = await openHub(context)
    const camera = await openCamera(context)
    await hears(hub, 1)
    await camera.reload()
    await hasText(camera, '#state', 'online')
    await hears(hub, 2)
    await new Promise((resolve) => setTimeout(resolve, 3000)) // Longer than the delay of the first connection's will.
    assert.deepStrictEqual(await heard(hub), ['door: online', 'door: online'])
  },

  // The camera is switched off: DISCONNECT discards the will.
  async camera_that_is_switched_off (context) {
    const hub = await openHub(context)
    const camera = await openCamera(context)
    await camera.click('#leave')
    await hasText(camera, '#state', 'switched off')
    await camera.close()
    await new Promise((resolve) => setTimeout(resolve, 3000))
    assert.deepStrictEqual(await heard(hub), ['door: online', 'door: switched off'])
  },

  // A page of another origin is not let in.
  async page_from_elsewhere (context) {
    const camera = await open(context, 'camera')
    const refused = await camera.evaluate((url) => new Promise((resolve) => {
      const socket = new WebSocket(url, 'mqtt')
      socket.onopen = () => resolve(false)
      socket.onclose = () => resolve(true)
    }), URL)
    assert.ok(refused)
  }
}

const play = async () => {
  await new Promise((resolve) => served.listen(Number(PORT), '127.0.0.1', resolve))
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync', '--ignore-certificate-errors']
  })
  try {
    await stories[STORY](await browser.newContext({ ignoreHTTPSErrors: true }))
  } finally {
    await browser.close()
  }
}

play().then(
  () => process.exit(0),
  (error) => {
    console.error(error)
    process.exit(1)
  }
)
