"""Stories for paho-mqtt, the same for 1.6 and 2.x: paho_stories.py URL STORY

For TLS, CERTIFICATES is a folder with ca.pem, client.pem and client.key.
"""

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import urlparse

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

URL = urlparse(sys.argv[1])
HOST = URL.hostname
PORT = URL.port
PATIENCE = 10


def new_client(client_id, protocol=mqtt.MQTTv311, clean_session=True):
    options = {"protocol": protocol}
    if protocol != mqtt.MQTTv5:
        options["clean_session"] = clean_session
    if URL.scheme in ("ws", "wss"):
        options["transport"] = "websockets"
    if hasattr(mqtt, "CallbackAPIVersion"):
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id, **options)
    else:
        client = mqtt.Client(client_id, **options)
    if URL.scheme in ("mqtts", "wss"):
        client.tls_set(*(os.path.join(os.environ["CERTIFICATES"], name) for name in ("ca.pem", "client.pem", "client.key")))
    return client


class Session:
    """A connected client whose messages wait in a queue."""

    def __init__(self, client, **options):
        self.client = client
        self.messages = queue.Queue()
        self.subscribed = threading.Event()
        connected = threading.Event()
        client.on_connect = lambda *_: connected.set()
        client.on_message = lambda _client, _userdata, message: self.messages.put(message)
        client.on_subscribe = lambda *_: self.subscribed.set()
        client.connect(HOST, PORT, 60, **options)
        client.loop_start()
        assert connected.wait(PATIENCE), "not connected"

    def subscribe(self, topic, qos=1):
        self.subscribed.clear()
        self.client.subscribe(topic, qos)
        assert self.subscribed.wait(PATIENCE), "no SUBACK"
        return self

    def publish(self, topic, payload, **options):
        information = self.client.publish(topic, payload, **options)
        information.wait_for_publish()

    def next(self):
        return self.messages.get(timeout=PATIENCE)

    def expect(self, *payloads):
        for payload in payloads:
            got = self.next().payload.decode()
            assert got == payload, f"{got!r} instead of {payload!r}"

    def expect_silence(self, seconds=0.3):
        try:
            message = self.messages.get(timeout=seconds)
        except queue.Empty:
            return
        raise AssertionError(f"unexpected {message.topic} {message.payload!r}")

    def end(self):
        self.client.disconnect()
        self.client.loop_stop()


def watcher(topic, qos=1, protocol=mqtt.MQTTv311):
    return Session(new_client("watcher", protocol)).subscribe(topic, qos)


def connected_without_thread(client, **options):
    """Connects, and leaves the socket to the caller: nothing reconnects or reads behind its back."""
    connected = []
    client.on_connect = lambda *_: connected.append(True)
    client.connect(HOST, PORT, 60, **options)
    while not connected:
        client.loop(0.1)
    return client


def cut(client):
    """Ends the connection below TLS and WebSocket, so that neither says goodbye."""
    with socket.socket(fileno=os.dup(client.socket().fileno())) as below:
        below.shutdown(socket.SHUT_RDWR)


def properties(kind, **values):
    result = Properties(kind)
    for name, value in values.items():
        setattr(result, name, value)
    return result


def messages_of_every_qos():
    for protocol in (mqtt.MQTTv31, mqtt.MQTTv311, mqtt.MQTTv5):
        sessions = [Session(new_client(name, protocol)) for name in ("subscriber", "publisher")]
        subscriber, publisher = sessions
        subscriber.subscribe("room/+/temperature", 2)
        for qos in (0, 1, 2):
            for reading in range(20):
                publisher.publish("room/1/temperature", str(reading), qos=qos)
            for reading in range(20):
                message = subscriber.next()
                assert (message.payload.decode(), message.qos) == (str(reading), qos)
        subscriber.expect_silence()
        for session in sessions:
            session.end()


def retained_message():
    publisher = Session(new_client("publisher"))
    publisher.publish("lamp", "on", qos=1, retain=True)
    later = watcher("lamp")
    message = later.next()
    assert (message.payload, message.retain) == (b"on", True)
    publisher.publish("lamp", "", qos=1, retain=True)
    assert later.next().payload == b""
    assert_nothing_retained("lamp")


def assert_nothing_retained(topic):
    Session(new_client("later")).subscribe(topic).expect_silence()


def will_of_a_killed_process():
    session = watcher("status/#")
    process = subprocess.Popen([sys.executable, __file__, sys.argv[1], "_mortal"])
    session.expect("alive")
    process.send_signal(signal.SIGKILL)
    process.wait()
    session.expect("gone")


def _mortal():
    client = new_client("mortal")
    client.will_set("status/mortal", "gone", qos=2, retain=True)
    Session(client).publish("status/mortal", "alive", qos=1)
    time.sleep(60)


def will_of_a_closed_socket():
    for protocol in (mqtt.MQTTv311, mqtt.MQTTv5):
        session = watcher("status/socket")
        client = new_client("mortal", protocol)
        client.will_set("status/socket", "gone", qos=1)
        cut(connected_without_thread(client))
        session.expect("gone")
        session.end()


def no_will_after_disconnect():
    for protocol in (mqtt.MQTTv31, mqtt.MQTTv311, mqtt.MQTTv5):
        session = watcher("status/polite")
        client = new_client("polite", protocol)
        client.will_set("status/polite", "gone", qos=1)
        Session(client).end()
        session.expect_silence()
        session.end()


def session_keeps_messages():
    absent = Session(new_client("absent", clean_session=False)).subscribe("news", 1)
    absent.end()
    publisher = Session(new_client("publisher"))
    for index in range(10):
        publisher.publish("news", str(index), qos=1)
    back = Session(new_client("absent", clean_session=False))
    back.expect(*map(str, range(10)))


def delayed_client(client_id, seconds):
    client = new_client(client_id, mqtt.MQTTv5)
    delay = properties(PacketTypes.WILLMESSAGE, WillDelayInterval=seconds)
    client.will_set("status/delayed", "gone", qos=1, properties=delay)
    return client


def keep_session(clean_start):
    expiry = properties(PacketTypes.CONNECT, SessionExpiryInterval=60)
    return {"clean_start": clean_start, "properties": expiry}


def will_delay_and_takeover():
    session = watcher("status/delayed")
    first = connected_without_thread(delayed_client("taken", 1), **keep_session(True))
    # The session goes on and the delay is not over: no will.
    second = connected_without_thread(delayed_client("taken", 1), **keep_session(False))
    session.expect_silence(1.3)
    # Clean Start ends the session: the will comes at once.
    Session(delayed_client("taken", 1), **keep_session(True))
    session.expect("gone")
    del first, second


def will_delay_and_return():
    session = watcher("status/delayed")
    cut(connected_without_thread(delayed_client("comes-back", 1), **keep_session(True)))
    time.sleep(0.3)
    Session(delayed_client("comes-back", 1), **keep_session(False)).end()
    session.expect_silence(1.3)
    since = time.monotonic()
    cut(connected_without_thread(delayed_client("stays-away", 1), **keep_session(True)))
    session.expect("gone")
    assert 0.99 < time.monotonic() - since < 3


def properties_travel():
    subscriber = watcher("request/+", protocol=mqtt.MQTTv5)
    publisher = Session(new_client("publisher", mqtt.MQTTv5))
    sent = properties(
        PacketTypes.PUBLISH,
        UserProperty=[("b", "1"), ("a", "2"), ("b", "3")],
        ResponseTopic="answers/me",
        CorrelationData=b"\x00\xff\x01",
        MessageExpiryInterval=100,
        ContentType="text/plain",
        PayloadFormatIndicator=1,
    )
    publisher.publish("request/1", "question", qos=1, properties=sent)
    got = subscriber.next().properties
    assert got.UserProperty == [("b", "1"), ("a", "2"), ("b", "3")], got.UserProperty
    assert (got.ResponseTopic, got.CorrelationData) == ("answers/me", b"\x00\xff\x01")
    assert (got.ContentType, got.PayloadFormatIndicator) == ("text/plain", 1)
    assert 95 <= got.MessageExpiryInterval <= 100


TEMPERATURES = [20.5, 21.0, 21.5, 22.0, 22.5]


def _device_status(disconnect):
    """The script as people write it for paho 1.x."""
    client = mqtt.Client("publisher_client_id")
    client.will_set("device/status/will", payload="Device offline", qos=1, retain=True)
    client.connect("localhost", PORT, 60)
    client.loop_start()
    client.publish("device/status/will", payload="Device online", qos=1, retain=True)
    for temperature in TEMPERATURES:
        client.publish("device/temperature", payload=str(temperature), qos=1).wait_for_publish()
    if disconnect:
        client.disconnect()
        client.loop_stop()
    else:
        time.sleep(60)


def _device_that_dies():
    _device_status(disconnect=False)


def _device_that_disconnects():
    _device_status(disconnect=True)


def device_with(role):
    session = watcher("device/#")
    process = subprocess.Popen([sys.executable, __file__, sys.argv[1], role])
    session.expect("Device online", *map(str, TEMPERATURES))
    return session, process


def device_status_script():
    session, process = device_with("_device_that_dies")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    session.expect("Device offline")
    later = Session(new_client("later")).subscribe("device/status/will")
    message = later.next()
    assert (message.payload, message.retain) == (b"Device offline", True)


def device_status_script_that_disconnects():
    session, process = device_with("_device_that_disconnects")
    assert process.wait(PATIENCE) == 0
    session.expect_silence(0.5)
    later = Session(new_client("later")).subscribe("device/status/will")
    assert later.next().payload == b"Device online"


if __name__ == "__main__":
    globals()[sys.argv[2]]()
    os._exit(0)  # Without waiting for the threads of clients.
