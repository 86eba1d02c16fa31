// Stories for mqtt (MQTT.js): mqtt_stories.js URL STORY
// For TLS, CERTIFICATES is a folder with ca.pem, client.pem and client.key.
'use strict'

const assert = require('node:assert')
const { spawn } = require('node:child_process')
const { readFileSync } = require('node:fs')
const { join } = require('node:path')
const mqtt = require('mqtt')

const URL = process.argv[2]
const pem = (name) => readFileSync(join(process.env.CERTIFICATES, name))
const TLS = /^(mqtts|wss):/.test(URL)
  ? { ca: pem('ca.pem'), cert: pem('client.pem'), key: pem('client.key') }
  : {}
const PATIENCE = 10_000
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))

// A connected client whose messages wait in a queue.
class Session {
  static async open (clientId, options = {}) {
    const session = new Session()
    session.queue = []
    session.waiting = []
    session.client = mqtt.connect(URL, { clientId, reconnectPeriod: 0, ...TLS, ...options })
    session.client.on('error', () => {})
    session.client.on('message', (topic, payload, packet) => {
      const message = { topic, payload: payload.toString(), packet }
      const next = session.waiting.shift()
      if (next) next(message)
      else session.queue.push(message)
    })
    await new Promise((resolve, reject) => {
      session.client.once('connect', resolve)
      session.client.once('close', () => reject(new Error('closed before CONNACK')))
    })
    return session
  }

  async subscribe (topic, qos = 1) {
    await this.client.subscribeAsync(topic, { qos })
    return this
  }

  publish (topic, payload, options = { qos: 1 }) {
    return this.client.publishAsync(topic, payload, options)
  }

  next (patience = PATIENCE) {
    if (this.queue.length > 0) return this.queue.shift()
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiting = []
        reject(new Error('no message'))
      }, patience)
      this.waiting.push((message) => {
        clearTimeout(timer)
        resolve(message)
      })
    })
  }

  async expect (...payloads) {
    for (const payload of payloads) assert.strictEqual((await this.next()).payload, payload)
  }

  async expectSilence (milliseconds = 300) {
    await assert.rejects(async () => this.next(milliseconds), /no message/)
  }

  end () {
    return this.client.endAsync()
  }

  cut () {
    this.client.stream.destroy()
  }
}

const watcher = async (topic, qos = 1, options = {}) => (await Session.open('watcher', options)).subscribe(topic, qos)
const will = (topic, properties) => ({ topic, payload: 'gone', qos: 1, properties })
const v31 = { protocolId: 'MQIsdp', protocolVersion: 3 }
const v311 = { protocolVersion: 4 }
const v5 = { protocolVersion: 5 }
const delayed = (clean) => ({
  ...v5, clean, will: will('status/delayed', { willDelayInterval: 1 }), properties: { sessionExpiryInterval: 60 }
})

const stories = {
  async messages_of_every_qos () {
    for (const version of [v31, v311, v5]) {
      const subscriber = await (await Session.open('subscriber', version)).subscribe('room/+/temperature', 2)
      const publisher = await Session.open('publisher', version)
      for (const qos of [0, 1, 2]) {
        for (let reading = 0; reading < 20; reading++) {
          await publisher.publish('room/1/temperature', String(reading), { qos })
        }
        for (let reading = 0; reading < 20; reading++) {
          const message = await subscriber.next()
          assert.deepStrictEqual([message.payload, message.packet.qos], [String(reading), qos])
        }
      }
      await subscriber.expectSilence()
      await Promise.all([subscriber.end(), publisher.end()])
    }
  },

  async retained_message () {
    const publisher = await Session.open('publisher')
    await publisher.publish('lamp', 'on', { qos: 1, retain: true })
    const later = await watcher('lamp')
    const message = await later.next()
    assert.deepStrictEqual([message.payload, message.packet.retain], ['on', true])
    await publisher.publish('lamp', '', { qos: 1, retain: true })
    await later.expect('')
    await (await (await Session.open('latest')).subscribe('lamp')).expectSilence()
  },

  async will_of_a_killed_process () {
    const session = await watcher('status/#')
    const child = spawn(process.execPath, [__filename, URL, '_mortal'], { stdio: 'inherit' })
    await session.expect('alive')
    child.kill('SIGKILL')
    await session.expect('gone')
  },

  async _mortal () {
    const session = await Session.open('mortal', { will: { ...will('status/mortal'), retain: true } })
    await session.publish('status/mortal', 'alive')
    await sleep(60_000)
  },

  async will_of_a_closed_socket () {
    const session = await watcher('status/socket')
    for (const version of [v31, v311, v5]) {
      (await Session.open('mortal', { ...version, will: will('status/socket') })).cut()
      await session.expect('gone')
    }
  },

  async no_will_after_disconnect () {
    const session = await watcher('status/polite')
    for (const version of [v31, v311, v5]) {
      await (await Session.open('polite', { ...version, will: will('status/polite') })).end()
    }
    await session.expectSilence(500)
  },

  async session_keeps_messages () {
    const absent = await (await Session.open('absent', { clean: false })).subscribe('news')
    await absent.end()
    const publisher = await Session.open('publisher')
    const payloads = Array.from({ length: 10 }, (_, index) => String(index))
    for (const payload of payloads) await publisher.publish('news', payload)
    await (await Session.open('absent', { clean: false })).expect(...payloads)
  },

  async will_delay_and_takeover () {
    const session = await watcher('status/delayed')
    await Session.open('taken', delayed(true))
    // The session goes on and the delay is not over: no will.
    await Session.open('taken', delayed(false))
    await session.expectSilence(1300)
    // Clean Start ends the session: the will comes at once.
    await Session.open('taken', delayed(true))
    await session.expect('gone')
  },

  async will_delay_and_return () {
    const session = await watcher('status/delayed');
    (await Session.open('comes-back', delayed(true))).cut()
    await sleep(300)
    await (await Session.open('comes-back', delayed(false))).end()
    await session.expectSilence(1300)
    const stays = await Session.open('stays-away', delayed(true))
    const since = Date.now()
    stays.cut()
    await session.expect('gone')
    const elapsed = Date.now() - since
    assert.ok(elapsed >= 990 && elapsed < 3000, `${elapsed} ms`)
  },

  async properties_travel () {
    const subscriber = await watcher('request/+', 1, v5)
    const publisher = await Session.open('publisher', v5)
    await publisher.publish('request/1', 'question', {
      qos: 1,
      properties: {
        userProperties: { b: ['1', '3'], a: '2' },
        responseTopic: 'answers/me',
        correlationData: Buffer.from([0, 255, 1]),
        messageExpiryInterval: 100,
        contentType: 'text/plain',
        payloadFormatIndicator: true
      }
    })
    const { properties } = (await subscriber.next()).packet
    assert.deepStrictEqual({ ...properties.userProperties }, { b: ['1', '3'], a: '2' })
    assert.strictEqual(properties.responseTopic, 'answers/me')
    assert.deepStrictEqual([...properties.correlationData], [0, 255, 1])
    assert.strictEqual(properties.contentType, 'text/plain')
    assert.strictEqual(properties.payloadFormatIndicator, true)
    assert.ok(properties.messageExpiryInterval >= 95 && properties.messageExpiryInterval <= 100)
  }
}

stories[process.argv[3]]().then(
  () => process.exit(0),
  (error) => {
    console.error(error)
    process.exit(1)
  }
)
